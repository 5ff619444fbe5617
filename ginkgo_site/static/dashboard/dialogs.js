// Links marked data-dialog open what they lead to in the dialog; its form is sent from there.
// A refusal stays in the dialog with everything that was typed. Without scripts the same address is
// a page of its own.
import { say } from "./announce.js";

const dialog = document.getElementById("act");
let opener = null;

function fetched(address, options = {}) {
  return fetch(address, {
    credentials: "same-origin",
    ...options,
    headers: { "X-Dashboard": "dialog", ...(options.headers || {}) },
  });
}

function fill(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  dialog.replaceChildren(template.content);
  dialog.classList.toggle("danger", Boolean(dialog.querySelector("[data-danger]")));
  nameTarget();
  arm();
  const first =
    dialog.querySelector(".wrong :is(input, textarea, select)") ||
    dialog.querySelector("[autofocus]") ||
    dialog.querySelector("input:not([type=hidden]), textarea, button");
  first?.focus();
}

function nameTarget() {
  const picked = dialog.querySelector("[name=target_node]:checked");
  if (!picked) return;
  for (const word of dialog.querySelectorAll("[data-chosen]")) word.textContent = picked.value;
}

// What must be typed before its button works; the server looks at it again.
function arm() {
  const word = dialog.querySelector("[data-word]");
  if (word) dialog.querySelector(`#${word.dataset.arms}`).disabled = word.value.trim() !== word.dataset.word;
}

function failed(sentence) {
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
  let answer;
  try {
    answer = await fetched(link.href);
  } catch {
    location.assign(link.href);
    return;
  }
  if (answer.redirected || answer.status >= 500)
    location.assign(link.href); // that page says why
  else {
    fill(await answer.text());
    if (!dialog.open) dialog.showModal();
    nameTarget();
  }
}

async function send(form) {
  form.classList.add("waiting");
  let answer;
  try {
    answer = await fetched(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
  } catch {
    failed("The server does not answer. Whether the request arrived is not known; nothing you typed is lost.");
    form.classList.remove("waiting");
    return;
  }
  form.classList.remove("waiting");
  if (answer.redirected) location.reload();
  else if (answer.headers.get("Content-Type")?.startsWith("application/json")) {
    const done = await answer.json();
    dialog.close();
    if (done.go) {
      location.assign(done.go);
      return;
    }
    say(done.say);
    document.dispatchEvent(new CustomEvent("ginkgo-done", { detail: done }));
  } else if (answer.status >= 500)
    failed(`The server could not do it (${answer.status}). Its log says why; nothing you typed is lost.`);
  else fill(await answer.text());
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
    if (!event.target.matches("[data-act]")) return;
    event.preventDefault();
    if (!event.target.matches(".waiting")) send(event.target);
  });
  dialog.addEventListener("change", nameTarget);
  dialog.addEventListener("input", arm);
  dialog.addEventListener("close", () => {
    dialog.replaceChildren();
    if (opener && document.contains(opener)) opener.focus();
  });
}
