// Tables and the audit log are not pushed: they are fetched from the page's own address, so that a page
// under a live badge never shows old rows.
import { morph } from "./morph.js";

const PERIOD_MS = 3000;
const MAX_FAILURES = 2; // in a row, before the page says so
let busy = false;
let failures = 0;

function count(succeeded) {
  failures = succeeded ? 0 : failures + 1;
  const banner = document.getElementById("old-tables");
  if (banner) banner.hidden = failures < MAX_FAILURES;
}

export async function refresh() {
  const elements = [...document.querySelectorAll("[data-refresh]")];
  if (busy || !elements.length || document.hidden || document.body.classList.contains("stale")) return;
  busy = true;
  try {
    const response = await fetch(location.href, { credentials: "same-origin" });
    if (response.status === 404 && !document.querySelector("dialog[open]")) {
      location.reload(); // what the page is about was deleted meanwhile: it says so
      return;
    }
    count(response.ok && !response.redirected);
    if (failures) return;
    const newPage = new DOMParser().parseFromString(await response.text(), "text/html");
    // Another window chose another language: the rest of the page has to follow. What is typed into a dialog stays.
    const inSameLanguage = newPage.documentElement.lang === document.documentElement.lang;
    if (!inSameLanguage && !document.querySelector("dialog[open]")) {
      location.reload();
      return;
    }
    for (const element of elements) {
      const newElement = newPage.getElementById(element.id);
      if (newElement) morph(element, newElement);
    }
  } catch {
    // The badge shows that the server does not respond; the next period tries again.
  } finally {
    busy = false;
  }
}

export function startRefresh() {
  if (document.querySelector("[data-refresh]")) setInterval(refresh, PERIOD_MS);
  document.addEventListener("ginkgo-done", refresh);
}
