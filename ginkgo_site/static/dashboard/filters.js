// What the board shows, as its address says: `?q=xom&status=lost&trouble=1&group=zone&view=rows`.
import { nodes, portfolios } from "./figures.js";
import { isPageKey } from "./keys.js";

const FIELDS = ["q", "status", "phase", "trouble", "group", "folded", "view"];
const chosen = {};
const tools = document.getElementById("board-tools");

function read() {
  const query = new URLSearchParams(location.search);
  for (const field of FIELDS) chosen[field] = query.get(field) ?? "";
}

export function choice(field) {
  return chosen[field];
}

// The address has the values of folded groups with commas between them, and "=" for the nodes without the label.
const NO_VALUE = "=";

function decoded(text) {
  try {
    return text === NO_VALUE ? "" : decodeURIComponent(text);
  } catch {
    return text; // typed by hand
  }
}

export function foldedGroups() {
  return new Set(chosen.folded ? chosen.folded.split(",").map(decoded) : []);
}

export function foldGroups(values) {
  choose({ folded: [...values].map((value) => encodeURIComponent(value) || NO_VALUE).join(",") });
}

function matchesText(row) {
  const text = chosen.q.toLowerCase();
  const value = (field) => portfolios.get(row, field);
  const parts = [portfolios.names[row], value("strategy"), ...value("symbols")];
  return parts.some((part) => part.toLowerCase().includes(text));
}

// Whether a portfolio on no node is shown. `matching` decides on the others: a search finds them by their node too.
export function matchesChoice(row) {
  return (!chosen.phase || portfolios.get(row, "phase") === chosen.phase) && (!chosen.q || matchesText(row));
}

// Return those of a node's portfolios that are shown; null if the node is not shown. A node is shown for its own
// name, or for a portfolio that matches.
export function matching(node, rows) {
  const { q, status, phase, trouble } = chosen;
  const value = (field) => nodes.get(nodes.index.get(node), field);
  if ((status && value("status") !== status) || (trouble && !value("rank"))) return null;
  const searchesPortfolios = q && !node.toLowerCase().includes(q.toLowerCase());
  let shown = rows;
  if (phase) shown = shown.filter((row) => portfolios.get(row, "phase") === phase);
  if (searchesPortfolios) shown = shown.filter(matchesText);
  return !shown.length && (phase || searchesPortfolios) ? null : shown;
}

export function isFiltered() {
  return ["q", "status", "phase", "trouble"].some((field) => chosen[field]);
}

function showChoice() {
  const search = document.getElementById("board-search");
  if (document.activeElement !== search) search.value = chosen.q;
  document.getElementById("board-group").value = chosen.group;
  for (const element of document.querySelectorAll("[data-choose]")) {
    const [field, value] = element.dataset.choose.split("=");
    const current = String(chosen[field] === value);
    if (element.matches("button")) element.setAttribute("aria-pressed", current);
    else element.toggleAttribute("aria-current", current === "true");
  }
  tools.querySelector("[data-clear]").hidden = !isFiltered();
}

// Change what the board shows, and the address with it. `changes`: field of FIELDS → value, "" for its default.
export function choose(changes) {
  Object.assign(chosen, changes);
  const query = new URLSearchParams();
  for (const field of FIELDS) if (chosen[field]) query.set(field, chosen[field]);
  const text = query.toString();
  history.replaceState(null, "", text ? `?${text}` : location.pathname);
  showChoice();
  document.dispatchEvent(new CustomEvent("ginkgo-chosen"));
}

export function clearFilters() {
  choose({ q: "", status: "", phase: "", trouble: "" });
}

// The labels of the nodes are what the board can be grouped by.
function offerGroups() {
  const select = document.getElementById("board-group");
  const keys = [...new Set(nodes.columns.labels.flatMap((labels) => Object.keys(labels)))].sort();
  if (chosen.group && !keys.includes(chosen.group)) keys.push(chosen.group);
  const known = [...select.options].slice(1).map((option) => option.value);
  if (String(known) === String(keys)) return;
  select.replaceChildren(select.options[0], ...keys.map((key) => new Option(key, key)));
  select.value = chosen.group;
}

export function startFilters() {
  if (!tools) return;
  read();
  showChoice();
  offerGroups();
  document.addEventListener("ginkgo-updated", () => {
    offerGroups();
    showChoice();
  });
  document.addEventListener("click", (event) => {
    const isPlainClick = !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) && event.button === 0;
    const element = event.target.closest("[data-choose], [data-clear]");
    if (!element || !isPlainClick) return;
    event.preventDefault();
    if (element.matches("[data-clear]")) {
      clearFilters();
      return;
    }
    const [field, value] = element.dataset.choose.split("=");
    const isUndone = chosen[field] === value && element.matches("a"); // a second click on a link takes it back
    choose({ [field]: isUndone ? "" : value });
  });
  const search = document.getElementById("board-search");
  search.addEventListener("input", () => choose({ q: search.value.trim() }));
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !search.value) return;
    event.preventDefault();
    search.value = "";
    choose({ q: "" });
  });
  document.getElementById("board-group").addEventListener("change", (event) => {
    choose({ group: event.target.value, folded: "" });
  });
  document.addEventListener("keydown", (event) => {
    if (!isPageKey(event, "/")) return;
    event.preventDefault();
    search.focus();
    search.select();
  });
}
