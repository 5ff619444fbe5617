// One polite region for the ear: at most one sentence in two seconds, the newest ones kept.
const PAUSE_MS = 2000;
const KEPT = 3;
const waiting = [];
let timer = 0;

function next() {
  const sentence = waiting.shift();
  timer = sentence === undefined ? 0 : setTimeout(next, PAUSE_MS);
  if (sentence !== undefined) document.getElementById("say").textContent = sentence;
}

export function say(sentence) {
  waiting.push(sentence);
  if (waiting.length > KEPT) waiting.shift();
  if (!timer) next();
}
