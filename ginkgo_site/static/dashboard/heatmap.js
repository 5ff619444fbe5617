// The heatmap: a cell for each portfolio, by node. One tab stop; arrows move among the cells.
import { nodes, portfolios } from "./figures.js";
import { choice, matchesChoice, matching } from "./filters.js";
import { gettext, stateWord } from "./words.js";

const heatmap = document.getElementById("heatmap");
const blocks = heatmap?.querySelector("[data-blocks]");
const STATES = ["running", "moving", "waiting", "trouble", "stopped"];
const WAITING = ["pending", "halted"];
const drawn = new Map(); // node, "" for none → its block

function stateOf(row) {
  const phase = portfolios.get(row, "phase");
  const state = portfolios.get(row, "state");
  if (state === "trouble" || phase === "quarantined") return "trouble";
  if (WAITING.includes(phase)) return "waiting";
  if (phase === "stopped") return "stopped";
  return state === "moving" || phase !== "running" ? "moving" : "running";
}

function newBlock(name) {
  const template = document.getElementById("heat-template");
  const element = template.content.firstElementChild.cloneNode(true);
  const title = element.querySelector("h3");
  if (name) title.querySelector("a").textContent = name;
  if (name) title.querySelector("a").href = title.querySelector("a").href.replace("__name__", name);
  else title.textContent = heatmap.dataset.nowhere;
  return { element, cells: element.querySelector("[data-cells]"), known: new Map() };
}

function update(cell, row, state) {
  const name = portfolios.names[row];
  const message = portfolios.get(row, "message");
  const phase = stateWord(portfolios.get(row, "phase"));
  const label = `${name}, ${phase}${message ? gettext(": ") + message : ""}`;
  if (cell.dataset.state !== state) cell.dataset.state = state;
  if (cell.title !== label) {
    cell.title = label;
    cell.setAttribute("aria-label", label);
  }
}

function newCell(name) {
  const cell = document.createElement("a");
  cell.className = "heat-cell";
  cell.href = heatmap.dataset.portfolio.replace("__name__", name);
  cell.dataset.cell = name;
  cell.tabIndex = -1;
  return cell;
}

// Return the block of a node, "" for the portfolios on none, with a cell for each row; `counts` by state are increased.
function drawBlock(name, rows, counts) {
  if (!drawn.has(name)) drawn.set(name, newBlock(name));
  const block = drawn.get(name);
  const status = name ? nodes.get(nodes.index.get(name), "status") : "";
  if (block.element.dataset.status !== status) block.element.dataset.status = status;
  const cells = rows.map((row) => {
    const portfolio = portfolios.names[row];
    if (!block.known.has(portfolio)) block.known.set(portfolio, newCell(portfolio));
    const state = stateOf(row);
    counts[state] += 1;
    update(block.known.get(portfolio), row, state);
    return block.known.get(portfolio);
  });
  if (cells.length !== block.cells.children.length || cells.some((cell, i) => block.cells.children[i] !== cell)) {
    block.cells.replaceChildren(...cells);
    const names = new Set(rows.map((row) => portfolios.names[row]));
    for (const portfolio of block.known.keys()) if (!names.has(portfolio)) block.known.delete(portfolio);
  }
  return block.element;
}

// Draw the fleet. `here`: node → rows of its portfolios.
export function drawHeatmap(here) {
  if (!heatmap) return;
  const isShown = choice("view") === "heatmap";
  heatmap.hidden = !isShown;
  if (!isShown) return;
  const counts = Object.fromEntries(STATES.map((state) => [state, 0]));
  const elements = [];
  for (const name of nodes.names) {
    const rows = matching(name, here.get(name) ?? []);
    if (rows) elements.push(drawBlock(name, rows, counts));
  }
  const nowhere = portfolios.columns.node.flatMap((node, row) => (node || !matchesChoice(row) ? [] : [row]));
  if (nowhere.length && !choice("status") && !choice("trouble")) elements.push(drawBlock("", nowhere, counts));
  if (elements.length !== blocks.children.length || elements.some((element, i) => blocks.children[i] !== element)) {
    blocks.replaceChildren(...elements);
    for (const name of drawn.keys()) if (name && !nodes.index.has(name)) drawn.delete(name);
  }
  for (const state of STATES) heatmap.querySelector(`[data-count=${state}]`).textContent = counts[state];
  if (!blocks.querySelector('.heat-cell[tabindex="0"]'))
    blocks.querySelector(".heat-cell")?.setAttribute("tabindex", "0");
}

export function startHeatmap() {
  heatmap?.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step || !event.target.matches(".heat-cell")) return;
    const cells = [...blocks.querySelectorAll(".heat-cell")];
    const next = cells[cells.indexOf(event.target) + step];
    event.preventDefault();
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}
