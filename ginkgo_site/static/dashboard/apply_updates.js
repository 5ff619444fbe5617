// Apply pushed parts to the page and keep what the user was doing.
import { morph } from "./morph.js";

function nodesByPortfolio() {
  const nodes = new Map();
  for (const card of document.querySelectorAll(".card")) {
    nodes.set(card.dataset.portfolio, card.closest(".col")?.dataset.node);
  }
  return nodes;
}

// Columns of new nodes are added, those of removed nodes go, and the order becomes that of the server.
function arrangeColumns(order, parts) {
  const board = document.getElementById("board");
  if (!board) return;
  for (const column of [...board.children]) if (!order.includes(column.id)) column.remove();
  order.forEach((id, index) => {
    let column = document.getElementById(id);
    if (!column && parts[id]) {
      const template = document.createElement("template");
      template.innerHTML = parts[id];
      column = template.content.firstElementChild;
    }
    if (column && board.children[index] !== column) board.insertBefore(column, board.children[index] || null);
  });
}

function highlightMoved(nodesBefore) {
  for (const card of document.querySelectorAll(".card")) {
    const before = nodesBefore.get(card.dataset.portfolio);
    if (before === undefined || before === card.closest(".col")?.dataset.node) continue;
    card.classList.add("arrived");
    card.addEventListener("animationend", () => card.classList.remove("arrived"), { once: true });
    setTimeout(() => card.classList.remove("arrived"), 1500);
  }
}

function focusInCard() {
  const element = document.activeElement;
  const card = element?.closest?.(".card");
  if (!card) return null;
  const selector = element === card ? "" : element.matches(".menu-button") ? ".menu-button" : "a";
  return { element, portfolio: card.dataset.portfolio, selector };
}

// A card that moved to another column is a new element: move the focus to it.
function restoreFocus(focus) {
  if (!focus || document.contains(focus.element)) return;
  const card = document.querySelector(`.card[data-portfolio="${CSS.escape(focus.portfolio)}"]`);
  if (card) (focus.selector ? card.querySelector(focus.selector) : card)?.focus();
}

export function applyUpdates(message) {
  const nodesBefore = nodesByPortfolio();
  const focus = focusInCard();
  if (message.columns) arrangeColumns(message.columns, message.parts);
  for (const [id, html] of Object.entries(message.parts)) {
    const element = document.getElementById(id);
    if (element) morph(element, html.trim());
  }
  highlightMoved(nodesBefore);
  document.dispatchEvent(new CustomEvent("ginkgo-updated"));
  restoreFocus(focus);
}
