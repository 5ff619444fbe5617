// Count between two snapshots: leases run down, steps and the head advance. All stop while figures are stale.
const integers = new Intl.NumberFormat("en");
let received = performance.now();
let stopped = false;

function countLeases(since) {
  for (const lease of document.querySelectorAll(".lease")) {
    const ttl = Number(lease.dataset.ttl) || 30;
    const left = Math.max(Number(lease.dataset.left) - since, 0);
    const seconds = Math.ceil(left);
    lease.querySelector(".fg").setAttribute("width", String(Math.min((300 * left) / ttl, 300)));
    const text = `${seconds} s`;
    const output = lease.querySelector("output");
    if (output.textContent !== text) {
      output.textContent = text;
      lease.setAttribute("aria-valuenow", String(seconds));
      lease.setAttribute("aria-valuetext", text);
    }
    if (lease.dataset.level !== "out") {
      lease.dataset.level = left <= 0 ? "out" : left < (ttl * 2) / 3 - 1 ? "late" : "ok";
    }
  }
}

function countSteps(since) {
  for (const step of document.querySelectorAll(".steps [data-limit]")) {
    const limit = Number(step.dataset.limit);
    const elapsed = Number(step.dataset.elapsed) + since;
    step.querySelector(".fg").setAttribute("width", String(Math.min(Math.max((100 * elapsed) / limit, 4), 100)));
    step.querySelector("span").textContent = `${elapsed.toFixed(1)} of ${limit.toFixed(0)} s`;
  }
}

function countHead(since) {
  const element = document.getElementById("head");
  if (element)
    element.textContent = integers.format(
      Math.floor(Number(element.dataset.head) + since * Number(element.dataset.rate)),
    );
}

export function tick() {
  if (stopped) return;
  const since = (performance.now() - received) / 1000;
  countLeases(since);
  countSteps(since);
  countHead(since);
}

export function snapshotArrived() {
  received = performance.now();
  stopped = false;
  tick();
}

export function stopClocks() {
  stopped = true;
}

export function startClocks() {
  setInterval(tick, 250);
}
