// The only script of the page that is written by hand: it starts the program, or says why it cannot.
import start from "{{module}}";

start({ module_or_path: "{{wasm}}" }).catch((error) => {
  const note = document.createElement("p");
  note.className = "starting";
  note.setAttribute("role", "alert");
  note.textContent =
    "The playground could not start in this browser. Reload the page; if that does not help, use a newer browser.";
  document.getElementById("app").replaceChildren(note);
  console.error(error);
});
