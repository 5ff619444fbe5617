// Apply a message to the page and keep what the user was doing.
import { showFigures } from "./board.js";
import { morph } from "./morph.js";

export function applyUpdates(message) {
  for (const [id, html] of Object.entries(message.parts)) {
    const element = document.getElementById(id);
    if (element) morph(element, html.trim());
  }
  showFigures(message.figures);
  document.dispatchEvent(new CustomEvent("ginkgo-updated"));
}
