// The board: a column for each node and a card for each portfolio, made from the templates of the page. Of a large
// fleet only columns near the window have cards; the figures of all are here, so that scrolling waits for nothing.
import { Bound } from "./bind.js";
import { setServerTime } from "./clocks.js";
import { cardFigures, columnFigures, nodes, portfolios } from "./figures.js";
import { choice, foldedGroups, foldGroups, isFiltered, matching, startFilters } from "./filters.js";
import { drawHeatmap, startHeatmap } from "./heatmap.js";
import { drawTrouble, startTrouble } from "./trouble.js";

const FULL_BELOW = 30; // nodes; with fewer, every column has its cards wherever the window is
const COLUMN_PX = 208; // the least width of a column, with the space beside it
const FIRST_FOLDED = 20; // columns that get their cards at once on a narrow screen, where most of them are folded
const NEAR = "600px"; // this far outside of the window columns have cards
const REGROUPING = ["node", "target"]; // fields whose change moves a card or a slot to another column

const board = document.getElementById("board");
const ungrouped = board?.querySelector(".board");
const empty = document.getElementById("board-empty");
const templates = Object.fromEntries(
  ["column", "card", "slot", "group"].map((kind) => [kind, document.getElementById(`${kind}-template`)]),
);
const narrow = matchMedia("(max-width: 720px)");
const columns = new Map(); // node → its column
const cards = new Map(); // portfolio → the Bound of its card
const nodeOf = new Map(); // portfolio → the node whose column had its card last
const groups = new Map(); // value of the label → its group
const near = new Set(); // nodes whose columns are near the window
let rowsOn = new Map(); // node → rows of its portfolios
let rowsComingTo = new Map(); // node → rows of portfolios that it reserves a slot for

const observer = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      const name = entry.target.dataset.node;
      if (entry.isIntersecting) near.add(name);
      else near.delete(name);
      if (columns.has(name)) fillColumn(name);
    }
    document.dispatchEvent(new CustomEvent("ginkgo-updated"));
  },
  { root: null, rootMargin: NEAR, scrollMargin: NEAR },
);

// A column with the focus or an open menu keeps its cards, however far it is from the window.
function isInUse(column) {
  const element = column.bound.element;
  return element.contains(document.activeElement) || element.querySelector(":popover-open");
}

function needsCards(name) {
  if (columns.get(name).bound.element.hidden) return false;
  return nodes.names.length < FULL_BELOW || near.has(name) || isInUse(columns.get(name));
}

// Portfolios by the node that a field names: node → rows.
function rowsByNode(field) {
  const found = new Map();
  portfolios.columns[field].forEach((name, row) => {
    if (!name) return;
    if (found.has(name)) found.get(name).push(row);
    else found.set(name, [row]);
  });
  return found;
}

// Put an element before another one, or at the end for null; where the browser can, without losing the element's focus
// or closing its menu.
function place(parent, element, before) {
  if (element.parentNode === parent && element.nextElementSibling === before) return;
  if (element.isConnected && parent.isConnected && parent.moveBefore) parent.moveBefore(element, before);
  else parent.insertBefore(element, before);
}

// Make these elements the last children of `parent`, in this order. Others before them stay, for the caller to remove.
function arrange(parent, elements) {
  let after = null;
  for (const element of elements.toReversed()) {
    place(parent, element, after);
    after = element;
  }
}

// Return the Bound of this name in the map `known`; a new one is made from the template of its kind.
function knownOrNew(kind, known, name) {
  if (!known.has(name)) known.set(name, new Bound(templates[kind], name));
  return known.get(name);
}

function newColumn(name) {
  const made = new Bound(templates.column, name);
  observer.observe(made.element);
  const find = (selector) => made.element.querySelector(selector);
  return {
    bound: made,
    cards: find(".cards"),
    cells: find(".cells"),
    summary: find(".card-summary"),
    slots: new Map(),
  };
}

// Draw the load of a node as cells, one for each place: taken by a card, reserved, or free.
function drawCells(column, row, name) {
  const weights = (rowsOn.get(name) ?? []).map((card) => portfolios.get(card, "weight"));
  const reserved = (rowsComingTo.get(name) ?? []).map((card) => portfolios.get(card, "weight"));
  const capacity = nodes.get(row, "capacity");
  const shown = `${capacity}|${weights}|${reserved}`;
  if (column.shownCells === shown) return;
  column.shownCells = shown;
  const cells = weights.flatMap((weight) => ["used", ...Array(weight - 1).fill("used double")]);
  cells.push(...reserved.flatMap((weight) => Array(weight).fill("reserved")));
  while (cells.length < capacity) cells.push("");
  column.cells.replaceChildren(...(columnFigures(row).hasCells ? cells : []).map(newMark));
}

