// One polite live region for screen readers: at most one sentence in two seconds, keeping the newest.
const PAUSE_MS = 2000;
const MAX_QUEUED = 3;
const queue = [];
let timer = 0;

function next() {
  const sentence = queue.shift();
  timer = sentence === undefined ? 0 : setTimeout(next, PAUSE_MS);
  if (sentence !== undefined) document.getElementById("announcer").textContent = sentence;
}

export function announce(sentence) {
  queue.push(sentence);
  if (queue.length > MAX_QUEUED) queue.shift();
  if (!timer) next();
}
