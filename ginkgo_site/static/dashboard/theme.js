// Set the chosen theme before the first paint, so that a dark page never flashes white.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  try {
    const chosen = localStorage.getItem("ginkgo-theme");
    if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  } catch {
    /* storage is disabled: use the system's theme */
  }
})();
