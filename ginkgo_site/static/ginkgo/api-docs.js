// Give Swagger UI the theme of the desk before the first paint: it is dark only with this class.
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () =>
    root.classList.toggle("dark-mode", (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark");
  system.addEventListener("change", apply);
  apply();
})();
