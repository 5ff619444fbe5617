"""Browser windows of the dashboard that record every error shown in the console."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.base import AXE_SCRIPT
from playwright import sync_api

from chaos.harness.installation import SLOW_MACHINE_S, Installation

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

SIZE: sync_api.ViewportSize = {"width": 1600, "height": 940}

_IS_PLAIN_BOARD = """
location.pathname === "/" && !location.search
  && !document.querySelector("dialog[open], :popover-open")
"""
_SHOW_MAIN = """
async (address) => {
  const page = new DOMParser().parseFromString(await (await fetch(address)).text(), "text/html");
  document.querySelector("main").replaceWith(page.querySelector("main.page"));
}
"""
_RUN_AXE = """
async ([within, contrast]) => {
  const rules = { "color-contrast": { enabled: contrast } };
  const { violations } = await axe.run(within || document, { resultTypes: ["violations"], rules });
  const elements = (found) => found.nodes.slice(0, 3).map((node) => node.html);
  return violations.map((found) => `${found.id}: ${found.help}: ${elements(found)}`);
}
"""
_FIND_SMALL_TARGETS = """
async () => {
  const rules = { "target-size": { enabled: true } };
  const runOnly = { type: "rule", values: ["target-size"] };
  const { violations } = await axe.run(document, { resultTypes: ["violations"], runOnly, rules });
  return violations.flatMap((found) => found.nodes.map((node) => node.html));
}
"""
_WATCH_POLICY = """
window.policyViolations = [];
addEventListener("securitypolicyviolation", (event) =>
  window.policyViolations.push(`${event.violatedDirective}: ${event.blockedURI}`));
