// Links marked data-dialog open their target in the dialog, which also submits its form. A refusal is
// shown in the dialog and keeps the input. Without scripts the same address is a page of its own.
import { announce } from "./announce.js";

const dialog = document.getElementById("action-dialog");
let opener = null;

function request(address, options = {}) {
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

function showTarget() {
  const picked = dialog.querySelector("[name=target_node]:checked");
  if (!picked) return;
  for (const element of dialog.querySelectorAll("[data-chosen]")) element.textContent = picked.value;
}

// Enable the button once the confirmation was typed; the server checks it again.
function checkConfirmation() {
  const word = dialog.querySelector("[data-word]");
  if (word) dialog.querySelector(`#${word.dataset.arms}`).disabled = word.value.trim() !== word.dataset.word;
}

function showFailure(sentence) {
  let line = dialog.querySelector("[data-failed]");
  if (!line) {
    line = document.createElement("p");
    line.className = "callout red";
    line.setAttribute("role", "alert");
    line.dataset.failed = "";
    dialog.querySelector("section")?.prepend(line);
  }
  line.textContent = sentence;
}

async function open(link) {
  document.querySelector(".menu:popover-open")?.hidePopover();
  opener = link.closest(".menu") ? document.querySelector(`[popovertarget="${link.closest(".menu").id}"]`) : link;
  let response;
  try {
    response = await request(link.href);
  } catch {
    location.assign(link.href);
    return;
  }
  if (response.redirected || response.status >= 500)
    location.assign(link.href); // that page shows the error
  else {
    showForm(await response.text());
    if (!dialog.open) dialog.showModal();
    showTarget();
  }
}

async function send(form, button) {
  form.classList.add("waiting");
  let response;
  try {
    response = await request(form.action, { method: "POST", body: new URLSearchParams(new FormData(form, button)) });
  } catch {
    showFailure("The server does not respond. It may or may not have received the request; your input is kept.");
    form.classList.remove("waiting");
    return;
  }
  form.classList.remove("waiting");
  if (response.redirected) location.reload();
  else if (response.headers.get("Content-Type")?.startsWith("application/json")) {
    const outcome = await response.json();
    dialog.close();
    if (outcome.redirect) {
      location.assign(outcome.redirect);
      return;
    }
    announce(outcome.message);
    document.dispatchEvent(new CustomEvent("ginkgo-done", { detail: outcome }));
  } else if (response.status >= 500)
    showFailure(`The server failed (${response.status}). Its log has the cause; your input is kept.`);
  else showForm(await response.text());
}

export function startDialogs() {
  if (!dialog) return;
  document.addEventListener("click", (event) => {
    const plain = !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) && event.button === 0;
    const link = event.target.closest("a[data-dialog]");
    if (link && plain) {
      event.preventDefault();
      open(link);
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
  dialog.addEventListener("change", showTarget);
  dialog.addEventListener("input", checkConfirmation);
  dialog.addEventListener("close", () => {
    dialog.replaceChildren();
    if (opener && document.contains(opener)) opener.focus();
  });
}
