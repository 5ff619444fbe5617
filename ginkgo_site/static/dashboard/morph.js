// Make one element equal to another while keeping the nodes that are there, so that focus, scroll
// positions, open menus and selections survive an update. Elements with an id are matched by it.

// What the page's own scripts write and the server knows nothing of.
const OURS = new Set(["open", "aria-expanded", "data-placed", "tabindex"]);
const OUR_CLASSES = ["open", "arrived"];

function same(a, b) {
  if (a.nodeType !== b.nodeType || a.nodeName !== b.nodeName) return false;
  return a.nodeType !== Node.ELEMENT_NODE || a.id === b.id;
}

function attributes(from, to) {
  for (const { name, value } of [...to.attributes]) {
    if (OURS.has(name) && from.hasAttribute(name)) continue;
    let wanted = value;
    if (name === "class") {
      const kept = OUR_CLASSES.filter((c) => from.classList.contains(c) && !to.classList.contains(c));
      if (kept.length) wanted = `${value} ${kept.join(" ")}`;
    }
    if (from.getAttribute(name) !== wanted) from.setAttribute(name, wanted);
  }
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && !OURS.has(name) && name !== "style") from.removeAttribute(name);
  }
}

export function morph(from, to) {
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return;
  }
  attributes(from, to);
  const byId = new Map([...from.children].filter((c) => c.id).map((c) => [c.id, c]));
  let here = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const known = wanted.id ? byId.get(wanted.id) : null;
    if (known && known !== here && known.nodeName === wanted.nodeName) {
      from.insertBefore(known, here);
      morph(known, wanted);
    } else if (here && same(here, wanted)) {
      const next = here.nextSibling;
      morph(here, wanted);
      here = next;
    } else {
      from.insertBefore(wanted, here);
    }
  }
  while (here) {
    const next = here.nextSibling;
    here.remove();
    here = next;
  }
}

export function parse(html) {
  const template = document.createElement("template");
  template.innerHTML = html.trim();
  return template.content.firstElementChild;
}
