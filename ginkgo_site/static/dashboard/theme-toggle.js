import { gettext } from "./words.js";

// Cycle system → dark → light → system. "system" removes the stored choice.
const ORDER = ["system", "dark", "light"];
const LABEL = {
  system: gettext("Theme: system"),
  dark: gettext("Theme: dark"),
  light: gettext("Theme: light"),
};
const GLYPH = { system: "#i-theme", dark: "#i-dark", light: "#i-light" };

function chosen() {
  return document.documentElement.dataset.theme || "system";
}

function show(button) {
  const now = chosen();
  button.title = LABEL[now];
  button.setAttribute("aria-label", LABEL[now]);
  button.querySelector("use").setAttribute("href", GLYPH[now]);
}

function choose(theme) {
  const root = document.documentElement;
  if (theme === "system") delete root.dataset.theme;
  else root.dataset.theme = theme;
  try {
    if (theme === "system") localStorage.removeItem("ginkgo-theme");
    else localStorage.setItem("ginkgo-theme", theme);
  } catch {
    /* storage is disabled: the choice lasts until the next page */
  }
  dispatchEvent(new Event("ginkgo-theme"));
}

export function startThemeToggle() {
  const button = document.querySelector("[data-theme-toggle]");
  if (!button) return;
  button.hidden = false;
  show(button);
  button.addEventListener("click", () => {
    choose(ORDER[(ORDER.indexOf(chosen()) + 1) % ORDER.length]);
    show(button);
  });
}
