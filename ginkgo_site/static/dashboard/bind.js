// Elements made from a template of the page and filled with figures. `data-bind="text:lag show:stalled"` sets the
// text to the field `lag` and hides the element while `stalled` is false. Other targets: `class` (in addition to the
// element's own), `html` (made by the server), and any attribute, which is removed for null and false.
const PLACEHOLDER = /__name__/g;

const APPLY = {
  text(slot, value) {
    slot.element.textContent = value ?? "";
  },
  show(slot, value) {
    slot.element.toggleAttribute("hidden", !value);
  },
  html(slot, value) {
    slot.element.innerHTML = value;
  },
  class(slot, value, last) {
    const names = slot.element.classList;
    if (last) names.remove(...last.split(" "));
    if (value) names.add(...value.split(" "));
  },
};

function setAttribute(slot, value) {
  if (value === null || value === undefined || value === false) slot.element.removeAttribute(slot.target);
  else slot.element.setAttribute(slot.target, value === true ? "" : value);
}

export class Bound {
  constructor(template, name) {
    const made = document.createElement("template");
    made.innerHTML = template.innerHTML.replace(PLACEHOLDER, name);
    this.element = made.content.firstElementChild;
    this.slots = [];
    for (const element of [this.element, ...this.element.querySelectorAll("[data-bind]")]) {
      for (const pair of element.dataset.bind?.split(/\s+/) ?? []) {
        const at = pair.lastIndexOf(":");
        const target = pair.slice(0, at);
        this.slots.push({ element, target, field: pair.slice(at + 1), apply: APPLY[target] ?? setAttribute, last: "" });
      }
      element.removeAttribute("data-bind");
    }
    for (const slot of this.slots) if (slot.target === "show") slot.element.toggleAttribute("hidden", true);
  }

  // Set what differs from the last update.
  update(figures) {
    for (const slot of this.slots) {
      const value = figures[slot.field];
      if (value === slot.last) continue;
      slot.apply(slot, value, slot.last);
      slot.last = value;
    }
  }
}
