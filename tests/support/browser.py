"""A person at the desk: a browser window that notes every error its console shows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from chaos.harness.installation import SLOW_MACHINE_S, Installation

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

_WATCH_POLICY = """
window.policyViolations = [];
addEventListener("securitypolicyviolation", (event) =>
  window.policyViolations.push(`${event.violatedDirective}: ${event.blockedURI}`));
"""


@contextmanager
def a_browser() -> Iterator[Browser]:
    """The Chromium of the machine, without a window; where it has none, that of Playwright."""
    found = os.environ.get("GINKGO_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


class DashboardWindow:
    """One signed-in window."""

    def __init__(self, page: Page, house: Installation) -> None:
        self.page = page
        self.house = house
        self.errors: list[str] = []
        page.set_default_timeout(SLOW_MACHINE_S * 1000)
        page.add_init_script(_WATCH_POLICY)
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _note(self, message: ConsoleMessage) -> None:
        # Chromium logs every answer from 400 on and every lost connection by itself.
        own = "Failed to load resource" in message.text or "WebSocket connection" in message.text
        if message.type in ("error", "warning") and not own:
            self.errors.append(message.text)

    def sign_in(self, username: str, password: str) -> None:
        self.page.goto(self.house.access["url"] + "/login/")
        self.page.fill("[name=username]", username)
        self.page.fill("[name=password]", password)
        self.page.click("button:has-text('Sign in')")
        self.page.wait_for_url(self.house.access["url"] + "/")

    def open(self, address: str = "/") -> None:
        self.page.goto(self.house.access["url"] + address)

    def is_live(self, limit_s: float = SLOW_MACHINE_S) -> None:
        self.page.wait_for_selector("#live[data-state=live]", timeout=limit_s * 1000)

    def card_on(self, portfolio: str, node: str, limit_s: float = SLOW_MACHINE_S) -> None:
        """Wait until the card stands in the node's column and nothing moves it."""
        self.page.wait_for_selector(
            f'.col[data-node="{node}"] .card[data-portfolio="{portfolio}"]:not([data-moving])',
            timeout=limit_s * 1000,
        )

    def act_on_card(self, portfolio: str, act: str) -> None:
        """Open the card's menu, choose the act and wait for its dialog."""
        card = self.page.locator(f'.card[data-portfolio="{portfolio}"]')
        card.hover()
        card.locator(".menu-button").click()
        self.page.locator(f"#cardmenu-{portfolio} a", has_text=act).click()
        self.page.wait_for_selector("dialog[open] form")

    def act_on_node(self, node: str, act: str) -> None:
        """Open the node's menu, choose the act and wait for its dialog."""
        self.page.locator(f"#col-{node} > header .menu-button").click()
        self.page.locator(f"#nodemenu-{node} a", has_text=act).click()
        self.page.wait_for_selector("dialog[open] form")

    def confirm(self, button: str) -> None:
        """Press the dialog's button and wait until the dialog is gone."""
        self.page.locator("dialog button", has_text=button).click()
        self.page.wait_for_selector("dialog", state="hidden")

    def mark(self) -> None:
        """Leave a mark that a reload would wipe."""
        self.page.evaluate("window.wasNotReloaded = true")

    def was_not_reloaded(self) -> bool:
        return bool(self.page.evaluate("window.wasNotReloaded === true"))

    def violations(self) -> list[Any]:
        return list(self.page.evaluate("window.policyViolations"))


@contextmanager
def window(browser: Browser, house: Installation, **options: Any) -> Iterator[DashboardWindow]:
    """A window of its own; the page must have raised no error and broken no policy in it."""
    context = browser.new_context(**{"viewport": {"width": 1600, "height": 940}, **options})
    desk = DashboardWindow(context.new_page(), house)
    yield desk
    assert desk.errors == []
    if options.get("java_script_enabled", True):
        assert desk.violations() == []
    context.close()