// On a narrow screen a folded column shows a mark for each of its cards.
function drawSummary(column, name) {
  const states = narrow.matches ? (rowsOn.get(name) ?? []).map((row) => portfolios.get(row, "state")) : [];
  if (column.shownStates === String(states)) return;
  column.shownStates = String(states);
  column.summary.replaceChildren(...states.map(newMark));
}

function newMark(css) {
  const element = document.createElement("i");
  element.className = css;
  return element;
}

function highlight(card) {
  card.classList.add("arrived");
  card.addEventListener("animationend", () => card.classList.remove("arrived"), { once: true });
  setTimeout(() => card.classList.remove("arrived"), 1500);
}

// Give a column its cards and slots, or take them away if it is far from the window.
function fillColumn(name) {
  const column = columns.get(name);
  const matched = matching(name, rowsOn.get(name) ?? []);
  column.bound.element.toggleAttribute("hidden", matched === null);
  const hasCards = matched !== null && needsCards(name);
  const rows = hasCards ? matched : [];
  const shownCards = rows.map((row) => {
    const portfolio = portfolios.names[row];
    const card = knownOrNew("card", cards, portfolio);
    card.update(cardFigures(row));
    if ((nodeOf.get(portfolio) ?? name) !== name) highlight(card.element);
    nodeOf.set(portfolio, name);
    return card.element;
  });
  const slots = (hasCards ? (rowsComingTo.get(name) ?? []) : []).map((row) => {
    const slot = knownOrNew("slot", column.slots, portfolios.names[row]);
    slot.update({ slot: portfolios.get(row, "slot") });
    return slot.element;
  });
  arrange(column.cards, [...shownCards, ...slots]);
  const shown = new Set([...shownCards, ...slots]);
  for (const element of [...column.cards.children]) {
    const { portfolio, reserved } = element.dataset;
    if (shown.has(element) || (portfolio && isElsewhere(portfolio, name))) continue;
    element.remove();
    cards.delete(portfolio);
    column.slots.delete(reserved);
  }
}

// Whether the card belongs to another column, which takes its element over when that column is filled.
function isElsewhere(portfolio, name) {
  const row = portfolios.index.get(portfolio);
  const node = row === undefined ? "" : portfolios.get(row, "node");
  return node && node !== name && columns.has(node) && needsCards(node);
}

function arrangeColumns() {
  for (const [name, column] of columns) {
    if (nodes.index.has(name)) continue;
    observer.unobserve(column.bound.element);
    column.bound.element.remove();
    columns.delete(name);
    near.delete(name);
  }
  for (const name of nodes.names) if (!columns.has(name)) columns.set(name, newColumn(name));
}

function sum(names, count) {
  return names.reduce((total, name) => total + count(name), 0);
}

// A group of nodes with the same value of a label, under a heading that folds it.
function drawGroup(key, value, names) {
  if (!groups.has(value)) {
    const made = new Bound(templates.group, "");
    groups.set(value, { bound: made, columns: made.element.querySelector(".board") });
    made.element.querySelector("[data-fold-group]").addEventListener("click", () => {
      const closed = foldedGroups();
      if (!closed.delete(value)) closed.add(value);
      foldGroups(closed);
    });
  }
  const group = groups.get(value);
  const open = !foldedGroups().has(value);
  const shown = names.filter((name) => !columns.get(name).bound.element.hidden);
  const trouble = sum(shown, (name) => (nodes.get(nodes.index.get(name), "rank") ? 1 : 0));
  group.bound.update({
    label: value ? `${key}=${value}` : "",
    unlabelled: value ? "" : key,
    nodes: shown.length,
    portfolios: sum(shown, (name) => rowsOn.get(name)?.length ?? 0),
    trouble: trouble || "",
    expanded: String(open),
  });
  group.bound.element.toggleAttribute("hidden", !shown.length);
  group.columns.hidden = !open;
  arrange(
    group.columns,
    names.map((name) => columns.get(name).bound.element),
  );
  return group.bound.element;
}

