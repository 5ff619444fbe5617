// The live region of the page for screen readers: one sentence in two seconds. Of more than three that wait, the
// oldest are dropped.
const PAUSE_MS = 2000;
const MAX_QUEUED = 3;
const queue = [];
let timer = 0;

function announceNext() {
  const sentence = queue.shift();
  timer = sentence === undefined ? 0 : setTimeout(announceNext, PAUSE_MS);
  if (sentence !== undefined) document.getElementById("announcer").textContent = sentence;
}

export function announce(sentence) {
  queue.push(sentence);
  if (queue.length > MAX_QUEUED) queue.shift();
  if (!timer) announceNext();
}
