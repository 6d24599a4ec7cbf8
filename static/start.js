// Starts the program, or says why it cannot; says so, too, when the program stops.
import start from "../{{module}}";
import "../{{translation}}";

// The page may lie under a path that only a proxy knows; this file lies in a folder of it.
const root = new URL("../", import.meta.url).pathname;
document.documentElement.dataset.root = root;

// Relative to this document, and still right when the page goes to an address of its own.
for (const link of document.querySelectorAll("link[rel~=icon], link[rel=manifest]")) {
  link.setAttribute("href", link.href);
}

const element = (name, text, className = "") =>
  Object.assign(document.createElement(name), { textContent: text, className });

const button = (text, action) => {
  const made = Object.assign(element("button", text), { type: "button" });
  made.addEventListener("click", action);
  return made;
};

const forgetSettings = () => {
  try {
    sessionStorage.clear();
  } catch {
    // Nothing was remembered.
  }
};

let stopped = false;

// A fault of the program ends it; what it drew last stays, and a message over it.
const stop = (detail) => {
  console.error(detail);
  if (stopped) return;
  stopped = true;
  const box = element("div", "", "stopped");
  box.setAttribute("role", "alertdialog");
  box.setAttribute("aria-label", "The page has stopped");
  box.dataset.testid = "stopped";
  const reload = button("Reload", () => location.reload());
  box.append(
    element("h2", "The page has stopped"),
    element("p", "It ran into a fault of its own. Finished pictures are kept by the server; reload to go on."),
    element("p", String(detail).slice(0, 300), "hint"),
    reload,
    button("Reload with settings of a first visit", () => {
      forgetSettings();
      location.reload();
    }),
  );
  document.body.append(box);
  reload.focus();
};

const isFault = (error) => error instanceof WebAssembly.RuntimeError;
addEventListener("var-dd-panic", ({ detail }) => stop(detail));
addEventListener("error", ({ error }) => isFault(error) && stop(error));
addEventListener("unhandledrejection", ({ reason }) => isFault(reason) && stop(reason));

const started = start({ module_or_path: new URL("../{{wasm}}", import.meta.url) });
started.then(() => keepForOffline(), (error) => {
  if (stopped) return;
  console.error(error);
  const words = navigator.onLine
    ? "The playground could not start in this browser. Reload the page; if that does not help, use a newer browser."
    : "You are offline, and this device has not kept the whole playground yet.";
  const note = element("p", words, "starting");
  note.setAttribute("role", "alert");
  document.getElementById("app").replaceChildren(note);
});

// Without a network the page then still opens and says that it has none. Where one of its files does
// not arrive, the browser keeps none; it is asked again, after ever longer waits in milliseconds.
function keepForOffline(wait = 4000) {
  const again = () => setTimeout(keepForOffline, wait, 2 * wait);
  try {
    navigator.serviceWorker?.register(`${root}service-worker.js`).then(({ installing }) => {
      installing?.addEventListener("statechange", () => {
        if (installing.state === "redundant") again();
      });
    }, again);
  } catch {
    // Browsers that deny storage deny this too.
  }
}
