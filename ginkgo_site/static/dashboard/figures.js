// The figures of the board as the server sends them: tables by column, whole at first and then what changed
// (scheduling/dashboard/figures.py).
import { stateWord } from "./words.js";

class Table {
  constructor() {
    this.names = [];
    this.columns = {};
    this.index = new Map(); // name → row
  }

  // Apply what changed, and return the names of the changed columns; null if rows came, left or changed their order.
  apply(change) {
    if (!change) return [];
    if (change.names) {
      this.names = change.names;
      this.index = new Map(change.names.map((name, row) => [name, row]));
      this.columns = change.columns;
      return null;
    }
    for (const [field, values] of Object.entries(change.columns)) {
      if (Array.isArray(values)) this.columns[field] = values;
      else for (const [i, row] of values.at.entries()) this.columns[field][row] = values.to[i];
    }
    return Object.keys(change.columns);
  }

  get(row, field) {
    return this.columns[field][row];
  }
}

export const nodes = new Table();
export const portfolios = new Table();

const integers = new Intl.NumberFormat("en");
const cents = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const UNKNOWN = "–";

function formatInteger(value) {
  return value === null || value === undefined ? UNKNOWN : integers.format(value);
}

// +1,284.10 or −842.37; zero has no sign.
export function signed(value) {
  const text = cents.format(Math.abs(value));
  if (!/[1-9]/.test(text)) return text;
  return (value < 0 ? "−" : "+") + text;
}

// The box of a sparkline, in px.
const WIDTH = 76;
const HEIGHT = 18;
const MARGIN = 2;

const TOP_LEVEL = 61;

// Return the level of a character of SPARK_LEVELS in figures.py, 0 to TOP_LEVEL: 0-9, then A-Z, then a-z.
function level(character) {
  const code = character.charCodeAt(0);
  return code < 58 ? code - 48 : code < 91 ? code - 55 : code - 61;
}

const curves = new Map(); // text of a sparkline → what `curve` returns

// Return {points: of an SVG polyline, last: [x, y] of its last point} of a sparkline; null for an empty one.
function curve(text) {
  if (!text) return null;
  let found = curves.get(text);
  if (!found) {
    const across = (WIDTH - 2 * MARGIN) / (text.length - 1);
    const points = [...text].map((character, i) => [
      (MARGIN + i * across).toFixed(1),
      (HEIGHT - MARGIN - (level(character) * (HEIGHT - 2 * MARGIN)) / TOP_LEVEL).toFixed(1),
    ]);
    if (curves.size > 500) curves.clear();
    found = { points: points.map((point) => point.join(",")).join(" "), last: points.at(-1) };
    curves.set(text, found);
  }
  return found;
}

// What a card shows, by the names in parts/card.html.
export function cardFigures(row) {
  const value = (field) => portfolios.get(row, field);
  const phase = value("phase");
  const canary = value("canary");
  const clean = value("clean");
  const weight = value("weight");
  const moving = value("moving");
  const stalled = value("stalled");
  const proving = value("proving");
  const pinned = value("pinned");
  const pnl = value("pnl") === null ? null : Number(value("pnl"));
  const starting = Number(value("starting"));
  const drawn = canary ? null : curve(value("spark"));
  return {
    phase,
    phaseWord: stateWord(phase),
    phaseIcon: `#p-${phase}`,
    strategy: value("strategy"),
    weight,
    isHeavy: weight !== 1,
    revision: value("revision"),
    epoch: value("epoch"),
    moving,
    isStill: moving === null,
    pinned,
    proving,
    stalled,
    marks: [pinned && "pinned", proving && "proving", stalled && "stalled"].filter(Boolean).join(" "),
    canary,
    clean,
    isDirty: clean === false,
    canaryTone: clean === null ? "" : clean ? "ok" : "bad",
    events: canary ? formatInteger(value("events")) : "",
    isTrader: !canary,
    points: drawn?.points ?? null,
    lastX: drawn?.last[0] ?? null,
    lastY: drawn?.last[1] ?? null,
    pnl: pnl === null ? UNKNOWN : signed(pnl),
    percent: pnl === null || !starting ? "" : `${signed((100 * pnl) / starting)} %`,
    direction: pnl > 0 ? "gain" : pnl < 0 ? "loss" : "",
    lag: formatInteger(value("lag")),
    message: value("message"),
    messageIcon: `#${value("icon")}`,
    tone: value("tone"),
  };
}

const MAX_CELLS = 20; // above this capacity the load is one bar instead of a cell per place
const TAGS = { suspect: "tag-warn", lost: "tag-bad", draining: "tag-info" };

// What the header of a column shows, by the names in parts/column.html.
export function columnFigures(row) {
  const value = (field) => nodes.get(row, field);
  const status = value("status");
  const capacity = value("capacity");
  const carried = value("used") + value("held");
  const draining = value("draining");
  const cordoned = value("cordoned");
  const loss = value("loss");
  const tone = value("tone");
  const line = value("line");
  const labels = Object.entries(value("labels")).sort();
  const percent = (share) => (share === null ? UNKNOWN : `${share}\u202f%`);
  return {
    status,
    statusWord: stateWord(status),
    statusIcon: `#n-${status}`,
    statusTag: TAGS[status] ?? "",
    isUnusual: status !== "alive",
    rank: value("rank"),
    first: value("first"),
    cordoned,
    isOpen: !cordoned,
    draining,
    isUndrained: !draining,
    until: value("until"),
    ttl: value("ttl"),
    capacity,
    carried,
    loadOf: `${carried}/${capacity}`,
    load: value("load"),
    loadWidth: Math.min((100 * carried) / (capacity || 1), 100).toFixed(1),
    hasCells: capacity <= MAX_CELLS,
    hasBar: capacity > MAX_CELLS,
    cpu: percent(value("cpu")),
    mem: percent(value("mem")),
    label1: labels[0]?.join("=") ?? "",
    label2: labels[1]?.join("=") ?? "",
    line,
    lineIcon: `#${value("icon")}`,
    tone,
    hasStatusLine: Boolean(line) && !loss,
    loss,
    lossTone: tone === "ok" ? "quiet" : tone,
    drain: value("drain"),
    note: value("note"),
  };
}
