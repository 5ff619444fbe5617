// Websocket of the page: changed parts arrive about once a second. After five seconds without a snapshot
// the page is marked stale. Reconnects are tried at once, then with growing delays.

import { announce } from "./announce.js";
import { applyUpdates } from "./apply_updates.js";
import { snapshotArrived, stopClocks } from "./clocks.js";
import { fill, gettext } from "./words.js";

const STALE_AFTER_MS = 5000;
const FIRST_RETRY_MS = 300;
const LAST_RETRY_MS = 5000;
// Codes with which the server closes the socket (dashboard/consumer.py).
const NOT_ALLOWED = 4401;
const TOO_MANY = 4429;

const badge = document.getElementById("live");
const banner = document.getElementById("stale-banner");

let socket = null;
let retryMs = FIRST_RETRY_MS;
let retryTimer = 0;
let nextTryAt = 0;
let lastSnapshotAt = performance.now(); // when the newest snapshot arrived
let lastMessageAt = 0; // when this socket last received a message, or was opened
let ageOnArrival = 0; // of the newest snapshot, in ms
let figuresAt = badge?.dataset.at || "";
let cause = gettext("The server does not respond.");
let state = ""; // as the badge shows it: reconnecting, live or stale; recovered until the badge is updated

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function staleSince() {
  return fill(gettext("Stale since %(at)s"), { at: figuresAt });
}

function setState(next) {
  if (state === next) return;
  state = next;
  badge.dataset.state = next;
  const stale = next === "stale";
  document.body.classList.toggle("stale", stale);
  banner.hidden = !stale;
  if (stale) {
    stopClocks();
    announce(staleSince());
  }
}

// To the browser a connection that failed silently looks open for minutes: close it.
function closeSilentSocket() {
  if (socket && performance.now() - lastMessageAt > STALE_AFTER_MS) {
    closeSocket();
    retry();
  }
}

function closeSocket() {
  const old = socket;
  socket = null;
  old?.close();
}

function updateBadge() {
  closeSilentSocket();
  const silent = performance.now() - lastSnapshotAt;
  const text = badge.lastElementChild;
  if (silent > STALE_AFTER_MS) {
    setState("stale");
    setText(text, staleSince());
    setText(banner.querySelector("[data-text=since]"), `${staleSince()}${gettext(".")}`);
    const left = Math.max(Math.ceil((nextTryAt - performance.now()) / 1000), 0);
    const then = gettext("The figures shown are from then. Nodes keep running without this page.");
    const trying = socket ? "" : fill(gettext("Trying again in %(left)s s."), { left });
    setText(banner.querySelector("[data-text=why]"), [cause, then, trying].filter(Boolean).join(" "));
  } else if (!socket || socket.readyState !== WebSocket.OPEN) {
    if (state) {
      setState("reconnecting");
      setText(text, fill(gettext("Reconnecting · figures from %(at)s"), { at: figuresAt }));
    }
  } else if (state) {
    setState("live");
    const age = ((silent + ageOnArrival) / 1000).toFixed(1);
    setText(text, fill(gettext("Live · %(age)s s"), { age }));
  }
  badge.title = state && state !== "live" ? text.textContent : ""; // a narrow bar cuts it
}

function receive(message) {
  if (message.type === "unreadable") {
    cause = message.sentence;
    return;
  }
  if (message.type !== "parts") return;
  lastSnapshotAt = performance.now();
  ageOnArrival = message.age_ms;
  figuresAt = message.at;
  cause = gettext("The server does not respond.");
  state ||= "live";
  if (state === "stale") state = "recovered";
  applyUpdates(message);
  snapshotArrived();
  for (const sentence of message.announce || []) announce(sentence);
  updateBadge();
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
  lastMessageAt = performance.now();
  mine.onmessage = (event) => {
    if (socket !== mine) return;
    lastMessageAt = performance.now();
    retryMs = FIRST_RETRY_MS;
    receive(JSON.parse(event.data));
  };
  mine.onclose = (event) => {
    if (socket !== mine) return;
    socket = null;
    // Signed out or no longer allowed: the reloaded page shows it. What is typed in a dialog stays meanwhile.
    if (event.code === NOT_ALLOWED && !document.querySelector("dialog[open]")) location.reload();
    else retry();
    if (event.code === TOO_MANY) cause = event.reason;
    updateBadge();
  };
}

export function startLiveSocket() {
  if (!badge || !badge.dataset.view) return;
  state = "reconnecting";
  badge.dataset.state = "reconnecting";
  connect();
  setInterval(updateBadge, 100);
  document.querySelector("[data-try-now]")?.addEventListener("click", () => {
    retryMs = FIRST_RETRY_MS;
    closeSocket();
    connect();
  });
  addEventListener("online", () => socket || connect());
}
