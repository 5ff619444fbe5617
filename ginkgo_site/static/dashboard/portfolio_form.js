// The form of a portfolio: another strategy or feed shows other fields, and what was typed stays.
import { startSymbolPickers } from "./symbol_picker.js";
import { fill, gettext } from "./words.js";

// Replace the form by one for the strategy and feed chosen in it; the field named `chosen` gets the focus.
async function rebuild(form, chosen) {
  const body = new URLSearchParams(new FormData(form));
  body.set("act", "rebuild");
  form.classList.add("waiting");
  try {
    const response = await fetch(form.action, {
      method: "POST",
      body,
      credentials: "same-origin",
      headers: { "X-Dashboard": "dialog" },
    });
    if (!response.ok || response.redirected) throw new Error(response.statusText);
    const template = document.createElement("template");
    template.innerHTML = await response.text();
    const next = template.content.querySelector("form");
    const heading = form.querySelector(".dialog-title");
    form.replaceWith(next);
    if (heading) next.querySelector(".dialog-title").replaceWith(heading); // h1 on a page, h2 in a dialog
    startSymbolPickers(next);
    next.elements[chosen]?.focus();
  } catch {
    form.requestSubmit(form.querySelector("[value=check]")); // the answer has the fields, or the browser's error
  }
}

// Request the backtest of a dry run, which takes seconds, and show its result in `box`; meanwhile count the seconds.
async function backtest(box) {
  const body = new URLSearchParams(new FormData(box.closest("form")));
  body.set("act", "backtest");
  const begun = performance.now();
  const say = (text) => {
    box.textContent = text;
  };
  const count = () => say(box.dataset.words.replace("{}", Math.floor((performance.now() - begun) / 1000)));
  box.setAttribute("role", "status");
  count();
  const timer = setInterval(count, 1000);
  try {
    const response = await fetch(box.closest("form").action, {
      method: "POST",
      body,
      credentials: "same-origin",
      headers: { "X-Dashboard": "dialog" },
    });
    const template = document.createElement("template");
    template.innerHTML = await response.text();
    const result = template.content.querySelector("[data-backtest-result]");
    clearInterval(timer);
    if (result && !response.redirected) {
      box.replaceChildren(result);
      box.closest(".dry-run").scrollIntoView({ block: "end" });
    } else {
      const text = gettext("The backtest could not be run: the server answered %(status)s.");
      say(fill(text, { status: response.status }));
    }
  } catch {
    clearInterval(timer);
    say(gettext("The backtest could not be run: the server does not respond. What you typed is kept."));
  }
}

function startBacktest() {
  const box = document.querySelector("[data-backtest]:not([role])");
  if (box) backtest(box);
}

// Rebuild the form if its strategy or feed is not the one for which the server made it: a choice that was made before
// this script ran, or that the browser restored.
function startRebuild() {
  for (const select of document.querySelectorAll("select[data-rebuild]")) {
    const options = [...select.options];
    const shown = options.find((option) => option.defaultSelected) ?? options[0];
    if (shown && select.value !== shown.value) return rebuild(select.form, select.name);
  }
}

export function startPortfolioForm() {
  startSymbolPickers();
  startRebuild();
  startBacktest();
  document.addEventListener("ginkgo-form", () => {
    startSymbolPickers();
    startBacktest();
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-rebuild]")) rebuild(event.target.form, event.target.name);
  });
}
