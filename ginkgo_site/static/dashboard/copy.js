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
      // Without https browsers have no clipboard for scripts: select the line, for Ctrl-C. A hidden line takes the
      // place of its short form. Neither element gets another text, since scripts keep parts of it equal to what is
      // chosen.
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
