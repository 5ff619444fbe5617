// On a narrow screen the columns are an accordion: the first in trouble is open, the rest are closed.
const chosen = new Map(); // node → open, where the person chose

function settle() {
  const columns = [...document.querySelectorAll(".col")];
  const trouble = columns.some((c) => c.hasAttribute("data-first"));
  columns.forEach((column, place) => {
    const byItself = trouble ? column.hasAttribute("data-first") : place === 0;
    const open = chosen.get(column.dataset.node) ?? byItself;
    column.classList.toggle("open", open);
    column.querySelector("[data-fold]")?.setAttribute("aria-expanded", String(open));
  });
}

export function startColumns() {
  if (!document.getElementById("board")) return;
  settle();
  document.addEventListener("ginkgo-parts", settle);
  document.addEventListener("click", (event) => {
    const fold = event.target.closest("[data-fold]");
    if (!fold) return;
    const column = fold.closest(".col");
    chosen.set(column.dataset.node, !column.classList.contains("open"));
    settle();
  });
}
