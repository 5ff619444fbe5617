// What the socket does not carry (tables, audit trails) is fetched again from the page's own address:
// a page under a live badge must not show old rows.
import { morph } from "./morph.js";

const EVERY_MS = 3000;
let busy = false;

export async function refresh() {
  const here = [...document.querySelectorAll("[data-refresh]")];
  if (busy || !here.length || document.hidden || document.body.classList.contains("stale")) return;
  busy = true;
  try {
    const answer = await fetch(location.href, { credentials: "same-origin" });
    if (!answer.ok || answer.redirected) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const element of here) {
      const wanted = fresh.getElementById(element.id);
      if (wanted) morph(element, document.importNode(wanted, true));
    }
  } catch {
    // The badge says that the server does not answer; the next turn tries again.
  } finally {
    busy = false;
  }
}

export function startRefresh() {
  if (document.querySelector("[data-refresh]")) setInterval(refresh, EVERY_MS);
  document.addEventListener("ginkgo-done", refresh);
}
