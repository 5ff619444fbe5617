// Copy buttons beside shell commands.
import { announce } from "./announce.js";
import { gettext } from "./words.js";

export function startCopy() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy], [data-copy-text]");
    if (!button) return;
    const element = document.getElementById(button.dataset.copy);
    const text = button.dataset.copyText ?? element.textContent.trim();
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without https browsers have no clipboard for scripts: select the line, for Ctrl-C. One that is hidden takes
      // the place of its short form; neither is overwritten, since parts of it follow what is chosen in the form.
      const short = button.previousElementSibling;
      const line = element ?? short;
      if (!element) line.textContent = text;
      else if (element.hidden) {
        element.hidden = false;
        short.hidden = true;
      }
      getSelection().selectAllChildren(line);
      announce(gettext("Selected: press Ctrl-C"));
      return;
    }
    announce(gettext("Copied"));
  });
}