// Put the columns in their groups, or all in one row if the board is not grouped.
function arrangeGroups() {
  const key = choice("group");
  const members = new Map();
  for (const [row, name] of nodes.names.entries()) {
    const value = key ? (nodes.get(row, "labels")[key] ?? "") : "";
    if (members.has(value)) members.get(value).push(name);
    else members.set(value, [name]);
  }
  if (!key) {
    arrange(
      ungrouped,
      nodes.names.map((name) => columns.get(name).bound.element),
    );
    if (!ungrouped.isConnected) board.replaceChildren(ungrouped);
    groups.clear();
    return;
  }
  const wanted = [...members.keys()].sort().map((value) => drawGroup(key, value, members.get(value)));
  if (ungrouped.isConnected) board.replaceChildren();
  for (const [value, group] of groups) {
    if (members.has(value)) continue;
    group.bound.element.remove();
    groups.delete(value);
  }
  arrange(board, wanted);
}

// Return {element: with the focus, portfolio: of its card, selector: of the element in a card}; null outside of cards.
function focused() {
  const element = document.activeElement;
  const card = element?.closest?.(".card");
  if (!card) return null;
  const selector = element === card ? "" : element.matches(".menu-button") ? ".menu-button" : "a";
  return { element, portfolio: card.dataset.portfolio, selector };
}

// Where a moved card is a new element, move the focus to it.
function restoreFocus(focus) {
  if (!focus || document.activeElement === focus.element) return;
  const card = cards.get(focus.portfolio)?.element;
  if (card) (focus.selector ? card.querySelector(focus.selector) : card)?.focus({ preventScroll: true });
}

// Show what changed in the figures. `changedNodes` and `changedCards`: the changed fields, or null if rows were
// replaced.
export function showFigures(change) {
  if (!board || !change) return;
  setServerTime(change.now);
  const changedNodes = nodes.apply(change.nodes);
  const changedCards = portfolios.apply(change.portfolios);
  const focus = focused();
  if (!changedCards || REGROUPING.some((field) => changedCards.includes(field))) {
    rowsOn = rowsByNode("node");
    rowsComingTo = rowsByNode("target");
  }
  if (!changedNodes) arrangeColumns();
  if (!changedCards) for (const name of nodeOf.keys()) if (!portfolios.index.has(name)) nodeOf.delete(name);
  draw();
  if (!changedNodes || choice("group")) arrangeGroups();
  restoreFocus(focus);
}

function draw() {
  const isHeatmap = choice("view") === "heatmap";
  board.hidden = isHeatmap;
  board.dataset.density = choice("view") === "rows" ? "rows" : "cards";
  nodes.names.forEach((name, row) => {
    const column = columns.get(name);
    column.bound.update(columnFigures(row));
    drawCells(column, row, name);
    drawSummary(column, name);
    fillColumn(name);
  });
  empty.hidden = !isFiltered() || nodes.names.some((name) => !columns.get(name).bound.element.hidden);
  drawTrouble();
  drawHeatmap(rowsOn);
}

function redraw() {
  draw();
  arrangeGroups();
  document.dispatchEvent(new CustomEvent("ginkgo-updated"));
}

// Return the next column with portfolios in the direction of `step`, 1 or -1, filled with its cards; null at the end.
export function neighbour(node, step) {
  const own = nodes.index.get(node);
  for (let row = own + step; row >= 0 && row < nodes.names.length; row += step) {
    const name = nodes.names[row];
    if (!rowsOn.has(name) || columns.get(name).bound.element.hidden) continue;
    near.add(name);
    fillColumn(name);
    return columns.get(name).bound.element;
  }
  return null;
}

export function startBoard() {
  if (!board) return;
  // Until the observer has looked: the columns that fit into the window.
  const first = JSON.parse(document.getElementById("board-figures").textContent);
  const fitting = narrow.matches ? FIRST_FOLDED : Math.ceil(innerWidth / COLUMN_PX);
  for (const name of first.nodes.names.slice(0, fitting)) near.add(name);
  nodes.apply(first.nodes);
  startFilters();
  showFigures(first);
  startHeatmap();
  startTrouble();
  document.addEventListener("ginkgo-chosen", redraw);
  narrow.addEventListener("change", () => showFigures({ now: null })); // no change: draws the board again
}
