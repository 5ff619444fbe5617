// While the server is away, a dialog says so, tries again by itself where that is safe, and offers the shell
// line. The page stays as it is.
const FIRST_RETRY_S = 1;
const LAST_RETRY_S = 5;
const UNAVAILABLE = [502, 503, 504]; // a proxy without its server, or a server without its database

const dialog = document.getElementById("action-dialog");
const offline = JSON.parse(dialog?.dataset.offline || "{}");

// "/portfolios/ibm-sma/stop/" is the form "portfolios/stop" of ibm-sma; "/halt/" is "halt"; "/migrate/?portfolio=a" is
// "migrate" of a.
function formOf(address) {
  const url = new URL(address, location.href);
  const words = url.pathname.split("/").filter(Boolean);
  if (words.length < 3) return { key: words.join("/"), name: url.searchParams.getAll("portfolio").join(" ") };
  return { key: `${words[0]}/${words.at(-1)}`, name: words[1] };
}

export function mayRepeat(address) {
  return offline.repeatable?.includes(formOf(address).key) ?? false;
}

function copyOf(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

// The shell line that the form in the dialog shows, with what was chosen in it; else the line of the action.
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

// `state`: away or failed.
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

// `state`: repeat, ask, back or failed. The note is put before the part that takes no input while a request waits.
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
  const wanted = Math.min(FIRST_RETRY_S + tries, LAST_RETRY_S);
  const text = document.getElementById("away-next").textContent;
  let now = false;
  const stop = (event) => {
    now ||= Boolean(event.target.closest("[data-now]"));
  };
  dialog.addEventListener("click", stop);
  for (let left = wanted * 5; left > 0 && !now && dialog.open; left -= 1) {
    const next = dialog.querySelector("[data-next]");
    if (next) next.textContent = text.replace("{seconds}", String(Math.ceil(left / 5)));
    await new Promise((done) => setTimeout(done, 200));
  }
  dialog.removeEventListener("click", stop);
}

// Repeat a request until the server answers it, and return the response; null once the dialog was closed or shows
// something else. `away` is called at the first failure.
export async function retryUntilAnswered(act, away) {
  let current = null; // what the dialog shows
  for (let tries = 0; ; tries += 1) {
    try {
      const response = await act();
      if (!UNAVAILABLE.includes(response.status)) return response;
    } catch {
      // no connection
    }
    if (tries === 0) {
      away();
      current = dialog.firstElementChild;
    }
    await pause(tries);
    if (!dialog.open || dialog.firstElementChild !== current) return null;
  }
}

export function isUnavailable(response) {
  return UNAVAILABLE.includes(response.status);
}
