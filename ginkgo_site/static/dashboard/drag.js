// Drag a card to a node to migrate its portfolio there; a selected card takes the other selected ones along.
// Meanwhile every column says, in the words of the migrate form, whether its node could take the portfolio, or how
// many of several. A drop opens that form with the node chosen; nothing moves before the form is sent. Selected cards
// may also be dropped on the bar that counts them: then the balancer chooses. Escape ends the drag. By keyboard: M on
// a card.
import { openDialog, request } from "./dialogs.js";
import { formFor, moveSelected, selection } from "./selection.js";
import { gettext } from "./words.js";

const TARGETS = ".col, #selection-bar";

// What is dragged, or null: {card, group: names of all lifted portfolios, null for one, form: address of the migrate
// form, null for too many, answers: what `answersOf` returns, or null while that is unknown}
let lifted = null;
let over = null; // the column under the pointer

// Return node → {can: yes, risk or no, texts: sentences} as the migrate form at this address has it; null without the
// form.
async function answersOf(form) {
  const response = await request(form);
  if (!response.ok || response.redirected) return null;
  const template = document.createElement("template");
  template.innerHTML = await response.text();
  const labels = [...template.content.querySelectorAll("[data-target]")];
  return new Map(
    labels.map((label) => {
      const feasible = label.matches(".risky") ? "risk" : "yes";
      const reason = label.querySelector(".target-reason");
      const parts = reason.childElementCount > 1 ? [...reason.children] : [reason];
      const texts = parts.map((part) => part.textContent.trim());
      return [label.dataset.target, { can: label.dataset.feasible === "true" ? feasible : "no", texts }];
    }),
  );
}

function showAnswers(answers) {
  for (const target of document.querySelectorAll(TARGETS)) {
    const answer = answers.get(target.dataset.node);
    if (!answer) continue;
    target.dataset.can = answer.can;
    if (target.matches(".col")) {
      const note = document.createElement("div");
      note.className = "drop-note";
      note.append(
        ...answer.texts.map((text) => {
          const line = document.createElement("p");
          line.textContent = text;
          return line;
        }),
      );
      target.querySelector("header").after(note);
    } else target.querySelector("[data-answer]").textContent = answer.texts.join(gettext("; "));
  }
}

// Return the names of all selected portfolios if the card is one of several, else null.
function groupOf(card) {
  const names = selection();
  return names.length > 1 && names.includes(card.dataset.portfolio) ? names : null;
}

function liftedCards() {
  const group = lifted.group ?? [lifted.card.dataset.portfolio];
  return [...document.querySelectorAll(".card")].filter((card) => group.includes(card.dataset.portfolio));
}

async function lift(card) {
  const group = groupOf(card);
  const own = `/portfolios/${encodeURIComponent(card.dataset.portfolio)}/migrate/`;
  const mine = { card, group, form: group ? formFor(group) : own, answers: null };
  lifted = mine;
  document.getElementById("selection-bar").toggleAttribute("data-offered", group !== null);
  // Without answers a drop opens the form, which has them.
  const answers = mine.form && (await answersOf(mine.form).catch(() => null));
  if (lifted !== mine || !answers) return;
  mine.answers = answers;
  showAnswers(answers);
}

function highlightColumn(column) {
  if (over === column) return;
  over?.classList.remove("over");
  column?.classList.add("over");
  over = column;
}

// Whether a drop on the column, or on the bar of a selection, opens the form. Without answers the form itself will
// tell: then all but the card's own column do, and the bar does for several cards.
function isTarget(column) {
  if (lifted.answers) return (lifted.answers.get(column.dataset.node)?.can ?? "no") !== "no";
  const isBar = !column.matches(".col");
  return isBar ? lifted.group !== null : column !== lifted.card.closest(".col");
}

function endDrag() {
  lifted = null;
  highlightColumn(null);
  for (const card of document.querySelectorAll(".lifted")) card.classList.remove("lifted");
  for (const target of document.querySelectorAll("[data-can]")) delete target.dataset.can;
  const bar = document.getElementById("selection-bar");
  bar?.removeAttribute("data-offered");
  bar?.querySelector("[data-answer]").replaceChildren();
  for (const note of document.querySelectorAll(".drop-note")) note.remove();
}

export function startDrag() {
  document.addEventListener("dragstart", (event) => {
    const card = event.target.closest?.(".card[draggable]");
    if (!card) return;
    // Not a card that moves already, and none while the figures may be wrong.
    if (card.hasAttribute("data-moving") || document.body.classList.contains("stale")) {
      event.preventDefault();
      return;
    }
    endDrag();
    const group = groupOf(card);
    event.dataTransfer.setData("text/plain", (group ?? [card.dataset.portfolio]).join(" "));
    event.dataTransfer.effectAllowed = "move";
    if (group) event.dataTransfer.setDragImage(document.querySelector("#selection-bar [data-count]"), 8, 8);
    lift(card);
    // After the browser has taken its picture of the card.
    setTimeout(() => {
      if (lifted?.card === card) for (const each of liftedCards()) each.classList.add("lifted");
    });
  });
  document.addEventListener("dragover", (event) => {
    if (!lifted) return;
    const column = event.target.closest?.(TARGETS);
    const fits = column && isTarget(column);
    highlightColumn(fits ? column : null);
    if (!fits) return;
    event.preventDefault(); // allows the drop
    event.dataTransfer.dropEffect = "move";
  });
  document.addEventListener("drop", (event) => {
    const column = event.target.closest?.(TARGETS);
    if (!lifted || !column) return;
    event.preventDefault();
    const { card, group, form } = lifted;
    endDrag();
    if (group) moveSelected(card, column.dataset.node);
    else openDialog(`${form}?to=${encodeURIComponent(column.dataset.node)}`, card);
  });
  document.addEventListener("dragend", endDrag);
  // A card whose element has gone ends its drag without an event, and the pointer moves again.
  document.addEventListener("pointermove", () => lifted?.card.matches(".lifted") && endDrag());
}
