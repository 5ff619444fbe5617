// The pinned strip of lost and suspect nodes: wherever the window is, they are on screen.
import { Bound } from "./bind.js";
import { nodes } from "./figures.js";
import { choice, choose, clearFilters } from "./filters.js";
import { stateWord } from "./words.js";

const MOST = 12; // the rest is one link
const strip = document.getElementById("trouble-strip");
const list = strip?.querySelector("ul");
const entries = new Map(); // node → its entry

// Ranks of nodes (scheduling/dashboard/board/columns.py) that the strip shows.
const SUSPECT = "1";
const LOST = "2";

export function drawTrouble() {
  if (!strip) return;
  const found = nodes.names
    .map((name, row) => ({ name, row, rank: nodes.get(row, "rank") }))
    .filter(({ rank }) => rank === SUSPECT || rank === LOST)
    .sort((a, b) => b.rank.localeCompare(a.rank) || a.name.localeCompare(b.name));
  const shown = found.slice(0, MOST).map(({ name, row }) => {
    if (!entries.has(name)) entries.set(name, new Bound(document.getElementById("trouble-template"), name));
    const entry = entries.get(name);
    const status = nodes.get(row, "status");
    entry.update({
      status: stateWord(status),
      statusIcon: `#n-${status}`,
      tone: status === "lost" ? "bad" : "warn",
      line: nodes.get(row, "line"),
    });
    return entry.element;
  });
  strip.hidden = !shown.length;
  if (shown.length !== list.children.length || shown.some((element, i) => list.children[i] !== element)) {
    list.replaceChildren(...shown);
    const names = new Set(found.map(({ name }) => name));
    for (const name of entries.keys()) if (!names.has(name)) entries.delete(name);
  }
  const more = strip.querySelector("[data-more]");
  more.hidden = found.length <= MOST;
  more.querySelector("b").textContent = found.length - MOST;
}

export function startTrouble() {
  strip?.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-jump]");
    if (!link) return;
    event.preventDefault();
    const find = () => document.getElementById(`col-${link.dataset.jump}`);
    if (choice("view") === "heatmap") choose({ view: "" });
    if (!find()?.checkVisibility()) clearFilters();
    if (!find()?.checkVisibility()) choose({ folded: "" });
    find()?.scrollIntoView({ inline: "center", block: "nearest" });
    find()?.querySelector("h3 a")?.focus({ preventScroll: true });
  });
}
