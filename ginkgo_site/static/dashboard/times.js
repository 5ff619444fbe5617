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

// Return the time of epoch seconds; with the date unless it is today.
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
  element.title = `${element.dateTime.replace("T", " ").replace("Z", "")} UTC, shown in ${zone}`;
}

// Show the times in `root` in the viewer's zone.
export function localTimes(root) {
  for (const element of root.querySelectorAll("time[datetime][data-shown]")) localise(element);
}

export function startTimes() {
  localTimes(document);
  for (const name of ["ginkgo-form", "ginkgo-updated"]) document.addEventListener(name, () => localTimes(document));
  const label = document.getElementById("time-zone");
  if (label) label.textContent = `times in ${zone}`;
}
