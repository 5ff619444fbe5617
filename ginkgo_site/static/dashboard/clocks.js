import { fill, gettext } from "./words.js";

// Count between two snapshots: leases run down, steps of handoffs and the head of the feed advance. All stop while the
// figures are stale. `since`: seconds since the newest snapshot arrived.
const integers = new Intl.NumberFormat("en");
let receivedAt = performance.now(); // when the newest snapshot arrived
let stopped = false;
let serverTime = null; // of the newest snapshot, epoch s

function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

// As `lease_level` of dashboard/board/columns.py.
function level(left, ttl) {
  if (left <= 0) return "out";
  return left < (ttl * 2) / 3 - 1 ? "late" : "ok"; // one second is for a heartbeat in transit
}

// Only leases in view are counted down; the others once they come into view.
function countLeases(since) {
  if (serverTime === null) return;
  for (const lease of document.querySelectorAll(".lease")) {
    const known = lease.hasAttribute("aria-valuenow"); // a meter has to have a value, in view or not
    if (known && !lease.checkVisibility({ contentVisibilityAuto: true })) continue;
    const ttl = Number(lease.dataset.ttl) || 30;
    const left = Math.max(Number(lease.dataset.until) - serverTime - since, 0);
    const seconds = Math.ceil(left);
    setAttribute(lease.querySelector(".fg"), "width", Math.min((300 * left) / ttl, 300).toFixed(0));
    setAttribute(lease, "data-level", level(left, ttl));
    const text = fill(gettext("%(number)s s"), { number: seconds });
    const output = lease.querySelector("output");
    if (output.textContent !== text) {
      output.textContent = text;
      lease.setAttribute("aria-valuenow", String(seconds));
      lease.setAttribute("aria-valuetext", text);
    }
  }
}

function countSteps(since) {
  for (const step of document.querySelectorAll(".steps [data-limit]")) {
    const limit = Number(step.dataset.limit);
    const elapsed = Number(step.dataset.elapsed) + since;
    step.querySelector(".fg").setAttribute("width", String(Math.min(Math.max((100 * elapsed) / limit, 4), 100)));
    step.querySelector("span").textContent = fill(gettext("%(elapsed)s of %(limit)s s"), {
      elapsed: elapsed.toFixed(1),
      limit: limit.toFixed(0),
    });
  }
}

function countHead(since) {
  const element = document.getElementById("head");
  if (element)
    element.textContent = integers.format(
      Math.floor(Number(element.dataset.head) + since * Number(element.dataset.rate)),
    );
}

function tick() {
  if (stopped) return;
  const since = (performance.now() - receivedAt) / 1000;
  countLeases(since);
  countSteps(since);
  countHead(since);
}

// Leases run down from this time, epoch s.
export function setServerTime(now) {
  if (now !== null && now !== undefined) serverTime = now;
}

export function snapshotArrived() {
  receivedAt = performance.now();
  stopped = false;
  tick();
}

export function stopClocks() {
  stopped = true;
}

export function startClocks() {
  setInterval(tick, 250);
}
