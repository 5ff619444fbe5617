// The page of one portfolio: its chart, and tables that follow what the head says.
import { EquityChart } from "./chart.js";
import { morph } from "./morph.js";

const TABLES = ["orders", "tenures", "revisions"];
const EVERY_MS = 10000;

const box = document.getElementById("equity-chart");
const chart = box && new EquityChart(box);
let stamp = document.getElementById("part-head")?.dataset.stamp;
let busy = false;

async function refresh() {
  if (busy || document.hidden || document.body.classList.contains("stale")) return;
  busy = true;
  try {
    const answer = await fetch(location.href, { credentials: "same-origin" });
    if (!answer.ok || answer.redirected) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of TABLES) {
      const [here, wanted] = [document.getElementById(id), fresh.getElementById(id)];
      if (here && wanted) morph(here, document.importNode(wanted, true));
    }
    await chart?.load();
  } catch {
    // The badge says that the server does not answer; the next turn tries again.
  } finally {
    busy = false;
  }
}

document.addEventListener("ginkgo-parts", () => {
  const now = document.getElementById("part-head")?.dataset.stamp;
  if (now !== stamp) {
    stamp = now;
    refresh();
  }
});
setInterval(refresh, EVERY_MS);
addEventListener("ginkgo-theme", () => chart?.draw());
addEventListener("resize", () => chart?.draw());
chart?.load().catch(() => {});
