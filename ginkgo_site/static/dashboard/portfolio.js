// Page of one portfolio: its chart, and a refresh of the tables as soon as its head changes.
import { EquityChart } from "./chart.js";
import { refresh } from "./refresh.js";

const EVERY_MS = 10000;
const box = document.getElementById("equity-chart");
const chart = new EquityChart(box);

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
setInterval(load, EVERY_MS);
addEventListener("ginkgo-theme", () => chart.draw());
addEventListener("resize", () => chart.draw());
load();
