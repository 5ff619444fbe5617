// Links marked data-dialog open their target in the dialog, which also submits its form. A refusal is
// shown in the dialog and keeps the input. Without scripts the same address is a page of its own.
import { announce } from "./announce.js";
import { isUnavailable, mayRepeat, retryUntilAnswered, showAwayForm, showAwayNote } from "./away.js";

const dialog = document.getElementById("action-dialog");
let opener = null; // what opened the dialog and gets the focus back: {portfolio} of a card, or {element}

// Fetch an address; `X-Dashboard` asks for the content of a dialog instead of a page.
export function request(address, options = {}) {
  return fetch(address, {
    credentials: "same-origin",
    ...options,
    headers: { "X-Dashboard": "dialog", ...(options.headers || {}) },
  });
}

function showForm(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  dialog.replaceChildren(template.content);
  dialog.classList.toggle("danger", Boolean(dialog.querySelector("[data-danger]")));
  document.dispatchEvent(new CustomEvent("ginkgo-form"));
  showTarget();
  checkConfirmation();
  const first =
    dialog.querySelector(".wrong :is(input, textarea, select)") ||
    dialog.querySelector("[autofocus]") ||
    dialog.querySelector("input:not([type=hidden]), textarea, button");
  first?.focus();
}

// Write the chosen node into the texts of the migrate form, in the dialog or on a page of its own.
function showTarget() {
  const form = document.querySelector(dialog.open ? "dialog[open] [data-migrate]" : "[data-migrate]");
  const picked = form?.querySelector("[name=target_node]:checked");
  if (!picked) return;
  for (const element of form.querySelectorAll("[data-chosen]")) element.textContent = picked.value;
  for (const element of form.querySelectorAll("[data-chosen-option]")) element.textContent = picked.dataset.option;
}

// Enable the button once the confirmation was typed; the server checks it again.
function checkConfirmation() {
  const word = dialog.querySelector("[data-word]");
  if (word) dialog.querySelector(`#${word.dataset.arms}`).disabled = word.value.trim() !== word.dataset.word;
}

let newestOpening = 0; // numbers the forms that were asked for: one that arrives after a newer was asked for is dropped

// Open the form of an address. The focus returns to `from` when the dialog is closed.
export async function openDialog(address, from) {
  document.querySelector(".menu:popover-open")?.hidePopover();
  opener = openerOf(from);
  newestOpening += 1;
  const opening = newestOpening;
  document.body.classList.add("loading");
  const response = await retryUntilAnswered(
    () => request(address),
    () => showAwayForm(address),
  );
  if (opening === newestOpening) document.body.classList.remove("loading");
  if (!response || opening !== newestOpening) return;
  if (response.redirected) {
    location.assign(address); // signed out: that page is the login
    return;
  }
  if (response.status >= 500) {
    showAwayForm(address, "failed");
    return;
  }
  showForm(await response.text());
  if (!dialog.open) dialog.showModal();
  showTarget();
}

// Open the dialog with HTML that the page has already. The focus returns to `from` when the dialog is closed.
export function openContent(html, from) {
  opener = openerOf(from);
  newestOpening += 1;
  showForm(html);
  if (!dialog.open) dialog.showModal();
}

// While an answer is awaited the form takes no input, which the answer would replace.
function setWaiting(form, waiting) {
  form.classList.toggle("waiting", waiting);
  for (const part of form.querySelectorAll("section, [type=submit]:not([data-cancel])")) part.inert = waiting;
}

// Return the token of the present session: a sign-in in another tab replaced the one of the form.
function csrfToken() {
  return document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1];
}

// Send the form of the dialog. A request that a repeat would carry out twice is sent once: without an answer, wait
// until the server is back, and let the user look.
async function send(form, button) {
  const focused = document.activeElement;
  const body = new URLSearchParams(new FormData(form, button));
  body.set("csrfmiddlewaretoken", csrfToken() || body.get("csrfmiddlewaretoken"));
  const post = () => request(form.action, { method: "POST", body });
  setWaiting(form, true);
  let response = null;
  if (mayRepeat(form.action)) {
    response = await retryUntilAnswered(post, () => showAwayNote(form.action, "repeat"));
  } else {
    response = await post().catch(() => null);
    if (!response || isUnavailable(response)) {
      const back = await retryUntilAnswered(
        () => request(form.action),
        () => showAwayNote(form.action, "ask"),
      );
      if (back) showAwayNote(form.action, "back");
      response = null;
    }
  }
  if (!document.contains(form)) return;
  setWaiting(form, false);
  if (document.activeElement === document.body || document.activeElement === dialog) focused?.focus();
  if (response) await finish(form, response);
}

// Show the outcome of a form: an error or refusal in the dialog; else close it, and go on or stay on the page.
async function finish(form, response) {
  if (response.redirected) showAwayNote(form.action, "signed-out");
  else if (response.headers.get("Content-Type")?.startsWith("application/json")) {
    const outcome = await response.json();
    dialog.close();
    if (outcome.redirect) {
      location.assign(outcome.redirect);
      return;
    }
    announce(outcome.message);
    document.dispatchEvent(new CustomEvent("ginkgo-done", { detail: outcome }));
  } else if (response.status >= 500) showAwayNote(form.action, "failed");
  else showForm(await response.text());
}

// Return what gets the focus when the dialog closes. For a link in a card's menu that is the card: its button is no tab
// stop.
function openerOf(link) {
  const menu = link.closest(".menu");
  const button = menu ? document.querySelector(`[popovertarget="${menu.id}"]`) : link;
  const card = button?.closest(".card");
  return card ? { portfolio: card.dataset.portfolio } : { element: button };
}

function returnFocus() {
  if (!opener) return;
  const named = opener.portfolio && `.card[data-portfolio="${CSS.escape(opener.portfolio)}"]`;
  const element = named ? document.querySelector(named) : opener.element;
  // What opened the dialog may be hidden by now, or gone; then the tab stop of the board gets the focus.
  if (element?.checkVisibility()) element.focus();
  else document.querySelector('.card[tabindex="0"]')?.focus();
}

export function startDialogs() {
  if (!dialog) return;
  document.addEventListener("click", (event) => {
    const isPlainClick = !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) && event.button === 0;
    const link = event.target.closest("a[data-dialog]");
    if (link && isPlainClick) {
      event.preventDefault();
      openDialog(link.href, link);
    } else if (dialog.contains(event.target) && event.target.closest("[data-cancel]")) {
      event.preventDefault();
      dialog.close();
    }
  });
  dialog.addEventListener("submit", (event) => {
    if (!event.target.matches("[data-action]")) return;
    event.preventDefault();
    if (!event.target.matches(".waiting")) send(event.target, event.submitter);
  });
  document.addEventListener("change", showTarget);
  showTarget();
  dialog.addEventListener("input", checkConfirmation);
  dialog.addEventListener("close", () => {
    dialog.replaceChildren();
    returnFocus();
  });
}
