"""The dashboard without a mouse: focus, single keys and the command palette."""

from __future__ import annotations

import pytest

from tests.support.board import NODES, free_node, wait_for_updates
from tests.support.browser import DashboardWindow

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_board_is_one_tab_stop_and_arrows_move_among_cards(frozen, window):
    window.open()  # the card of the tab stop is the first until another was focused
    window.wait_until_live()
    focused = "document.activeElement.dataset.portfolio"
    assert window.page.locator('.card[tabindex="0"]').count() == 1
    columns = [window.cards(f"#col-{node}") for node in NODES[:2]]
    window.page.focus('.card[tabindex="0"]')
    assert window.page.evaluate(focused) == columns[0][0]
    window.page.keyboard.press("ArrowRight")
    assert window.page.evaluate(focused) == columns[1][0]
    window.page.keyboard.press("ArrowDown")
    assert window.page.evaluate(focused) == columns[1][1]
    wait_for_updates(window, times=3)
    assert window.page.evaluate(focused) == columns[1][1]
    window.page.keyboard.press("m")
    window.page.wait_for_selector("dialog[open] form")
    assert f"Migrate {columns[1][1]}" in window.page.inner_text("dialog")
    window.escape()


def tab_until(window: DashboardWindow, selector: str) -> None:
    """Press Tab until an element that matches has the focus."""
    for _ in range(60):
        window.page.keyboard.press("Tab")
        if window.page.evaluate("found => document.activeElement.matches(found)", selector):
            return
    raise AssertionError(f"no {selector} within 60 tab stops")


def test_portfolio_migrates_by_keyboard_alone(frozen, window, installation):
    name, keyboard = "ge-sma", window.page.keyboard
    target = free_node(installation, name)
    keyboard.press("/")
    keyboard.type(name)
    tab_until(window, f".card[data-portfolio='{name}']")
    keyboard.press("m")
    window.page.wait_for_selector("dialog[open] form")
    chosen = f"dialog input[value='{target}']:checked"
    for _ in NODES:
        if window.page.locator(chosen).count():
            break
        keyboard.press("ArrowDown")
    tab_until(window, "dialog [name=reason]")
    keyboard.type("without a mouse")
    tab_until(window, "dialog [type=submit]")
    keyboard.press("Enter")
    window.page.wait_for_selector("dialog[open]", state="hidden")
    window.wait_for_card(name, target)
    (newest,) = installation.get(f"/api/handoffs/?portfolio={name}&limit=1")["results"]
    assert (newest["kind"], newest["reason"]) == ("migrate", "without a mouse")
    installation.call("POST", f"/api/portfolios/{name}/unpin/", {})


def test_palette_finds_a_page_and_an_action_which_opens_its_dialog(window):
    page = window.page
    chosen = page.locator("#palette [aria-selected=true] .palette-text")
    page.keyboard.press("Control+k")
    page.keyboard.type("ibm ver")
    page.wait_for_selector("#palette [aria-selected=true]:has-text('Verify ibm-sma')")
    page.keyboard.press("Enter")
    page.wait_for_selector("#action-dialog[open] [data-action]")
    assert page.inner_text("#action-title") == "Verify ibm-sma?"
    window.escape("#action-dialog")

    page.keyboard.press("Control+k")
    page.keyboard.type("node-2")
    page.wait_for_selector("#palette [aria-selected=true]:has-text('node-2')")
    assert chosen.inner_text() == "node-2"
    page.keyboard.press("ArrowDown")
    assert chosen.inner_text() != "node-2"
    page.keyboard.press("ArrowUp")
    page.keyboard.type("xyz")
    page.wait_for_selector("#palette [data-case=nothing]")
    window.escape("#palette")

    page.route("**/palette.json", lambda route: route.abort())
    page.keyboard.press("Control+k")
    page.wait_for_selector("#palette [data-case=failed]")
    window.escape("#palette")
    page.keyboard.press("?")
    page.wait_for_selector("#keys")
    page.uncheck("[data-single-keys]")
    window.escape("#keys")
    page.keyboard.press("?")
    assert page.locator("dialog[open]").count() == 0
    page.click("[data-keys]")
    page.check("[data-single-keys]")
    window.escape("#keys")

    page.unroute("**/palette.json")
    page.keyboard.press("Control+k")
    page.keyboard.type("node-2")
    page.wait_for_selector("#palette [aria-selected=true]:has-text('node-2')")
    page.keyboard.press("Enter")
    page.wait_for_url("**/nodes/node-2/", wait_until="commit")


def test_escape_returns_the_focus_to_the_card_whose_menu_was_opened(window):
    page = window.page
    card = page.locator(".card").first
    name = card.get_attribute("data-portfolio")
    card.focus()
    page.keyboard.press("m")
    page.wait_for_selector("dialog[open] form")
    window.escape()
    assert page.evaluate("document.activeElement.dataset.portfolio") == name
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.classList.contains('card')")
