// Drag a card to a node to migrate its portfolio there. While it is lifted every column says whether its node could
// take it, in the words of the migrate form; a drop opens that form with the node chosen, and nothing moves before it
// is sent. Escape drops the card where it was. The same by keyboard: M on a card.
import { openDialog, request } from "./dialogs.js";

let lifted = null; // {card, form: address of the form, answers: node → {can, text}, or null while they are unknown}
let over = null; // the column under the pointer

async function answersOf(form) {
  const response = await request(form);
  if (!response.ok || response.redirected) return null;
  const template = document.createElement("template");
  template.innerHTML = await response.text();
  const labels = [...template.content.querySelectorAll("[data-target]")];
  return new Map(
    labels.map((label) => {
      const risky = label.matches(".risky") ? "risk" : "yes";
      const text = label.querySelector(".target-reason").textContent.trim();
      return [label.dataset.target, { can: label.dataset.feasible === "true" ? risky : "no", text }];
    }),
  );
}

function showAnswers(answers) {
  for (const column of document.querySelectorAll(".col")) {
    const answer = answers.get(column.dataset.node);
    if (!answer) continue;
    column.dataset.can = answer.can;
    const note = document.createElement("p");
    note.className = "drop-note";
    note.textContent = answer.text;
    column.querySelector("header").after(note);
  }
}

async function lift(card) {
  const mine = { card, form: `/portfolios/${encodeURIComponent(card.dataset.portfolio)}/migrate/`, answers: null };
  lifted = mine;
  const answers = await answersOf(mine.form).catch(() => null); // without them a drop opens the form, which has them
  if (lifted !== mine || !answers) return;
  mine.answers = answers;
  showAnswers(answers);
}

function moveOver(column) {
  if (over === column) return;
  over?.classList.remove("over");
  column?.classList.add("over");
  over = column;
}

// Whether a drop there opens the form.
function isTarget(column) {
  return lifted.answers
    ? lifted.answers.get(column.dataset.node)?.can !== "no"
    : column !== lifted.card.closest(".col");
}

function end() {
  lifted?.card.classList.remove("lifted");
  lifted = null;
  moveOver(null);
  for (const column of document.querySelectorAll(".col[data-can]")) delete column.dataset.can;
  for (const note of document.querySelectorAll(".drop-note")) note.remove();
}

export function startDrag() {
  document.addEventListener("dragstart", (event) => {
    const card = event.target.closest?.(".card[draggable]");
    if (!card) return;
    // A card that moves already, or figures that may be wrong.
    if (card.hasAttribute("data-moving") || document.body.classList.contains("stale")) {
      event.preventDefault();
      return;
    }
    event.dataTransfer.setData("text/plain", card.dataset.portfolio);
    event.dataTransfer.effectAllowed = "move";
    end();
    lift(card);
    // After the browser has taken its picture of the card.
    setTimeout(() => lifted?.card === card && card.classList.add("lifted"));
  });
  document.addEventListener("dragover", (event) => {
    if (!lifted) return;
    const column = event.target.closest?.(".col");
    const fits = column && isTarget(column);
    moveOver(fits ? column : null);
    if (!fits) return;
    event.preventDefault(); // allows the drop
    event.dataTransfer.dropEffect = "move";
  });
  document.addEventListener("drop", (event) => {
    const column = event.target.closest?.(".col");
    if (!lifted || !column) return;
    event.preventDefault();
    const { card, form } = lifted;
    end();
    openDialog(`${form}?to=${encodeURIComponent(column.dataset.node)}`, card);
  });
  document.addEventListener("dragend", end);
  // A card whose element has gone ends its drag without an event, and the pointer moves again.
  document.addEventListener("pointermove", () => lifted?.card.matches(".lifted") && end());
}
