// Open a menu beside its button, inside the window.
function linksOf(menu) {
  return [...menu.querySelectorAll("a")].filter((link) => link.checkVisibility());
}

// Where the button of the open menu was when the menu was placed beside it.
let placedBeside = { button: null, left: 0, top: 0 };

// Close the open menu after a scroll that has moved its button. The browser reports a scroll late, so that one may have
// ended before the menu opened.
function closeIfMoved() {
  const at = placedBeside.button?.getBoundingClientRect();
  if (at && at.left === placedBeside.left && at.top === placedBeside.top) return;
  document.querySelector(".menu:popover-open")?.hidePopover();
}

export function startMenus() {
  // Of the two events of a menu, only `beforetoggle` comes before the report of such a scroll.
  document.addEventListener(
    "beforetoggle",
    ({ target, newState }) => {
      const button =
        newState === "open" && target.matches?.(".menu") && document.querySelector(`[popovertarget="${target.id}"]`);
      if (!button) return;
      const { left, top } = button.getBoundingClientRect();
      placedBeside = { button, left, top };
    },
    true,
  );
  document.addEventListener(
    "toggle",
    (event) => {
      const menu = event.target;
      if (!menu.matches?.(".menu") || event.newState !== "open") return;
      const button = document.querySelector(`[popovertarget="${menu.id}"]`);
      if (!button) return;
      const at = button.getBoundingClientRect();
      menu.dataset.placed = "";
      const box = menu.getBoundingClientRect();
      const left = Math.max(8, Math.min(at.right - box.width, innerWidth - box.width - 8));
      const below = at.bottom + 4;
      const top = below + box.height > innerHeight - 8 ? Math.max(8, at.top - box.height - 4) : below;
      menu.style.left = `${left}px`;
      menu.style.top = `${top}px`;
      linksOf(menu)[0]?.focus({ preventScroll: true });
    },
    true,
  );
  addEventListener("scroll", closeIfMoved, { passive: true });
  document.addEventListener("keydown", (event) => {
    const menu = document.activeElement?.closest?.(".menu");
    if (!menu || !["ArrowDown", "ArrowUp"].includes(event.key)) return;
    const links = linksOf(menu);
    const step = event.key === "ArrowDown" ? 1 : -1;
    links[(links.indexOf(document.activeElement) + step + links.length) % links.length]?.focus();
    event.preventDefault();
  });
}
