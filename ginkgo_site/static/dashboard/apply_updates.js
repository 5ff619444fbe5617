// Put the parts that changed where they belong, and keep what the person was doing.
import { morph, parse } from "./morph.js";

function where(selector) {
  const seats = new Map();
  for (const card of document.querySelectorAll(selector)) {
    seats.set(card.dataset.portfolio, card.closest(".col")?.dataset.node);
  }
  return seats;
}

function columns(order, fresh) {
  const board = document.getElementById("board");
  if (!board) return;
  for (const column of [...board.children]) if (!order.includes(column.id)) column.remove();
  order.forEach((id, place) => {
    let column = document.getElementById(id);
    if (!column && fresh[id]) column = parse(fresh[id]);
    if (column && board.children[place] !== column) board.insertBefore(column, board.children[place] || null);
  });
}

function greet(before) {
  for (const card of document.querySelectorAll(".card")) {
    const was = before.get(card.dataset.portfolio);
    if (was === undefined || was === card.closest(".col")?.dataset.node) continue;
    card.classList.add("arrived");
    card.addEventListener("animationend", () => card.classList.remove("arrived"), { once: true });
    setTimeout(() => card.classList.remove("arrived"), 1500);
  }
}

// A card that moved to another column is a new element: the focus goes with it.
function refocus(held) {
  if (!held || document.contains(held.element)) return;
  const card = document.querySelector(`.card[data-portfolio="${CSS.escape(held.portfolio)}"]`);
  if (card) (held.selector ? card.querySelector(held.selector) : card)?.focus();
}

function focusHeld() {
  const element = document.activeElement;
  const card = element?.closest?.(".card");
  if (!card) return null;
  const selector = element === card ? "" : element.matches(".menu-button") ? ".menu-button" : "a";
  return { element, portfolio: card.dataset.portfolio, selector };
}

export function applyParts(message) {
  const before = where(".card");
  const held = focusHeld();
  if (message.columns) columns(message.columns, message.parts);
  for (const [id, html] of Object.entries(message.parts)) {
    const element = document.getElementById(id);
    const wanted = element && parse(html);
    if (wanted) morph(element, wanted);
  }
  greet(before);
  document.dispatchEvent(new CustomEvent("ginkgo-parts"));
  refocus(held);
}
