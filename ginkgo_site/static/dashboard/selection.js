// The selected cards of the board, which are dragged and migrated together. Ctrl- or ⌘-click takes one in or out,
// Shift-click takes all from the last one; with the keyboard Space, and Shift with the arrows up and down; with a
// finger "Select" in the menu of a card, then a tap for each further one. Escape selects none.
import { announce } from "./announce.js";
import { openContent, openDialog } from "./dialogs.js";
import { portfolios } from "./figures.js";
import { fill, gettext } from "./words.js";

const bar = document.getElementById("selection-bar");
const tooMany = document.getElementById("too-many-template"); // shown if more are selected than one request may move
const selected = new Set(); // names of portfolios, also of cards without elements
let anchor = ""; // the portfolio that was selected last, where a range begins

export function selection() {
  return [...selected];
}

// The address of the form that moves these portfolios; null if they are more than one request may move.
export function formFor(names) {
  if (names.length > Number(tooMany.dataset.most)) return null;
  const query = new URLSearchParams(names.map((name) => ["portfolio", name]));
  return `/migrate/?${query}`;
}

function show() {
  for (const name of selected) if (!portfolios.index.has(name)) selected.delete(name);
  for (const card of document.querySelectorAll(".card")) {
    const isSelected = selected.has(card.dataset.portfolio);
    if (card.matches(".selected") === isSelected) continue;
    card.classList.toggle("selected", isSelected);
    card.querySelector(".selected-mark").hidden = !isSelected;
    card.querySelector("[data-select]").textContent = isSelected ? gettext("Deselect") : gettext("Select");
  }
  // A bar that is hidden would drop the focus: move it to the tab stop of the board.
  if (!selected.size && bar.contains(document.activeElement)) document.querySelector('.card[tabindex="0"]')?.focus();
  bar.hidden = !selected.size;
  bar.querySelector("[data-count]").textContent = fill(gettext("%(number)s selected"), { number: selected.size });
}

function changed() {
  show();
  announce(fill(gettext("%(number)s selected"), { number: selected.size }));
}

export function toggle(name) {
  if (!selected.delete(name)) selected.add(name);
  anchor = name;
  changed();
}

// Select every card in view from the one selected last to this one, in the order of the board.
export function selectTo(name) {
  const cards = [...document.querySelectorAll(".card")].filter((card) => card.offsetParent);
  const names = cards.map((card) => card.dataset.portfolio);
  const ends = [names.indexOf(anchor), names.indexOf(name)].sort((a, b) => a - b);
  const range = ends[0] < 0 ? [name] : names.slice(ends[0], ends[1] + 1);
  for (const each of range) selected.add(each);
  if (ends[0] < 0) anchor = name;
  changed();
}

export function selectNone() {
  if (!selected.size) return false;
  selected.clear();
  anchor = "";
  changed();
  return true;
}

// Deselect the portfolios that the answer in the dialog says are moving; refused ones stay, to be tried elsewhere.
function deselectMoving() {
  const moving = document.querySelectorAll("dialog[open] [data-outcome=moving]");
  if (!moving.length) return;
  for (const each of moving) selected.delete(each.dataset.portfolio);
  if (!selected.size) anchor = "";
  changed();
}

// Open the form of all selected portfolios, with this node chosen if one is given. The focus returns to `from`.
export function moveSelected(from, node = "") {
  const names = selection();
  const form = formFor(names);
  if (!form) openContent(tooMany.innerHTML.replace("%s", names.length), from);
  else openDialog(node ? `${form}&to=${encodeURIComponent(node)}` : form, from);
}

function handleClick(event) {
  const card = event.target.closest?.(".card");
  if (!card || event.button !== 0) return;
  const name = card.dataset.portfolio;
  if (event.target.closest("[data-select]")) {
    event.preventDefault();
    card.querySelector(".menu:popover-open")?.hidePopover();
    toggle(name);
    card.focus();
    return;
  }
  if (event.target.closest("a, button, .menu")) return; // Ctrl-click on a name opens its page in a tab
  if (event.shiftKey) selectTo(name);
  else if (event.ctrlKey || event.metaKey) toggle(name);
  else if (event.pointerType === "touch" && selected.size) toggle(name);
}

export function startSelection() {
  if (!bar) return;
  document.addEventListener("ginkgo-updated", show);
  document.addEventListener("click", handleClick);
  document.addEventListener("mousedown", (event) => {
    // Shift-click would mark the text in between.
    if (event.shiftKey && event.target.closest?.(".card")) event.preventDefault();
  });
  bar.addEventListener("click", (event) => {
    if (event.target.closest("[data-move-selected]")) moveSelected(event.target.closest("button"));
    else if (event.target.closest("[data-clear-selected]")) selectNone();
  });
  document.addEventListener("ginkgo-form", deselectMoving);
}
