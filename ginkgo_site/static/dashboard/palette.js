// The command palette: Ctrl-K or ⌘K finds portfolios, nodes, pages and actions by parts of their names. An action
// opens the same dialog as its button. All names are asked for each time it is opened (dashboard/palette.py).
import { openDialog } from "./dialogs.js";

const MOST = 30; // shown
const PLACEHOLDER = "__name__";

const palette = document.getElementById("palette");
const input = palette?.querySelector("input");
const list = palette?.querySelector("ul");
let known = []; // everything that can be found
let shown = []; // what the list shows
let at = 0; // the position in `shown` of the chosen row
let loading = false;
let failed = false;

function withName(address, name) {
  return address.replace(PLACEHOLDER, encodeURIComponent(name));
}

// The entry of a portfolio or node itself, and those of the actions that it allows.
function expand(group, [name, detail, allowed], action) {
  const thing = { kind: group.kind, text: name, detail, address: withName(group.address, name), form: false };
  const actions = allowed
    .map((index) => group.actions[index])
    .map(({ text, address }) => ({
      kind: action,
      text: text.replace(PLACEHOLDER, name),
      detail: "",
      address: withName(address, name),
      form: true,
    }));
  return [thing, ...actions];
}

function read({ entries, groups }) {
  const things = groups.flatMap((group) => group.rows.flatMap((row) => expand(group, row, palette.dataset.action)));
  return [...entries, ...things].map((entry) => ({ ...entry, low: entry.text.toLowerCase() }));
}

// How well a word fits an entry: 0 at the beginning of its text, 1 at that of a word, 2 elsewhere in it, 4 only in
// its kind or details; null if not at all.
function fit(entry, word) {
  const found = entry.low.indexOf(word);
  if (found === 0) return 0;
  if (found > 0) return /[\p{L}\p{N}]/u.test(entry.low[found - 1]) ? 2 : 1;
  return `${entry.kind} ${entry.detail ?? ""}`.toLowerCase().includes(word) ? 4 : null;
}

// Return the entries that every word of the text fits, the best first; of equals things before actions on them.
function find(entries, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = [];
  for (const entry of entries) {
    let total = entry.form ? 0.5 : 0;
    for (const word of words) {
      const grade = fit(entry, word);
      if (grade === null) {
        total = null;
        break;
      }
      total += grade;
    }
    if (total !== null) found.push({ entry, total });
  }
  if (words.length) found.sort((a, b) => a.total - b.total);
  return found.slice(0, MOST).map(({ entry }) => entry);
}

function option(entry, index) {
  const made = document.createElement("li");
  made.id = `palette-${index}`;
  made.setAttribute("role", "option");
  for (const [name, text] of [
    ["palette-text", entry.form ? `${entry.text}…` : entry.text],
    ["muted", entry.detail ?? ""],
    ["chip", entry.kind],
  ]) {
    const part = document.createElement("span");
    part.className = name;
    part.textContent = text;
    made.append(part);
  }
  return made;
}

function select(index) {
  at = Math.max(0, Math.min(index, shown.length - 1));
  for (const [i, element] of [...list.children].entries()) element.setAttribute("aria-selected", String(i === at));
  if (shown.length) input.setAttribute("aria-activedescendant", `palette-${at}`);
  else input.removeAttribute("aria-activedescendant");
  list.children[at]?.scrollIntoView({ block: "nearest" });
}

// Show what fits the text, and choose the first row, or the same entry as before if `chosen` is given.
function show(chosen) {
  shown = find(known, input.value);
  list.replaceChildren(...shown.map(option));
  list.hidden = !shown.length;
  const state = failed ? "failed" : shown.length ? "" : loading ? "loading" : "nothing";
  for (const text of palette.querySelectorAll("[data-case]")) text.hidden = text.dataset.case !== state;
  select(shown.findIndex(({ address, text }) => address === chosen?.address && text === chosen.text));
}

async function load() {
  loading = true;
  failed = false;
  show();
  try {
    const response = await fetch(palette.dataset.source, { credentials: "same-origin" });
    if (response.redirected)
      location.reload(); // signed out: the page is the login now
    else if (response.ok) known = read(await response.json());
    else failed = true;
  } catch {
    failed = true;
  }
  loading = false;
  if (palette.open) show(shown[at]); // Enter does what was chosen while the answer was awaited
}

function open() {
  if (document.querySelector("dialog[open]")) return; // what was typed there stays
  document.querySelector(":popover-open")?.hidePopover();
  input.value = "";
  palette.showModal();
  input.focus();
  load();
}

function go(entry) {
  if (!entry) return;
  palette.close();
  if (entry.form) openDialog(entry.address, document.activeElement);
  else location.assign(entry.address);
}

function handleKey(event) {
  if (event.isComposing) return; // an input method uses the same keys
  const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key];
  if (step) select(at + step);
  else if (event.key === "Enter") go(shown[at]);
  else return;
  event.preventDefault();
}

export function startPalette() {
  if (!palette) return;
  document.addEventListener("keydown", (event) => {
    const isShortcut = (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey;
    if (!isShortcut || event.key.toLowerCase() !== "k") return;
    event.preventDefault();
    if (palette.open) palette.close();
    else open();
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-palette]")) open();
  });
  input.addEventListener("input", () => (failed ? load() : show()));
  input.addEventListener("keydown", handleKey);
  list.addEventListener("click", (event) => {
    const chosen = event.target.closest("li");
    if (chosen) go(shown[[...list.children].indexOf(chosen)]);
  });
  palette.addEventListener("click", (event) => {
    if (event.target === palette) palette.close(); // beside it
  });
}
