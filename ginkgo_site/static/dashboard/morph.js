// Idiomorph (vendored, a classic script) turns an element into a newer version of itself and keeps the
// nodes in place, so that focus, scroll positions, open menus and selections survive an update.

import { labelCells } from "./narrow_tables.js";
import { localTimes } from "./times.js";

// State that the page's scripts set and the server does not know.
const CLIENT_ATTRIBUTES = new Set(["open", "aria-expanded", "data-placed", "tabindex", "style"]);
const CLIENT_CLASSES = ["open", "arrived"];

const callbacks = {
  beforeAttributeUpdated(name, element, change) {
    return !(CLIENT_ATTRIBUTES.has(name) && (change === "remove" || element.hasAttribute(name)));
  },
  beforeNodeMorphed(from, to) {
    if (from.nodeType !== Node.ELEMENT_NODE) return;
    for (const name of CLIENT_CLASSES) if (from.classList.contains(name)) to.classList.add(name);
  },
};

export function morph(element, html) {
  let next = html;
  if (typeof html === "string") {
    const template = document.createElement("template");
    template.innerHTML = html;
    next = template.content.firstElementChild;
  }
  localTimes(next);
  labelCells(next);
  Idiomorph.morph(element, next, { morphStyle: "outerHTML", callbacks });
}
