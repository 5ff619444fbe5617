// On a narrow screen each row of a wide table is a block of labelled values instead of cells beyond the edge. The
// labels are the headings of the columns; the styles are those of `td[data-label]`.
const WIDE = 5; // columns; tables with fewer fit

// A heading that only screen readers get is no label to be shown.
function labelOf(heading) {
  const isHidden = heading.closest(".visually-hidden") || heading.querySelector(".visually-hidden");
  return isHidden ? "" : heading.textContent.trim();
}

// Label the cells of the tables in `root`.
export function labelCells(root) {
  for (const table of root.querySelectorAll("table.table")) {
    const headings = [...table.querySelectorAll(":scope > thead th")].map(labelOf);
    if (headings.length < WIDE) continue;
    for (const row of table.querySelectorAll(":scope > tbody > tr")) {
      if (row.children.length !== headings.length) continue;
      for (const [i, cell] of [...row.children].entries()) {
        cell.dataset.label = headings[i];
        const isBlank = /^[\s–]*$/.test(cell.textContent) && !cell.querySelector("svg, input, button");
        cell.toggleAttribute("data-blank", isBlank);
      }
    }
  }
}

export function startNarrowTables() {
  labelCells(document);
}
