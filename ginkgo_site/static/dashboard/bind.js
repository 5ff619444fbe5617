// Elements made from a template of the page and filled with figures. `data-bind="text:lag show:stalled"` sets the
// text to the field `lag` and hides the element while `stalled` is false. Other targets: `class` (in addition to the
// element's own), `html` (made by the server), and any attribute, which is removed for null and false.
const PLACEHOLDER = /__name__/g;

const APPLY = {
  text(binding, value) {
    binding.element.textContent = value ?? "";
  },
  show(binding, value) {
    binding.element.toggleAttribute("hidden", !value);
  },
  html(binding, value) {
    binding.element.innerHTML = value;
  },
  class(binding, value, last) {
    const names = binding.element.classList;
    if (last) names.remove(...last.split(" "));
    if (value) names.add(...value.split(" "));
  },
};

function setAttribute(binding, value) {
  if (value === null || value === undefined || value === false) binding.element.removeAttribute(binding.target);
  else binding.element.setAttribute(binding.target, value === true ? "" : value);
}

// One element made from `template`, with `name` in place of __name__. What is shown conditionally is hidden at first.
export class Bound {
  constructor(template, name) {
    const made = document.createElement("template");
    made.innerHTML = template.innerHTML.replace(PLACEHOLDER, name);
    this.element = made.content.firstElementChild;
    this.bindings = [];
    for (const element of [this.element, ...this.element.querySelectorAll("[data-bind]")]) {
      for (const pair of element.dataset.bind?.split(/\s+/) ?? []) {
        const at = pair.lastIndexOf(":");
        const target = pair.slice(0, at);
        this.bindings.push({
          element,
          target,
          field: pair.slice(at + 1),
          apply: APPLY[target] ?? setAttribute,
          last: "",
        });
      }
      element.removeAttribute("data-bind");
    }
    for (const binding of this.bindings) if (binding.target === "show") binding.element.toggleAttribute("hidden", true);
  }

  // Show `figures`, field → value: set what differs from the last update.
  update(figures) {
    for (const binding of this.bindings) {
      const value = figures[binding.field];
      if (value === binding.last) continue;
      binding.apply(binding, value, binding.last);
      binding.last = value;
    }
  }
}
