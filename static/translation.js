// Lets the page go on when the browser translates it.
//
// Translation puts elements (<font>) in the place of text nodes. The program keeps the nodes that it
// made: what it writes into one of them later would be seen by nobody, and removing one that is not
// there any more would fail. So it is noted what stands for which text; a text that changes comes
// back (and is translated again), and one that is removed takes its translation along.

const standIns = new WeakMap();

const changes = new MutationObserver((records) => {
  for (const { target } of records) {
    const standIn = standIns.get(target);
    if (standIn?.isConnected) standIn.replaceWith(target);
    standIns.delete(target);
  }
});

const isFont = (node) => node?.nodeName === "FONT";

new MutationObserver((records) => {
  for (const { addedNodes, removedNodes, previousSibling, nextSibling } of records) {
    for (const text of removedNodes) {
      if (text.nodeType !== Node.TEXT_NODE || text.isConnected) continue;
      const standIn = [...addedNodes, previousSibling, nextSibling].find(isFont);
      if (!standIn) continue;
      standIns.set(text, standIn);
      changes.observe(text, { characterData: true });
    }
  }
}).observe(document.body, { childList: true, subtree: true });

const { insertBefore, removeChild } = Node.prototype;

Node.prototype.removeChild = function (child) {
  if (child.parentNode === this) return removeChild.call(this, child);
  const standIn = standIns.get(child);
  if (standIn?.parentNode) standIn.remove();
  standIns.delete(child);
  return child;
};

Node.prototype.insertBefore = function (node, before) {
  let place = before;
  if (before && before.parentNode !== this) {
    const standIn = standIns.get(before);
    place = standIn?.parentNode === this ? standIn : null;
  }
  return insertBefore.call(this, node, place);
};
