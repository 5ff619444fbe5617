"""The board follows what happens without a reload."""

from __future__ import annotations

import re

import pytest

from chaos.harness.installation import eventually
from tests.support.board import NODES, free_node, wait_for_updates, wait_until_idle
from tests.support.browser import dashboard_window

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_board_shows_every_node_and_portfolio_live(window, installation):
    names = {p["name"] for p in installation.get("/api/portfolios/?limit=1000")["results"]}
    eventually(lambda: sorted(window.cards()) == sorted(names), what="a card of each portfolio")
    for node in NODES:  # late after the silence of the server in an earlier test
        window.page.wait_for_selector(f'.col[data-node="{node}"][data-status="alive"]')
    eventually(
        lambda: re.fullmatch(r"Live · \d\.\d s", window.page.inner_text("#live")), what="the age"
    )
    wait_for_updates(window)
    canary = window.page.locator('.card[data-portfolio="canary-2"]')
    assert "0 gaps, 0 duplicates" in canary.inner_text()


def test_move_requested_over_the_api_appears_without_a_reload(window, installation):
    name = "tech-hold"
    wait_until_idle(installation)
    target = free_node(installation, name)
    window.mark()
    installation.call("POST", f"/api/portfolios/{name}/migrate/", {"target_node": target})
    window.wait_for_card(name, target)
    assert window.was_not_reloaded()
    installation.call("POST", f"/api/portfolios/{name}/unpin/", {})


def test_open_menu_and_focus_survive_updates(frozen, window):
    card = window.page.locator('.card[data-portfolio="canary-1"]')
    card.hover()
    card.locator(".menu-button").click()
    wait_for_updates(window, times=3)
    assert window.page.locator("#cardmenu-canary-1").is_visible()
    focused = window.page.evaluate("document.activeElement.textContent")
    assert focused == "Migrate…"
    window.page.keyboard.press("Escape")


RECORD_NOTIFICATIONS = """
window.notified = [];
window.Notification = class extends Notification {
  constructor(title, options) { super(title, options); window.notified.push(options.body); }
};
"""


def open_alerts(installation, *kinds):
    """Return the open alerts, of these kinds or all: a slow machine may have others."""
    found = installation.get("/api/alerts/?open=true")["results"]
    return [alert for alert in found if alert["kind"] in kinds or not kinds]


def ringing(installation):
    """Return how many open alerts nobody has acknowledged."""
    return sum(not alert["acknowledged_at"] for alert in open_alerts(installation))


def shown_counts(page):
    """Return the numbers of alerts that bell, title and icon show."""
    bell = int(page.get_attribute("#part-alert-bell", "data-count") or 0)
    title = re.match(r"\((\d+)\) ", page.title())
    icon = re.search(r"/icon-(\d+)\.svg$", page.get_attribute("link[rel=icon]", "href") or "")
    return {bell, int(title[1]) if title else 0, int(icon[1]) if icon else 0}


def notified_of_no_open_node(page):
    texts = page.evaluate("window.notified")
    return [text for text in texts if text.startswith("no node accepts portfolios: ")]


def test_alert_rings_the_bell_and_notifies_the_browser(frozen, browser, installation, login):
    # In a browser of its own: of several windows only one notifies.
    with dashboard_window(browser, installation, storage_state=login) as window:
        page = window.page
        page.context.grant_permissions(["notifications"])
        page.add_init_script(RECORD_NOTIFICATIONS)
        window.open("/alerts/")
        page.click("[data-notify]")
        page.wait_for_selector("[data-notify][aria-pressed=true]")
        window.wait_until_live()
        try:
            for node in NODES:
                installation.call("POST", f"/api/nodes/{node}/cordon/", {"reason": "test"})
            page.wait_for_selector("#open-alerts tr[data-kind=no_open_node]")
            eventually(lambda: shown_counts(page) == {ringing(installation)}, what="one more alert")
            texts = eventually(lambda: notified_of_no_open_node(page), what="a notification")
            assert len(texts) == 1
            assert window.barriers("main") == []
            window.open_dialog("tr[data-kind=no_open_node] >> text=Acknowledge…")
            window.confirm("Acknowledge")
            (alert,) = open_alerts(installation, "no_open_node")
            assert alert["acknowledged_at"]
            eventually(lambda: shown_counts(page) == {ringing(installation)}, what="one alert less")
        finally:
            for node in NODES:
                installation.call("POST", f"/api/nodes/{node}/uncordon/", {})
        page.wait_for_selector("#open-alerts tr[data-kind=no_open_node]", state="detached")
