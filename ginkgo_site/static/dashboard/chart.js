// The equity curve with its orders, the drawdown, and lanes of handoffs and nodes: one plot, one time axis,
// one crosshair. If the data cannot be fetched, the curve drawn by the server stays.
import { signed } from "./figures.js";
import { localTime } from "./times.js";
import { fill, gettext, stateWord } from "./words.js";

const HEIGHT = 380;
// Parts of the plot's height, from its top: equity, drawdown, the lane of handoffs, that of nodes.
const EQUITY_END = 0.62;
const DRAWDOWN = [0.67, 0.79];
const HANDOFF_LANE = 0.86;
const NODE_LANE = [0.92, 1];
const NEAR_PX = 6; // an order or handoff within this distance of the crosshair is named in the tooltip
const MAX_SHOWN = 4; // orders and handoffs named in the tooltip; the others are counted

const money = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const NODE_COLOURS = ["#4d5a53", "#66736b", "#737158", "#3f6f78", "#6c6a86", "#7d6a45"];

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function kindColour(handoff) {
  if (handoff.kind === "failover" || ["failed", "rolled_back"].includes(handoff.state)) return colour("--bad");
  return handoff.kind === "reload" ? colour("--brand") : colour("--accent");
}

function orderColour(order) {
  if (order.status === "refused") return colour("--bad");
  if (order.status === "suppressed") return colour("--warn-fill");
  return colour(order.side === "buy" ? "--gain" : "--loss");
}

// The drawdown of each point in per cent below the highest equity of the range so far, as a negative number.
function drawdowns(values) {
  let peak = -Infinity;
  return values.map((value) => {
    peak = Math.max(peak, value);
    return peak > 0 ? (100 * (value - peak)) / peak : 0;
  });
}

// The equity at a time, between two points of the curve.
function equityAt(data, at) {
  const { time, equity } = data;
  let high = time.findIndex((each) => each >= at);
  if (high === -1) high = time.length - 1;
  if (high === 0) return equity[0];
  const share = (at - time[high - 1]) / (time[high] - time[high - 1] || 1);
  return equity[high - 1] + Math.min(Math.max(share, 0), 1) * (equity[high] - equity[high - 1]);
}

function triangle(ctx, x, y, size, up, filled) {
  const tip = up ? -size : size;
  ctx.beginPath();
  ctx.moveTo(x, y + tip);
  ctx.lineTo(x - size, y - tip);
  ctx.lineTo(x + size, y - tip);
  ctx.closePath();
  if (filled) ctx.fill();
  else ctx.stroke();
}

// Buys stand below the curve and point up, sells above it and point down. Orders that were not placed are hollow.
function drawOrders(plot, data, ratio) {
  const { ctx } = plot;
  const size = 4 * ratio;
  ctx.lineWidth = 1.5 * ratio;
  for (const order of data.orders) {
    const x = plot.valToPos(order.at, "x", true);
    if (x < plot.bbox.left || x > plot.bbox.left + plot.bbox.width) continue;
    const buys = order.side === "buy";
    const y = plot.valToPos(equityAt(data, order.at), "equity", true) + (buys ? 2 : -2) * size;
    ctx.strokeStyle = ctx.fillStyle = orderColour(order);
    triangle(ctx, x, y, size, buys, !["refused", "suppressed"].includes(order.status));
  }
}

function drawHandoffs(plot, data, ratio) {
  const { ctx } = plot;
  const { left, top, width, height } = plot.bbox;
  ctx.lineWidth = ratio;
  for (const handoff of data.handoffs) {
    const x = plot.valToPos(handoff.at, "x", true);
    if (x < left || x > left + width) continue;
    ctx.strokeStyle = ctx.fillStyle = kindColour(handoff);
    ctx.globalAlpha = 0.28;
    ctx.beginPath();
    ctx.moveTo(x, top);
    ctx.lineTo(x, top + height);
    ctx.stroke();
    ctx.globalAlpha = 1;
    ctx.beginPath();
    ctx.arc(x, top + HANDOFF_LANE * height, 3 * ratio, 0, 2 * Math.PI);
    ctx.fill();
  }
}

function drawNodes(plot, data, ratio) {
  const { ctx } = plot;
  const { left, top, width, height } = plot.bbox;
  const names = [...new Set(data.tenures.map((t) => t.node))].sort();
  const y = top + NODE_LANE[0] * height;
  const tall = (NODE_LANE[1] - NODE_LANE[0]) * height;
  ctx.font = `600 ${10 * ratio}px Inter, system-ui, sans-serif`;
  ctx.textBaseline = "middle";
  ctx.textAlign = "center";
  for (const tenure of data.tenures) {
    const from = Math.max(plot.valToPos(tenure.from, "x", true), left);
    const to = Math.min(tenure.to === null ? left + width : plot.valToPos(tenure.to, "x", true), left + width);
    if (to <= from) continue;
    ctx.fillStyle = NODE_COLOURS[names.indexOf(tenure.node) % NODE_COLOURS.length];
    ctx.fillRect(from, y, Math.max(to - from - ratio, ratio), tall);
    const text = `${tenure.node} r${tenure.revision}`;
    if (ctx.measureText(text).width + 8 * ratio < to - from) {
      ctx.fillStyle = "#fff";
      ctx.fillText(text, (from + to) / 2, y + tall / 2);
    }
  }
}

