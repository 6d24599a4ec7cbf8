// Runs before the page and stands in for slow and very fast machines: messages of the server are held
// back and come as `window.pace` says, in their order.
//   { everyMs }  – each picture so long after the one before
//   { burst }    – everything of a job at once, when its last event is there
(() => {
  const Base = window.WebSocket;
  window.WebSocket = class extends Base {
    constructor(...given) {
      super(...given);
      let waiting = [];
      let next = Promise.resolve();
      const release = (data) => {
        const event = new MessageEvent("message", { data });
        event.released = true;
        this.dispatchEvent(event);
      };
      // The first listener of all: nobody hears what it stops.
      this.addEventListener("message", (event) => {
        if (event.released) return;
        event.stopImmediatePropagation();
        const { data } = event;
        const pace = window.pace ?? {};
        const text = typeof data === "string";
        if (pace.burst) {
          const said = text ? JSON.parse(data) : null;
          const isOfJob = !text || said.type === "event";
          if (!isOfJob && waiting.length === 0) return release(data);
          waiting.push(data);
          if (said?.event && ["finished", "failed", "cancelled"].includes(said.event.type)) {
            const all = waiting;
            waiting = [];
            all.forEach(release);
          }
          return;
        }
        next = next.then(async () => {
          if (!text && pace.everyMs) await new Promise((done) => setTimeout(done, pace.everyMs));
          release(data);
        });
      });
    }
  };
})();
