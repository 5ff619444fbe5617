// The board is one tab stop. While a card has the focus: arrows move among cards, Enter opens one, Space selects it,
// Shift with the arrows up and down selects more, M migrates it, or all selected ones if it is among them, W opens the
// what-if page for the loss of its node, the menu key or a full stop opens its menu, Escape selects none.
import { neighbour } from "./board.js";
import { moveSelected, selection, selectNone, selectTo, toggle } from "./selection.js";

let current = ""; // the portfolio whose card is the tab stop

function cards() {
  return [...document.querySelectorAll(".card")].filter((card) => card.offsetParent);
}

function updateTabStop() {
  const all = cards();
  if (!all.some((card) => card.dataset.portfolio === current)) current = all[0]?.dataset.portfolio ?? "";
  for (const card of document.querySelectorAll(".card")) {
    const stop = card.dataset.portfolio === current ? 0 : -1;
    if (card.getAttribute("tabindex") === String(stop)) continue;
    card.tabIndex = stop;
    for (const inner of card.querySelectorAll(".card-name a, .card-name button")) inner.tabIndex = -1;
  }
}

function focusCard(card) {
  if (!card) return;
  current = card.dataset.portfolio;
  updateTabStop();
  card.focus();
}

function inNextColumn(card, step) {
  const column = neighbour(card.closest(".col").dataset.node, step);
  if (!column) return null;
  const mine = [...card.parentNode.querySelectorAll(".card")].indexOf(card);
  const theirs = [...column.querySelectorAll(".card")];
  return theirs[Math.min(mine, theirs.length - 1)];
}

function inSameColumn(card, step) {
  const column = [...card.parentNode.querySelectorAll(".card")];
  return column[column.indexOf(card) + step];
}

// Move the focus in the column; with Shift take both cards into the selection (a viewer has none).
function step(event, card, by) {
  const next = inSameColumn(card, by);
  if (!next) return;
  if (event.shiftKey && card.draggable) {
    if (!selection().includes(card.dataset.portfolio)) toggle(card.dataset.portfolio);
    selectTo(next.dataset.portfolio);
  }
  focusCard(next);
}

function handleKey(event, card) {
  const name = CSS.escape(card.dataset.portfolio);
  switch (event.key) {
    case "ArrowDown":
      step(event, card, 1);
      break;
    case "ArrowUp":
      step(event, card, -1);
      break;
    case "ArrowRight":
      focusCard(inNextColumn(card, 1));
      break;
    case "ArrowLeft":
      focusCard(inNextColumn(card, -1));
      break;
    case "Enter":
      card.querySelector(".card-name a").click();
      break;
    case " ":
      if (!card.draggable) return; // a viewer moves nothing
      toggle(card.dataset.portfolio);
      break;
    case "Escape":
      if (!selectNone()) return;
      break;
    case "m":
    case "M":
      if (selection().includes(card.dataset.portfolio)) moveSelected(card);
      else document.querySelector(`#cardmenu-${name} a[href$="/migrate/"]`)?.click();
      break;
    case "w":
    case "W":
      location.assign(`/what-if/?lose=${encodeURIComponent(card.closest(".col").dataset.node)}`);
      break;
    case ".":
    case "ContextMenu":
      card.querySelector(".menu-button")?.click();
      break;
    default:
      return;
  }
  event.preventDefault();
}

export function startKeyboard() {
  if (!document.getElementById("board")) return;
  updateTabStop();
  document.addEventListener("ginkgo-updated", updateTabStop);
  document.addEventListener("focusin", (event) => {
    const card = event.target.closest?.(".card");
    if (card && card.dataset.portfolio !== current) {
      current = card.dataset.portfolio;
      updateTabStop();
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches?.(".card")) handleKey(event, event.target);
  });
}
