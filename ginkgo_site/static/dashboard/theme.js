// Before the first paint: the chosen theme, so that a dark desk never flashes white.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  try {
    const chosen = localStorage.getItem("ginkgo-theme");
    if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  } catch {
    /* storage is off: the system's theme */
  }
})();
