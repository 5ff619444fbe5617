// The list of keys: `?` opens it. Keys without Ctrl that work on the whole page can be switched off there, for
// people who dictate to the browser or rest a hand on the keyboard.
const KEY = "ginkgo-single-keys";
const keys = document.getElementById("keys");

// Whether a key that was pressed alone is meant for the page: not for a field, a dialog or the browser.
export function isPageKey(event, key) {
  if (event.key !== key || event.ctrlKey || event.metaKey || event.altKey) return false;
  if (localStorage.getItem(KEY) === "off") return false;
  // The field of a dialog that has just been closed keeps the focus until the page is painted again.
  return !event.target.closest?.("input, textarea, select, dialog, [contenteditable]")?.checkVisibility();
}

function open() {
  if (document.querySelector("dialog[open]")) return;
  keys.showModal();
}

export function startKeys() {
  if (!keys) return;
  document.addEventListener("keydown", (event) => {
    if (!isPageKey(event, "?")) return;
    event.preventDefault();
    open();
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-keys]")) open();
  });
  const single = keys.querySelector("[data-single-keys]");
  single.checked = localStorage.getItem(KEY) !== "off";
  single.addEventListener("change", () => localStorage.setItem(KEY, single.checked ? "on" : "off"));
}