"""


@contextmanager
def open_browser() -> Iterator[sync_api.Browser]:
    """Start the machine's Chromium headless, or that of Playwright if there is none."""
    found = os.environ.get("GINKGO_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


class DashboardWindow:
    """A browser window on the dashboard of an installation."""

    def __init__(self, page: sync_api.Page, installation: Installation) -> None:
        self.page = page
        self.installation = installation
        self.errors: list[str] = []
        page.set_default_timeout(SLOW_MACHINE_S * 1000)
        page.add_init_script(_WATCH_POLICY)
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _note(self, message: sync_api.ConsoleMessage) -> None:
        # Chromium itself logs every response with status 400 or above and every lost connection.
        own = "Failed to load resource" in message.text or "WebSocket connection" in message.text
        if message.type in ("error", "warning") and not own:
            self.errors.append(message.text)

    def sign_in(self, username: str, password: str) -> None:
        self.page.goto(self.installation.access["url"] + "/login/")
        self.page.fill("[name=username]", username)
        self.page.fill("[name=password]", password)
        self.page.click("button:has-text('Sign in')")
        self.page.wait_for_url(self.installation.access["url"] + "/")

    def open(self, address: str = "/") -> None:
        self.page.goto(self.installation.access["url"] + address)

    def return_to_board(self) -> None:
        """Bring the window back to the board as it opens, and load it only if it is needed."""
        self.errors.clear()
        self.page.set_viewport_size(SIZE)
        if not self.page.evaluate(_IS_PLAIN_BOARD):
            self.open()

    def wait_until_live(self) -> None:
        self.page.wait_for_selector("#live[data-state=live]")

    def wait_for_card(self, portfolio: str, node: str) -> None:
        """Wait until the card is in the node's column and no handoff moves it."""
        self.page.wait_for_selector(
            f'.col[data-node="{node}"] .card[data-portfolio="{portfolio}"]:not([data-moving])'
        )

    def open_card_action(self, portfolio: str, action: str) -> None:
        """Open the card's menu, choose the action and wait for its dialog."""
        card = self.page.locator(f'.card[data-portfolio="{portfolio}"]')
        card.hover()
        card.locator(".menu-button").click()
        self.page.locator(f"#cardmenu-{portfolio} a:visible", has_text=action).click()
        self.page.wait_for_selector("dialog[open] form")

    def drag_card(self, portfolio: str, node: str) -> None:
        """Lift the card and move it over the node's column, until every column has its answer."""
        self.page.locator(f'.card[data-portfolio="{portfolio}"] .card-strategy').hover()
        self.page.mouse.down()
        self.page.locator(f"#col-{node} > header h3").hover()
        self.page.locator(f"#col-{node} .drop-note").wait_for()
        self.page.locator(f"#col-{node} > header h3").hover()

    def open_node_action(self, node: str, action: str) -> None:
        """Open the node's menu, choose the action and wait for its dialog."""
        self.page.locator(f"#col-{node} > header .menu-button").click()
        self.page.locator(f"#nodemenu-{node} a:visible", has_text=action).click()
        self.page.wait_for_selector("dialog[open] form")

    def open_dialog(self, opener: str) -> None:
        """Click what opens the dialog of a form, and wait for it."""
        self.page.click(opener)
        self.page.wait_for_selector("dialog[open] form")

    def escape(self, closes: str = "dialog[open]") -> None:
        """Press Escape, and wait until what it closes is hidden."""
        self.page.keyboard.press("Escape")
        self.page.wait_for_selector(closes, state="hidden")

    def cards(self, within: str = "") -> list[str]:
        """Return the portfolios of the cards on the page, or in one element."""
        found = self.page.locator(f"{within} .card".strip())
        return list(found.evaluate_all("cards => cards.map(c => c.dataset.portfolio)"))

    def confirm(self, button: str) -> None:
        """Press the button of the dialog and wait until the dialog is closed."""
        self.page.locator("dialog button", has_text=button).click()
        self.page.wait_for_selector("dialog[open]", state="hidden")

    def show_main(self, address: str) -> None:
        """Show the main part of another page in this one, which takes a tenth of opening it."""
        self.page.evaluate(_SHOW_MAIN, address)

    def barriers(self, within: str = "", *, contrast: bool = True) -> list[str]:
        """Return what axe-core finds on the page, or in one element: rule, sentence, elements.

        Half of its time is for the contrast of colours, which all pages take from the same styles.
        """
        self._load_axe()
        return list(self.page.evaluate(_RUN_AXE, [within, contrast]))

    def small_targets(self) -> list[str]:
        """Return what a finger would miss: targets below 24 px without that much room around."""
        self._load_axe()
        return list(self.page.evaluate(_FIND_SMALL_TARGETS))

    def _load_axe(self) -> None:
        if self.page.evaluate("typeof axe === 'undefined'"):
            self.page.evaluate(AXE_SCRIPT)

    def mark(self) -> None:
        """Set a mark that a reload would remove."""
        self.page.evaluate("window.wasNotReloaded = true")

    def was_not_reloaded(self) -> bool:
        return bool(self.page.evaluate("window.wasNotReloaded === true"))

    def assert_clean(self) -> None:
        """Assert that no error was shown in the console and nothing broke the page's policy."""
        assert self.errors == []
        assert self.page.evaluate("window.policyViolations") == []


def open_context(browser: sync_api.Browser, **options: Any) -> sync_api.BrowserContext:
    """Return a browser context: windows with cookies, storage and cache of their own.

    Without motion: the pulse of the live mark alone draws sixty pictures a second, in software.
    """
    return browser.new_context(**{"viewport": SIZE, "reduced_motion": "reduce", **options})


@contextmanager
def window_in(
    context: sync_api.BrowserContext, installation: Installation, *, scripts: bool = True
) -> Iterator[DashboardWindow]:
    """Open a window. At its end no error and no policy violation may have occurred."""
    window = DashboardWindow(context.new_page(), installation)
    try:
        yield window
        if scripts:
            window.assert_clean()
        assert window.errors == []
    finally:
        window.page.close()


@contextmanager
def dashboard_window(
    browser: sync_api.Browser, installation: Installation, **options: Any
) -> Iterator[DashboardWindow]:
    """Open a window in a context of its own."""
    scripts = options.get("java_script_enabled", True)
    context = open_context(browser, **options)
    with window_in(context, installation, scripts=scripts) as window:
        yield window
    context.close()
