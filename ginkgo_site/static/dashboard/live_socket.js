// The socket: parts that changed arrive about once a second. Five seconds without a snapshot and the
// page says that it is stale; it tries again by itself, at once first, then less and less often.

import { say } from "./announce.js";
import { applyParts } from "./apply_updates.js";
import { snapshotArrived, stopClocks } from "./clocks.js";

const STALE_AFTER_MS = 5000;
const FIRST_RETRY_MS = 300;
const LAST_RETRY_MS = 5000;

const badge = document.getElementById("live");
const banner = document.getElementById("stale-banner");

let socket = null;
let retryMs = FIRST_RETRY_MS;
let retryTimer = 0;
let nextTryAt = 0;
let lastAt = performance.now(); // when the newest snapshot came
let lastWord = 0; // when this socket last said anything, or was opened
let ageThen = 0; // how old it was then, in ms
let figuresOf = badge?.dataset.at || "";
let cause = "The server does not answer.";
let state = "";

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function enter(next) {
  if (state === next) return;
  state = next;
  badge.dataset.state = next;
  const stale = next === "stale";
  document.body.classList.toggle("stale", stale);
  banner.hidden = !stale;
  if (stale) {
    stopClocks();
    say(`Stale since ${figuresOf}`);
  }
}

// A connection that died without a word stays open for the browser, for minutes: leave it.
function leaveSilentSocket() {
  if (socket && performance.now() - lastWord > STALE_AFTER_MS) {
    abandon();
    retry();
  }
}

function abandon() {
  const old = socket;
  socket = null;
  old?.close();
}

function paint() {
  leaveSilentSocket();
  const silent = performance.now() - lastAt;
  const text = badge.lastElementChild;
  if (silent > STALE_AFTER_MS) {
    enter("stale");
    write(text, `Stale since ${figuresOf}`);
    write(banner.querySelector("[data-say=since]"), `Stale since ${figuresOf}.`);
    const left = Math.max(Math.ceil((nextTryAt - performance.now()) / 1000), 0);
    const trying = socket ? "" : ` Trying again in ${left} s.`;
    write(
      banner.querySelector("[data-say=why]"),
      `${cause} What you see is from then; nodes go on without this page.${trying}`,
    );
  } else if (!socket || socket.readyState !== WebSocket.OPEN) {
    if (state) {
      enter("reconnecting");
      write(text, `Reconnecting · figures of ${figuresOf}`);
    }
  } else if (state) {
    enter("live");
    write(text, `Live · ${((silent + ageThen) / 1000).toFixed(1)} s`);
  }
}

function receive(message) {
  if (message.type === "unreadable") {
    cause = message.sentence;
    return;
  }
  if (message.type !== "parts") return;
  lastAt = performance.now();
  ageThen = message.age_ms;
  figuresOf = message.at;
  cause = "The server does not answer.";
  state ||= "live";
  if (state === "stale") state = "recovered";
  snapshotArrived();
  applyParts(message);
  snapshotArrived();
  for (const sentence of message.say || []) say(sentence);
  paint();
}

function retry() {
  if (retryTimer) return;
  nextTryAt = performance.now() + retryMs;
  retryTimer = setTimeout(() => {
    retryTimer = 0;
    connect();
  }, retryMs);
  retryMs = Math.min(retryMs * 1.7, LAST_RETRY_MS);
}

function connect() {
  clearTimeout(retryTimer);
  retryTimer = 0;
  const address = new URL("/ws/board/", location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  address.searchParams.set("view", badge.dataset.view);
  address.searchParams.set("language", badge.dataset.language);
  const mine = new WebSocket(address);
  socket = mine;
  lastWord = performance.now();
  mine.onmessage = (event) => {
    if (socket !== mine) return;
    lastWord = performance.now();
    retryMs = FIRST_RETRY_MS;
    receive(JSON.parse(event.data));
  };
  mine.onclose = (event) => {
    if (socket !== mine) return;
    socket = null;
    if (event.code === 4401)
      location.reload(); // signed out, or no longer allowed: the page says it
    else retry();
    paint();
  };
}

export function startLive() {
  if (!badge || !badge.dataset.view) return;
  state = "reconnecting";
  badge.dataset.state = "reconnecting";
  connect();
  setInterval(paint, 100);
  document.querySelector("[data-try-now]")?.addEventListener("click", () => {
    retryMs = FIRST_RETRY_MS;
    abandon();
    connect();
  });
  addEventListener("online", () => socket || connect());
}
