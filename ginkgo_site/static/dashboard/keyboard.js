// The board is one tab stop: arrows move among its cards, Enter opens one, M migrates it, W asks what
// if its node were lost, the menu key or a full stop opens its menu. The letters work only while a
// card has the focus.
let current = ""; // the portfolio whose card is the tab stop

function cards() {
  return [...document.querySelectorAll(".card")].filter((card) => card.offsetParent);
}

function settle() {
  const all = cards();
  if (!all.some((card) => card.dataset.portfolio === current)) current = all[0]?.dataset.portfolio ?? "";
  for (const card of document.querySelectorAll(".card")) {
    card.setAttribute("tabindex", card.dataset.portfolio === current ? "0" : "-1");
    for (const inner of card.querySelectorAll(".nm a, .nm button")) inner.setAttribute("tabindex", "-1");
  }
}

function go(card) {
  if (!card) return;
  current = card.dataset.portfolio;
  settle();
  card.focus();
}

function beside(card, step) {
  const columns = [...document.querySelectorAll(".col")].filter((c) => c.querySelector(".card"));
  const column = columns[columns.indexOf(card.closest(".col")) + step];
  if (!column) return null;
  const mine = [...card.parentNode.querySelectorAll(".card")].indexOf(card);
  const theirs = [...column.querySelectorAll(".card")];
  return theirs[Math.min(mine, theirs.length - 1)];
}

function along(card, step) {
  const column = [...card.parentNode.querySelectorAll(".card")];
  return column[column.indexOf(card) + step];
}

function press(event, card) {
  const name = CSS.escape(card.dataset.portfolio);
  switch (event.key) {
    case "ArrowDown":
      go(along(card, 1));
      break;
    case "ArrowUp":
      go(along(card, -1));
      break;
    case "ArrowRight":
      go(beside(card, 1));
      break;
    case "ArrowLeft":
      go(beside(card, -1));
      break;
    case "Enter":
      card.querySelector(".nm a").click();
      break;
    case "m":
    case "M":
      document.querySelector(`#cardmenu-${name} a[href$="/migrate/"]`)?.click();
      break;
    case "w":
    case "W":
      location.assign(`/what-if/?lose=${encodeURIComponent(card.closest(".col").dataset.node)}`);
      break;
    case ".":
    case "ContextMenu":
      card.querySelector(".menu-button")?.click();
      break;
    default:
      return;
  }
  event.preventDefault();
}

export function startKeys() {
  if (!document.getElementById("board")) return;
  settle();
  document.addEventListener("ginkgo-parts", settle);
  document.addEventListener("focusin", (event) => {
    const card = event.target.closest?.(".card");
    if (card && card.dataset.portfolio !== current) {
      current = card.dataset.portfolio;
      settle();
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches?.(".card")) press(event, event.target);
  });
}
