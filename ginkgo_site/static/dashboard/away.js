// While the server is away, a dialog says so, tries again by itself where that is safe, and offers the shell
// line. The page stays as it is.
const FIRST_RETRY_S = 1;
const LAST_RETRY_S = 5;
const CHECKS_PER_S = 5; // of whether a wait has ended
const UNAVAILABLE = [502, 503, 504]; // a proxy without its server, or a server without its database

const dialog = document.getElementById("action-dialog");
const offline = JSON.parse(dialog?.dataset.offline || "{}");

// Return the key of a form in `offline` (dashboard/actions.py) and the names that it concerns: "portfolios/stop" and
// "ibm-sma" for /portfolios/ibm-sma/stop/, "halt" and "" for /halt/, "migrate" and "a b" for
// /migrate/?portfolio=a&portfolio=b.
function formOf(address) {
  const url = new URL(address, location.href);
  const words = url.pathname.split("/").filter(Boolean);
  if (words.length < 3) return { key: words.join("/"), name: url.searchParams.getAll("portfolio").join(" ") };
  return { key: `${words[0]}/${words.at(-1)}`, name: words[1] };
}

// Whether the form may be sent again without asking, since a repeat does nothing more.
export function mayRepeat(address) {
  return offline.repeatable?.includes(formOf(address).key) ?? false;
}

function copyOf(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

// Return an element with the shell line that does the same as the form, or null if there is none. The form of a
// migration shows the line with the chosen node.
function shellLine(address, form = null) {
  const { key, name } = formOf(address);
  const command = offline.commands?.[key];
  const chosen = form?.querySelector("#migrate-line")?.textContent.trim();
  if (!command) return null;
  const box = copyOf("away-shell");
  box.querySelector("code").textContent = chosen || `${offline.shell} ${command.replace("{name}", name)}`;
  return box;
}

function showCase(box, state) {
  for (const text of box.querySelectorAll("[data-case]")) text.hidden = text.dataset.case !== state;
}

// Show in the dialog that the form cannot be fetched. `state`: away (no answer yet) or failed (an error of the server).
export function showAwayForm(address, state = "away") {
  const form = copyOf("away-form");
  showCase(form, state);
  const line = shellLine(address);
  if (line) form.querySelector("section").append(line);
  dialog.replaceChildren(form);
  dialog.classList.remove("danger");
  if (!dialog.open) dialog.showModal();
  form.querySelector("[data-cancel]").focus();
}

// Show above the form in the dialog what became of its request. `state`: repeat (it is sent again and again), ask (it
// is not sent again, since it may have arrived), back (the server answers again), failed (an error of the server) or
// signed-out.
export function showAwayNote(address, state) {
  let note = dialog.querySelector("[data-failed]");
  if (!note) {
    note = copyOf("away-note");
    const line = shellLine(address, dialog);
    if (line) note.append(line);
    dialog.querySelector("section")?.before(note);
  }
  showCase(note, state);
  note.querySelector("[data-next]").textContent = "";
}

// Wait a little longer each time, and show the seconds; `Try now` ends the wait.
async function pause(tries) {
  const seconds = Math.min(FIRST_RETRY_S + tries, LAST_RETRY_S);
  const text = document.getElementById("away-next").textContent;
  let isEnded = false;
  const endByButton = (event) => {
    isEnded ||= Boolean(event.target.closest("[data-now]"));
  };
  dialog.addEventListener("click", endByButton);
  for (let checks = seconds * CHECKS_PER_S; checks > 0 && !isEnded && dialog.open; checks -= 1) {
    const next = dialog.querySelector("[data-next]");
    if (next) next.textContent = text.replace("{seconds}", String(Math.ceil(checks / CHECKS_PER_S)));
    await new Promise((done) => setTimeout(done, 1000 / CHECKS_PER_S));
  }
  dialog.removeEventListener("click", endByButton);
}

// Repeat a request until the server answers it, and return the response; null once the dialog was closed or shows
// something else. `send` sends the request; `showAway` is called after the first failure and says so in the dialog.
export async function retryUntilAnswered(send, showAway) {
  let current = null; // what the dialog shows
  for (let tries = 0; ; tries += 1) {
    try {
      const response = await send();
      if (!UNAVAILABLE.includes(response.status)) return response;
    } catch {
      // no connection
    }
    if (tries === 0) {
      showAway();
      current = dialog.firstElementChild;
    }
    await pause(tries);
    if (!dialog.open || dialog.firstElementChild !== current) return null;
  }
}

export function isUnavailable(response) {
  return UNAVAILABLE.includes(response.status);
}
