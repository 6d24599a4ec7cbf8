// Runs before the page and takes times of what a person waits for, all in ms of the page's clock.
(() => {
  const speed = { clicked: null, asked: null, accepted: null, frames: [], long: [], shifted: 0, firstPicture: null, ready: null };
  window.speed = speed;
  addEventListener("click", () => { speed.clicked = performance.now(); }, { capture: true });

  window.WebSocket = class extends WebSocket {
    constructor(...given) {
      super(...given);
      this.addEventListener("message", ({ data }) => {
        const at = performance.now();
        if (typeof data === "string") {
          if (data.startsWith('{"type":"accepted"')) speed.accepted = at;
          return;
        }
        const view = new DataView(data);
        const header = new Uint8Array(data, 8, view.getUint32(4, true));
        const { job, at_ms, encode_ms, last } = JSON.parse(new TextDecoder().decode(header));
        speed.frames.push({ at, job, made: at_ms + encode_ms, last });
      });
    }

    send(data) {
      if (typeof data === "string" && data.startsWith('{"type":"generate"')) {
        speed.asked = performance.now();
      }
      super.send(data);
    }
  };

  new PerformanceObserver((list) => {
    for (const { startTime, duration } of list.getEntries()) speed.long.push({ startTime, duration });
  }).observe({ type: "longtask", buffered: true });
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) speed.shifted += entry.value;
  }).observe({ type: "layout-shift", buffered: true });

  const look = () => {
    const picture = document.querySelector("[data-testid=stage-picture]");
    if (picture?.complete && picture.naturalWidth) speed.firstPicture ??= performance.now();
    const open = document.querySelector("[data-testid=connection][data-connection=open]");
    if (open && document.querySelector("[data-testid=generate]:enabled")) {
      speed.ready ??= performance.now();
    }
    if (speed.firstPicture === null || speed.ready === null) requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})();
