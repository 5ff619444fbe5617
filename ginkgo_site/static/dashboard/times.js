import { fill, gettext } from "./words.js";

// Times are UTC in the page, and shown in the viewer's zone with UTC on hover. Without scripts they stay UTC.
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const two = (number) => String(number).padStart(2, "0");

function dateOf(at) {
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

function timeOf(at, seconds = true, milliseconds = false) {
  const text = `${two(at.getHours())}:${two(at.getMinutes())}${seconds ? `:${two(at.getSeconds())}` : ""}`;
  return milliseconds ? `${text}.${String(at.getMilliseconds()).padStart(3, "0")}` : text;
}

// Return the time of epoch seconds in the viewer's zone; unless it is today, with month and day.
export function localTime(seconds, withSeconds) {
  const at = new Date(seconds * 1000);
  const time = timeOf(at, withSeconds);
  return dateOf(at) === dateOf(new Date()) ? time : `${dateOf(at).slice(5)} ${time}`;
}

function localise(element) {
  const at = new Date(element.dateTime);
  if (Number.isNaN(at.valueOf())) return;
  const { shown } = element.dataset; // time, moment or ms: as the server shows it
  const time = timeOf(at, true, shown === "ms");
  const today = dateOf(at) === dateOf(new Date());
  const text = shown === "time" || (shown === "moment" && today) ? time : `${dateOf(at)} ${time}`;
  if (element.textContent !== text) element.textContent = text;
  const utc = element.dateTime.replace("T", " ").replace("Z", "");
  element.title = fill(gettext("%(utc)s UTC, shown in %(zone)s"), { utc, zone });
}

// Show the times in `root` in the viewer's zone.
export function localTimes(root) {
  for (const element of root.querySelectorAll("time[datetime][data-shown]")) localise(element);
}

// Fields of a time in UTC become fields in the viewer's zone; what is sent stays UTC.
function localFields() {
  for (const field of document.querySelectorAll("input[data-utc]")) {
    const sent = document.createElement("input");
    sent.type = "hidden";
    sent.name = field.name;
    sent.value = field.value;
    // As the server reads it: a time without a zone is UTC, and a date alone its first moment.
    const given =
      field.value.length > 10 ? field.value.replace(/(Z|[+-]\d\d:?\d\d)?$/, (end) => end || "Z") : field.value;
    const at = given.length > 10 ? new Date(given) : new Date(`${given}T00:00:00Z`);
    if (given && Number.isNaN(at.valueOf())) continue; // the page says what is wrong with it
    field.removeAttribute("name");
    field.after(sent);
    field.value = "";
    field.type = "datetime-local";
    field.step = "1";
    field.value = given ? `${dateOf(at)}T${timeOf(at)}` : "";
    field.addEventListener("change", () => {
      const chosen = new Date(field.value);
      sent.value = Number.isNaN(chosen.valueOf()) ? "" : chosen.toISOString().replace(".000", "");
    });
  }
  for (const label of document.querySelectorAll("[data-utc-label]")) label.remove();
}

export function startTimes() {
  localFields();
  localTimes(document);
  for (const name of ["ginkgo-form", "ginkgo-updated"]) document.addEventListener(name, () => localTimes(document));
  const label = document.getElementById("time-zone");
  if (label) label.textContent = fill(gettext("times in %(zone)s"), { zone });
}
