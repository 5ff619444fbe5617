// The form of a portfolio: another strategy or feed shows other fields, and what was typed stays.
import { startSymbolPickers } from "./symbol_picker.js";

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

export function startPortfolioForm() {
  startSymbolPickers();
  document.addEventListener("ginkgo-form", () => startSymbolPickers());
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-rebuild]")) rebuild(event.target.form, event.target.name);
  });
}
