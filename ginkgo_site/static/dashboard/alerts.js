// The bell in the title and the icon of the page, and notifications of the browser, if they were switched
// on: one for a new alert, none for those that were open before.

// Keys of the browser's storage: "on" or "off"; and when the newest alert that it has seen was opened, epoch ms.
const SWITCH_KEY = "ginkgo-notify";
const SEEN_KEY = "ginkgo-alert-seen";

function isOn() {
  return "Notification" in window && Notification.permission === "granted" && localStorage.getItem(SWITCH_KEY) === "on";
}

function showCount(count) {
  const title = document.title.replace(/^\(\d+\) /, "");
  document.title = count ? `(${count}) ${title}` : title;
  const icon = document.querySelector("link[rel=icon]");
  if (!icon) return;
  icon.dataset.plain ||= icon.getAttribute("href");
  const address = count ? `/alerts/icon-${Math.min(count, 99)}.svg` : icon.dataset.plain;
  if (icon.getAttribute("href") !== address) icon.setAttribute("href", address);
}

// Show a notification of the newest alert, unless it was seen. `openedAt`: when it was opened, epoch ms; 0: none is.
function notify(openedAt, text) {
  const seen = localStorage.getItem(SEEN_KEY); // null until the first page of this browser
  if (seen !== null && openedAt <= Number(seen)) return;
  localStorage.setItem(SEEN_KEY, String(openedAt));
  if (isOn() && seen !== null) new Notification("Ginkgo", { body: text, tag: `ginkgo-alert-${openedAt}` });
}

function showAlerts() {
  const bell = document.getElementById("part-alert-bell");
  if (!bell) return;
  showCount(Number(bell.dataset.count) || 0);
  notify(Number(bell.dataset.newest) || 0, bell.dataset.text);
}

function startNotifyButton() {
  const button = document.querySelector("[data-notify]");
  if (!button || !("Notification" in window)) return;
  const show = () => {
    button.hidden = false;
    button.textContent =
      Notification.permission === "denied" ? button.dataset.denied : isOn() ? button.dataset.on : button.dataset.off;
    button.setAttribute("aria-pressed", String(isOn()));
  };
  button.addEventListener("click", async () => {
    if (isOn()) localStorage.setItem(SWITCH_KEY, "off");
    else if ((await Notification.requestPermission()) === "granted") localStorage.setItem(SWITCH_KEY, "on");
    show();
  });
  show();
}

export function startAlerts() {
  startNotifyButton();
  showAlerts();
  const top = document.querySelector("header.top");
  if (!top) return;
  new MutationObserver(showAlerts).observe(top, {
    subtree: true,
    childList: true,
    attributes: true,
    attributeFilter: ["data-count", "data-newest"],
  });
}
