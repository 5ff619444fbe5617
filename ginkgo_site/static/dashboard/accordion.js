// On a narrow screen the columns of the board are an accordion. At first the first column in trouble is open, or the
// first of all if none is; the others are closed.
const chosen = new Map(); // node → whether its column is open, of the columns that the user has opened or closed

function update() {
  const columns = [...document.querySelectorAll(".col:not([hidden])")];
  const inTrouble = columns.some((c) => c.hasAttribute("data-first"));
  columns.forEach((column, index) => {
    const openByDefault = inTrouble ? column.hasAttribute("data-first") : index === 0;
    const open = chosen.get(column.dataset.node) ?? openByDefault;
    if (column.classList.contains("open") === open) return;
    column.classList.toggle("open", open);
    column.querySelector("[data-fold]")?.setAttribute("aria-expanded", String(open));
  });
}

export function startAccordion() {
  if (!document.getElementById("board")) return;
  update();
  document.addEventListener("ginkgo-updated", update);
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-fold]");
    if (!button) return;
    const column = button.closest(".col");
    chosen.set(column.dataset.node, !column.classList.contains("open"));
    update();
  });
}
