import { fill, gettext } from "./words.js";

// A text field of symbols becomes chips and a field with suggestions. The text field stays in the form and
// holds the value, so that the page works the same without this.
const PARTS = /[\s,]+/;

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function enhance(field) {
  const known = new Set([...document.getElementById(field.dataset.symbols).options].map((option) => option.value));
  const label = document.querySelector(`label[for="${CSS.escape(field.id)}"]`);
  const box = element("div", "symbol-picker");
  const chips = element("ul", "chips");
  const add = element("input", "");
  add.type = "text";
  add.id = `${field.id}-add`;
  add.autocomplete = "off";
  add.spellcheck = false;
  add.setAttribute("list", field.dataset.symbols);
  add.placeholder = field.dataset.add.replace("{}", known.size);
  box.append(chips, add);
  field.hidden = true;
  field.after(box);
  if (label) label.htmlFor = add.id;

  const values = () => field.value.split(PARTS).filter(Boolean);
  // A symbol may be typed in small letters, if the feed has no such symbol but the one in capitals.
  const resolved = (text) => (known.has(text) || !known.has(text.toUpperCase()) ? text : text.toUpperCase());

  function show() {
    chips.replaceChildren(
      ...values().map((symbol) => {
        const chip = element("button", "chip", symbol);
        const isKnown = symbol === "*" || !known.size || known.has(symbol);
        chip.type = "button";
        chip.classList.toggle("wrong", !isKnown);
        const label = isKnown
          ? gettext("Remove %(symbol)s")
          : gettext("Remove %(symbol)s, which the feed does not have");
        chip.setAttribute("aria-label", fill(label, { symbol }));
        chip.title = chip.getAttribute("aria-label");
        chip.addEventListener("click", () => {
          set(values().filter((each) => each !== symbol));
          add.focus();
        });
        const item = element("li", "");
        item.append(chip);
        return item;
      }),
    );
  }

  function set(list) {
    field.value = [...new Set(list)].join(" ");
    show();
  }

  function addTyped() {
    const typed = add.value.split(PARTS).filter(Boolean).map(resolved);
    add.value = "";
    if (typed.length) set([...values(), ...typed]);
  }

  add.addEventListener("input", (event) => {
    const picked = event.inputType === "insertReplacementText" || event.inputType === undefined;
    if (PARTS.test(add.value) || (picked && known.has(add.value))) addTyped();
  });
  add.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      addTyped();
    } else if (event.key === "Backspace" && !add.value) set(values().slice(0, -1));
  });
  add.addEventListener("blur", addTyped);
  field.form.addEventListener("submit", addTyped, { capture: true });
  show();
}

export function startSymbolPickers(root = document) {
  for (const field of root.querySelectorAll("input[data-symbols]:not([hidden])")) enhance(field);
}