// Draw the names of the lanes at the right edge, where the axis of the equity has no labels; for the drawdown its
// largest.
function drawNames(plot, deepest, ratio) {
  const { ctx } = plot;
  const { left, top, width, height } = plot.bbox;
  ctx.fillStyle = colour("--ink-3");
  ctx.font = `${11 * ratio}px Inter, system-ui, sans-serif`;
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  const name = (text, part) => ctx.fillText(text, left + width + 8 * ratio, top + part * height);
  name(`${signed(deepest)} %`, (DRAWDOWN[0] + DRAWDOWN[1]) / 2);
  name(gettext("handoffs"), HANDOFF_LANE);
  name(gettext("node"), (NODE_LANE[0] + NODE_LANE[1]) / 2);
}

// Return [lowest, highest] of the whole plot's height, so that the curve from `low` to `high` fills the part above
// EQUITY_END with 4 % of that part free on either side. A flat curve gets a height that is more than rounding errors.
function equityRange(_plot, low, high) {
  const partHeight = Math.max((high - low) * 1.08, Math.abs(high) * 1e-6, 0.01);
  const top = high + 0.04 * partHeight;
  return [top - partHeight / EQUITY_END, top];
}

// Return [lowest, highest] of the whole plot's height, so that 0 down to `deepest` (per cent, negative) fills DRAWDOWN.
function drawdownRange(deepest) {
  const [from, to] = DRAWDOWN;
  const wholeHeight = Math.max(-deepest, 0.01) / (to - from);
  return [from * wholeHeight - wholeHeight, from * wholeHeight];
}

function options(box, data, lowest, deepest) {
  const axis = {
    stroke: colour("--ink-3"),
    grid: { stroke: colour("--grid"), width: 1 },
    ticks: { show: false },
    font: "11px Inter, system-ui, sans-serif",
  };
  // The axis has no labels beside the drawdown and the lanes, which are below the lowest equity.
  const ofEquity = (_plot, splits) => splits.map((value) => (value < lowest ? null : value));
  return {
    width: box.clientWidth - 24,
    height: HEIGHT,
    padding: [10, 4, 4, 4],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
    scales: {
      x: { time: true, range: (_, first) => [first, Math.max(data.until, first + 60)] },
      equity: { range: equityRange },
      drawdown: { range: () => drawdownRange(deepest) },
    },
    series: [
      {},
      { scale: "equity", stroke: colour("--ink"), width: 1.5, points: { show: false } },
      {
        scale: "drawdown",
        stroke: colour("--loss"),
        width: 1,
        fill: colour("--drawdown"),
        fillTo: 0,
        points: { show: false },
      },
    ],
    axes: [
      {
        ...axis,
        size: 28,
        values: (_, ticks) => ticks.map((at) => localTime(at, ticks.length > 1 && ticks[1] - ticks[0] < 60)),
      },
      {
        ...axis,
        scale: "equity",
        side: 1,
        size: 74,
        filter: ofEquity,
        values: (_, ticks) => ticks.map((v) => (v === null ? "" : v.toLocaleString("en"))),
      },
    ],
    hooks: {
      draw: [
        (plot) => {
          const ratio = devicePixelRatio;
          plot.ctx.save();
          drawHandoffs(plot, data, ratio);
          drawOrders(plot, data, ratio);
          drawNodes(plot, data, ratio);
          drawNames(plot, deepest, ratio);
          plot.ctx.restore();
        },
      ],
    },
  };
}

function handoffText(handoff) {
  const route = [handoff.source, handoff.target].filter(Boolean).join(" → ");
  const state = handoff.state === "done" ? "" : stateWord(handoff.state);
  const pause =
    handoff.pause_ms === null ? "" : fill(gettext("pause %(pause)s ms"), { pause: Math.round(handoff.pause_ms) });
  return [`${stateWord(handoff.kind)} ${route}`, state, pause].filter(Boolean).join(gettext(", "));
}

function orderText(order) {
  const outcome = order.status === "filled" ? "" : gettext(", ") + stateWord(order.status);
  const reason = order.reason ? gettext(": ") + order.reason : "";
  const text = fill(gettext("%(side)s %(quantity)s %(symbol)s at %(price)s"), {
    ...order,
    side: stateWord(order.side),
  });
  return `${text}${outcome}${reason}`;
}

