"""Pages for everyone: accessible, in two languages, on narrow screens, without scripts."""

from __future__ import annotations

import re

import pytest

from chaos.harness.installation import SLOW_MACHINE_S, eventually
from tests.support.board import free_node, owner_of, wait_until_idle
from tests.support.browser import dashboard_window

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_language_is_switched_in_the_header(window):
    page = window.page
    page.click(".language button")
    try:
        page.wait_for_selector("html[lang=zh-hans]")
        window.wait_until_live()
        eventually(
            lambda: re.fullmatch(r"实时 · \d\.\d 秒", page.inner_text("#live")), what="the age"
        )
        assert "负载" in page.inner_text("#col-node-1 .meters >> nth=0")  # pushed to the open board
        page.keyboard.press("Control+k")
        page.keyboard.type("ibm")
        page.wait_for_selector("#palette [role=option]:has-text('迁移 ibm-sma')")
        window.escape("#palette")
        page.click(".language button")
        page.wait_for_selector("html[lang=en]")
    finally:
        page.context.clear_cookies(name="django_language")


def test_portfolio_page_draws_its_curve_and_tables(window, installation):
    window.open("/portfolios/tech-hold/")
    window.wait_until_live()
    window.page.wait_for_selector("#equity-chart canvas", timeout=SLOW_MACHINE_S * 1000)
    assert window.page.locator("#orders tbody tr").count() > 0
    assert window.page.locator("#tenures tr.current").count() == 1
    rows = window.page.locator("#part-positions tbody tr")

    def has_a_row_for_each_position() -> bool:
        account = installation.get("/api/portfolios/tech-hold/")["account"]
        return bool(rows.count() == len(account["positions"]))

    eventually(has_a_row_for_each_position)  # it may trade between the two reads
    assert window.barriers() == []
    window.open_dialog("#part-head >> text=Edit…")
    assert window.barriers("dialog[open]") == []


#: Pages with another main part each; the form of a portfolio and its page have their own tests.
PAGES = (
    *("/portfolios/", "/orders/", "/nodes/", "/nodes/node-1/", "/handoffs/", "/handoffs/1/"),
    *("/incidents/", "/people/", "/feeds/", "/strategies/", "/roll-outs/", "/what-if/"),
    *("/add-node/", "/halt/"),
)


def test_axe_finds_no_accessibility_violation_on_any_page(window):
    page = window.page
    found = {"board": window.barriers()}
    page.click("[data-choose='view=heatmap']")
    found["heatmap"] = window.barriers("main")
    page.keyboard.press("Control+k")
    page.wait_for_selector("#palette [role=option]")
    found["palette"] = window.barriers("dialog[open]")
    window.open("/audit/")
    window.wait_until_live()
    found["audit"] = window.barriers()
    for address in PAGES:
        window.show_main(address)
        assert page.locator("h1").count() == 1, address
        found[address] = window.barriers("main", contrast=False)
    assert {where: barriers for where, barriers in found.items() if barriers} == {}


#: Cells of tables that a narrow window shows only in part, or not at all.
CELLS_BEYOND = """
[...document.querySelectorAll("main .table td")]
  .filter((cell) => cell.getBoundingClientRect().right > innerWidth)
  .map((cell) => cell.textContent.trim())
"""


def test_narrow_screen_does_not_scroll_sideways_or_have_small_targets(browser, installation, login):
    wait_until_idle(installation)
    where = {"target_node": free_node(installation, "tech-hold"), "reason": "w" * 200}
    installation.call("POST", "/api/portfolios/tech-hold/migrate/", where)
    installation.call("POST", "/api/portfolios/tech-hold/unpin/", {})
    size = {"width": 390, "height": 844}
    with dashboard_window(browser, installation, viewport=size, storage_state=login) as window:
        (newest,) = installation.get("/api/handoffs/?limit=1")["results"]
        handoffs = ("/handoffs/", f"/handoffs/{newest['id']}/")
        others = ("/portfolios/tech-hold/", "/portfolios/", "/nodes/", "/audit/", "/alerts/")
        window.open("/?view=heatmap")
        window.page.wait_for_selector(".heat-cell")
        assert window.small_targets() == []
        for address in (*handoffs, *others, "/"):
            window.open(address)
            window.wait_until_live()
            assert window.page.evaluate("document.documentElement.scrollWidth") == 390, address
            assert window.small_targets() == [], address
            assert window.page.evaluate(CELLS_BEYOND) == [], address
        assert window.page.locator(".col.open").count() == 1
        window.page.click("#col-node-2 [data-fold]")
        assert window.page.locator("#col-node-2 .card").first.is_visible()


def three_alive(window):
    """Return whether the page shows three nodes alive; load it again if not."""
    if window.page.locator("tr[data-node][data-status=alive]").count() == 3:
        return True
    window.page.reload()
    return False


def test_board_and_migration_work_without_scripts(browser, installation, login):
    name = "energy-revert"
    wait_until_idle(installation)
    target = free_node(installation, name)
    no_scripts = {"java_script_enabled": False, "storage_state": login}
    with dashboard_window(browser, installation, **no_scripts) as window:
        window.open()
        assert window.page.locator("tr[data-portfolio]").count() == 9
        eventually(lambda: three_alive(window), what="three nodes alive")
        assert window.page.inner_text("#live").startswith("Figures from ")
        window.open(f"/portfolios/{name}/migrate/")
        window.page.check(f'input[value="{target}"]')
        window.page.click("button:has-text('Migrate')")
        assert f"{name} is moving to {target}." in window.page.inner_text("body")
    eventually(lambda: owner_of(installation, name) == target, what="the move")
    wait_until_idle(installation)
    installation.call("POST", f"/api/portfolios/{name}/unpin/", {})


def test_chosen_theme_is_kept(window):
    toggle = window.page.locator("[data-theme-toggle]")
    assert toggle.get_attribute("aria-label") == "Theme: system"
    toggle.click()
    window.page.reload()
    assert window.page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert toggle.get_attribute("aria-label") == "Theme: dark"
    toggle.click()
    toggle.click()
    assert toggle.get_attribute("aria-label") == "Theme: system"  # as the next test expects it
