// Runs before the page and records what it receives and what it shows, whatever the page is made of.
(() => {
  const hex = (buffer) => [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const digest = async (bytes) => hex(await crypto.subtle.digest("SHA-256", bytes));
  const record = { messages: [], frames: [], shown: [], blobs: new Map(), digest };
  window.recorded = record;

  // Every message of the server, in order; frames as their header and the digest of their picture.
  window.WebSocket = class extends WebSocket {
    constructor(...given) {
      super(...given);
      this.addEventListener("message", async ({ data }) => {
        if (typeof data === "string") {
          record.messages.push(JSON.parse(data));
          return;
        }
        const bytes = data instanceof Blob ? await data.arrayBuffer() : data;
        const length = new DataView(bytes).getUint32(4, true);
        const header = JSON.parse(new TextDecoder().decode(bytes.slice(8, 8 + length)));
        const frame = { ...header, digest: null };
        record.frames.push(frame);
        frame.digest = await digest(bytes.slice(8 + length));
      });
    }
  };

  // Which bytes are behind an address of the form blob:…
  const create = URL.createObjectURL;
  URL.createObjectURL = (blob) => {
    const address = create.call(URL, blob);
    record.blobs.set(address, blob.arrayBuffer().then(digest));
    return address;
  };

  // Every picture that an image on the stage comes to show, with what it says of itself.
  const note = (image) => {
    const { job, picture, seq } = image.dataset;
    const last = record.shown.findLast((shown) => shown.picture === Number(picture));
    if (image.src && image.dataset.testid === "stage-picture" && last?.src !== image.src) {
      record.shown.push({ job, picture: Number(picture), seq: Number(seq), src: image.src });
    }
  };
  new MutationObserver((changes) => {
    for (const { target, addedNodes } of changes) {
      if (target instanceof HTMLImageElement) note(target);
      for (const node of addedNodes) {
        if (node instanceof HTMLImageElement) note(node);
        else if (node instanceof Element) node.querySelectorAll("img").forEach(note);
      }
    }
  }).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["src"] });
})();