// The chart in `box`: the data it shows, its uPlot, and the index of the point under the crosshair, or null.
export class EquityChart {
  constructor(box) {
    this.box = box;
    this.plot = null;
    this.data = null;
    this.index = null;
    box.addEventListener("keydown", (event) => this.#move(event));
  }

  async load() {
    const response = await fetch(this.box.dataset.source, { credentials: "same-origin" });
    if (!response.ok || response.redirected) return;
    this.data = await response.json();
    this.draw();
  }

  draw() {
    if (!this.data || this.data.time.length < 2 || typeof uPlot === "undefined") return;
    const { time, equity } = this.data;
    const fallen = drawdowns(equity);
    const crosshairAt = this.plot ? this.index : null; // a new plot loses its crosshair
    this.plot?.destroy();
    this.box.replaceChildren();
    const plotOptions = options(this.box, this.data, Math.min(...equity), Math.min(...fallen));
    plotOptions.hooks.setCursor = [() => this.#showTooltip()];
    this.tooltip = document.createElement("div");
    this.tooltip.className = "chart-tooltip";
    this.tooltip.hidden = true;
    this.tooltip.setAttribute("role", "status");
    this.plot = new uPlot(plotOptions, [time, equity, fallen], this.box);
    this.fallen = fallen;
    this.plot.over.append(this.tooltip);
    this.box.tabIndex = 0;
    this.box.setAttribute("role", "group");
    const figures = {
      equity: money.format(equity.at(-1)),
      orders: this.data.orders.length,
      handoffs: this.data.handoffs.length,
    };
    const label = fill(gettext("Equity, now %(equity)s. Orders: %(orders)s, handoffs: %(handoffs)s."), figures);
    const keys = gettext("Arrow keys move along it, Enter opens a handoff.");
    this.box.setAttribute("aria-label", `${label} ${keys}`);
    if (crosshairAt !== null && document.activeElement === this.box) this.#goTo(Math.min(crosshairAt, time.length - 1));
  }

  // Return those of the orders or handoffs that are near the crosshair, which is at `x` pixels.
  #near(list, x) {
    return list.filter((each) => Math.abs(this.plot.valToPos(each.at, "x") - x) <= NEAR_PX);
  }

  #showTooltip() {
    const { idx, left } = this.plot?.cursor ?? {};
    if (idx === null || idx === undefined || left < 0) {
      this.tooltip.hidden = true;
      this.index = null;
      return;
    }
    this.index = idx;
    const at = this.data.time[idx];
    const tenure = this.data.tenures.find((t) => t.from <= at && (t.to === null || at < t.to));
    const lines = [
      fill(gettext("%(equity)s, %(fallen)s % below the peak"), {
        equity: money.format(this.data.equity[idx]),
        fallen: Math.abs(this.fallen[idx]).toFixed(2),
      }),
      tenure ? fill(gettext("%(node)s, r%(revision)s, epoch %(epoch)s"), tenure) : gettext("no node"),
    ];
    const marks = [...this.#near(this.data.handoffs, left).map(handoffText)];
    marks.push(...this.#near(this.data.orders, left).map(orderText));
    lines.push(...marks.slice(0, MAX_SHOWN));
    if (marks.length > MAX_SHOWN) lines.push(fill(gettext("%(more)s more"), { more: marks.length - MAX_SHOWN }));
    const head = document.createElement("b");
    head.textContent = localTime(at, true);
    const utc = document.createElement("small");
    utc.textContent = ` ${new Date(at * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;
    this.tooltip.replaceChildren(head, utc);
    for (const text of lines) {
      const line = document.createElement("p");
      line.textContent = text;
      this.tooltip.append(line);
    }
    this.tooltip.hidden = false;
    const wide = this.plot.over.clientWidth;
    const side = left > wide / 2 ? left - this.tooltip.offsetWidth - 12 : left + 12;
    this.tooltip.style.left = `${Math.max(side, 0)}px`;
  }

  #goTo(index) {
    this.plot.setCursor({ left: this.plot.valToPos(this.data.time[index], "x"), top: 10 });
  }

  #move(event) {
    if (!this.plot || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = this.data.time.length - 1;
    const step = event.shiftKey ? 20 : 1;
    const from = this.index ?? last;
    if (event.key === "ArrowLeft") this.#goTo(Math.max(from - step, 0));
    else if (event.key === "ArrowRight") this.#goTo(Math.min(from + step, last));
    else if (event.key === "Home") this.#goTo(0);
    else if (event.key === "End") this.#goTo(last);
    else if (event.key === "Enter" && this.index !== null) {
      const [handoff] = this.#near(this.data.handoffs, this.plot.cursor.left);
      if (handoff) location.assign(`${this.box.dataset.handoffs}${handoff.id}/`);
    } else return;
    event.preventDefault();
  }
}
