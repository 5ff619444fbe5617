// The equity curve with a mark per handoff and, on the same time axis, a band of the nodes that ran the
// portfolio. If the data cannot be fetched, the curve drawn by the server stays.
const BAND_HEIGHT = 16;
const money = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const NODE_COLOURS = ["#4d5a53", "#66736b", "#737158", "#3f6f78", "#6c6a86", "#7d6a45"];

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function clock(seconds) {
  return new Date(seconds * 1000).toISOString().slice(11, 19);
}

function kindColour(handoff) {
  if (handoff.kind === "failover" || ["failed", "rolled_back"].includes(handoff.state)) return colour("--bad");
  return handoff.kind === "reload" ? colour("--brand") : colour("--accent");
}

// The band is drawn in the padding below the plot and leaves the plot's scale unchanged.
function drawHandoffsAndNodes(data) {
  const names = [...new Set(data.tenures.map((t) => t.node))].sort();
  return (plot) => {
    const { ctx } = plot;
    const ratio = devicePixelRatio;
    const { left, top, width, height } = plot.bbox;
    const x = (at) => plot.valToPos(at, "x", true);
    const inside = (at) => at >= plot.scales.x.min && at <= plot.scales.x.max;
    ctx.save();
    ctx.lineWidth = ratio;
    for (const handoff of data.handoffs) {
      if (!inside(handoff.at)) continue;
      const at = x(handoff.at);
      ctx.strokeStyle = ctx.fillStyle = kindColour(handoff);
      ctx.globalAlpha = 0.28;
      ctx.beginPath();
      ctx.moveTo(at, top);
      ctx.lineTo(at, top + height);
      ctx.stroke();
      ctx.globalAlpha = 1;
      ctx.beginPath();
      ctx.arc(at, top + height - 5 * ratio, 3 * ratio, 0, 2 * Math.PI);
      ctx.fill();
    }
    const y = plot.height * ratio - BAND_HEIGHT * ratio;
    ctx.font = `600 ${10 * ratio}px Inter, system-ui, sans-serif`;
    ctx.textBaseline = "middle";
    ctx.textAlign = "center";
    for (const tenure of data.tenures) {
      const from = Math.max(x(tenure.from), left);
      const to = Math.min(tenure.to === null ? left + width : x(tenure.to), left + width);
      if (to <= from) continue;
      ctx.fillStyle = NODE_COLOURS[names.indexOf(tenure.node) % NODE_COLOURS.length];
      ctx.fillRect(from, y, Math.max(to - from - ratio, ratio), (BAND_HEIGHT - 2) * ratio);
      if (ctx.measureText(tenure.node).width + 8 * ratio < to - from) {
        ctx.fillStyle = "#fff";
        ctx.fillText(tenure.node, (from + to) / 2, y + (BAND_HEIGHT / 2 - 1) * ratio);
      }
    }
    ctx.restore();
  };
}

// The highest equity shown so far: the area between it and the curve is the drawdown.
function peaks(values) {
  let peak = -Infinity;
  return values.map((value) => {
    peak = Math.max(peak, value);
    return peak;
  });
}

function drawdown(plot, at) {
  const [, peak, equity] = plot.data;
  return at === null || !(peak[at] > 0) ? "–" : `${((100 * (peak[at] - equity[at])) / peak[at]).toFixed(2)} %`;
}

function options(box, data) {
  const axis = {
    stroke: colour("--ink-3"),
    grid: { stroke: colour("--grid"), width: 1 },
    ticks: { show: false },
    font: "11px Inter, system-ui, sans-serif",
  };
  return {
    width: box.clientWidth - 24,
    height: 292,
    padding: [10, 4, BAND_HEIGHT + 4, 4],
    cursor: { y: false, points: { size: 6 } },
    scales: { x: { time: true, range: (_, first) => [first, Math.max(data.until, first + 60)] } },
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    series: [
      { label: "UTC", value: (_, at) => (at === null ? "–" : clock(at)) },
      {
        label: "drawdown",
        width: 0,
        points: { show: false },
        value: (plot, _value, _series, at) => drawdown(plot, at),
      },
      {
        label: "equity",
        stroke: colour("--ink"),
        width: 1.5,
        points: { show: false },
        value: (_, v) => (v === null ? "–" : money.format(v)),
      },
    ],
    bands: [{ series: [1, 2], fill: colour("--drawdown") }],
    axes: [
      {
        ...axis,
        values: (_, ticks) =>
          ticks.map((at) => clock(at).slice(0, ticks.length > 1 && ticks[1] - ticks[0] < 60 ? 8 : 5)),
      },
      { ...axis, side: 1, size: 74, values: (_, ticks) => ticks.map((v) => v.toLocaleString("en")) },
    ],
    hooks: { draw: [drawHandoffsAndNodes(data)] },
  };
}

export class EquityChart {
  constructor(box) {
    this.box = box;
    this.plot = null;
    this.data = null;
  }

  async load() {
    const response = await fetch(this.box.dataset.source, { credentials: "same-origin" });
    if (!response.ok || response.redirected) return;
    this.data = await response.json();
    this.draw();
  }

  draw() {
    if (!this.data || this.data.time.length < 2 || typeof uPlot === "undefined") return;
    this.plot?.destroy();
    this.box.replaceChildren();
    const { time, equity } = this.data;
    this.plot = new uPlot(options(this.box, this.data), [time, peaks(equity), equity], this.box);
    const canvas = this.box.querySelector("canvas");
    const last = this.data.equity.at(-1);
    canvas.setAttribute("role", "img");
    canvas.setAttribute(
      "aria-label",
      `Equity, now ${money.format(last)}, with ${this.data.handoffs.length} handoffs and the node that ran it`,
    );
  }
}
