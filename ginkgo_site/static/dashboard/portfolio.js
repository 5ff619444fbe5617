// Page of one portfolio: its chart, and a refresh of the tables as soon as its head changes.
import { EquityChart } from "./chart.js";
import { refresh } from "./refresh.js";

const PERIOD_MS = 10000; // between two loads of the chart
const box = document.getElementById("equity-chart");
const chart = new EquityChart(box);

// Return a text of the page's head that changes with what the tables show.
function stamp() {
  return document.getElementById("part-head")?.dataset.stamp;
}

function load() {
  if (document.hidden || document.body.classList.contains("stale")) return;
  chart.load().catch(() => {}); // the badge shows that the server does not respond
}

let seen = stamp();
document.addEventListener("ginkgo-updated", () => {
  if (stamp() === seen) return;
  seen = stamp();
  refresh();
  load();
});
setInterval(load, PERIOD_MS);
addEventListener("ginkgo-theme", () => chart.draw());
addEventListener("resize", () => chart.draw());
load();
