"""The board of a running installation in a browser."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from playwright.sync_api import Browser, StorageState

from chaos.harness.installation import SLOW_MACHINE_S, Installation, eventually
from chaos.harness.processes import suspended
from tests.acceptance.conftest import SharedInstallations, product
from tests.support.browser import (
    DashboardWindow,
    dashboard_window,
    open_context,
    window_in,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NODES = ("node-1", "node-2", "node-3")


@pytest.fixture(scope="module")
def desk(browser: Browser, shared_installations: SharedInstallations) -> Iterator[DashboardWindow]:
    """The window of a signed-in operator. Opening the board anew for each test would take longer
    than most of them."""
    installation = product(shared_installations)
    context = open_context(browser)
    with window_in(context, installation) as opened:
        opened.sign_in(installation.access["username"], installation.access["password"])
        yield opened
    context.close()


@pytest.fixture
def window(installation: Installation, desk: DashboardWindow) -> Iterator[DashboardWindow]:
    """The window, on a live board without an open dialog or menu."""
    desk.return_to_board()
    desk.wait_until_live()
    yield desk
    desk.assert_clean()


@pytest.fixture
def login(desk: DashboardWindow) -> StorageState:
    """The cookies of the signed-in operator, for a window with other options."""
    return desk.page.context.storage_state()


def owner_of(installation: Installation, portfolio: str) -> str:
    return installation.get(f"/api/portfolios/{portfolio}/")["run"]["node"]


def free_node(installation: Installation, portfolio: str) -> str:
    """Return a node that can run the portfolio, as the migrate dialog shows it."""
    answers = installation.get(f"/api/schedule/targets/?portfolio={portfolio}")
    return next(a["node"] for a in answers["results"] if a["feasible"])


def wait_until_idle(installation: Installation) -> None:
    """Wait until no handoff is active."""
    eventually(
        lambda: not installation.get("/api/handoffs/?active=true")["results"],
        what="quiet",
    )


def test_board_shows_every_node_and_portfolio_live(window, installation):
    names = {p["name"] for p in installation.get("/api/portfolios/?limit=1000")["results"]}
    shown = window.page.locator(".card").evaluate_all(
        "cards => cards.map(c => c.dataset.portfolio)"
    )
    assert sorted(shown) == sorted(names)
    assert [
        window.page.get_attribute(f'.col[data-node="{node}"]', "data-status") for node in NODES
    ] == ["alive"] * 3
    assert re.fullmatch(r"Live · \d\.\d s", window.page.inner_text("#live"))


def wait_for_updates(window: DashboardWindow, times: int = 1) -> None:
    """Wait until the event count of canary-2 has changed `times` times."""
    events = window.page.locator('.card[data-portfolio="canary-2"] .card-lag.canary')

    def count() -> int:
        return int(events.inner_text().split()[0].replace(",", ""))

    for _ in range(times):
        before = count()
        eventually(lambda: count() > before, what="more events")  # noqa: B023


def test_canary_counts_events_without_a_gap(window):
    wait_for_updates(window)
    card = window.page.locator('.card[data-portfolio="canary-2"]')
    assert "0 gaps, 0 duplicates" in card.inner_text()


def test_migration_by_dialog_is_shown_to_its_end_without_a_reload(window, installation):
    name = "ibm-sma"
    wait_until_idle(installation)
    source, target = owner_of(installation, name), free_node(installation, name)
    window.mark()
    window.open_card_action(name, "Migrate")
    here = window.page.locator(f'dialog label[data-target="{source}"]')
    assert here.get_attribute("data-feasible") == "false"
    assert here.locator("input").is_disabled()
    window.page.check(f'dialog input[value="{target}"]')
    assert f"--to {target}" in window.page.inner_text("dialog footer code")
    window.page.fill("dialog [name=reason]", "shown in the browser")
    window.confirm("Migrate")
    window.wait_for_card(name, target)
    card = window.page.locator(f'.card[data-portfolio="{name}"]')
    assert card.locator(f'[aria-label="pinned to {target}"]').count() == 1
    recent = window.page.locator(".recent-handoffs li", has_text=name).first
    recent.wait_for()
    assert "shown in the browser" in recent.inner_text()
    assert re.search(r"\d m?s\n", recent.inner_text())  # the pause; seconds on a busy machine
    assert window.was_not_reloaded()
    assert owner_of(installation, name) == target
    installation.call("POST", f"/api/portfolios/{name}/unpin/", {})


def test_move_requested_over_the_api_appears_without_a_reload(window, installation):
    name = "tech-hold"
    wait_until_idle(installation)
    target = free_node(installation, name)
    window.mark()
    installation.call("POST", f"/api/portfolios/{name}/migrate/", {"target_node": target})
    window.wait_for_card(name, target)
    assert window.was_not_reloaded()
    installation.call("POST", f"/api/portfolios/{name}/unpin/", {})


def test_refusal_is_shown_in_the_dialog_and_keeps_the_input(window, installation):
    name = "bank-revert"
    wait_until_idle(installation)
    target = free_node(installation, name)
    window.open_card_action(name, "Migrate")
    window.page.check(f'dialog input[value="{target}"]')
    window.page.fill("dialog [name=reason]", "too late")
    installation.call("POST", f"/api/nodes/{target}/cordon/", {})
    try:
        window.page.locator("dialog button", has_text="Migrate").click()
        window.page.wait_for_selector("dialog[open] .callout.red")
        assert target in window.page.inner_text("dialog .callout.red")
        assert window.page.input_value("dialog [name=reason]") == "too late"
    finally:
        installation.call("POST", f"/api/nodes/{target}/uncordon/", {})


def test_drain_by_dialog_states_its_consequence_and_empties_the_node(window, installation):
    wait_until_idle(installation)
    window.mark()
    window.open_node_action("node-3", "Drain")
    here = window.page.locator("#col-node-3 .card").evaluate_all(
        "cards => cards.map(c => c.dataset.portfolio)"
    )
    goes = window.page.locator("dialog tr[data-portfolio]").evaluate_all(
        "rows => Object.fromEntries(rows.map(r => [r.dataset.portfolio, r.dataset.target]))"
    )
    assert sorted(goes) == sorted(here)
    assert set(goes.values()) <= {"node-1", "node-2"}
    window.page.fill("dialog [name=reason]", "kernel update")
    window.confirm("Drain node-3")
    try:
        window.page.wait_for_selector('.col[data-node="node-3"][data-status="draining"]')
        assert "kernel update" in window.page.inner_text("#col-node-3")
        eventually(
            lambda: not window.page.locator("#col-node-3 .card").count(),
            what="empty node-3",
        )
        assert "no portfolio runs here" in window.page.inner_text("#col-node-3 .drain-bar")
        assert window.was_not_reloaded()
    finally:
        if window.page.locator("#col-node-3 .drain-bar a").is_visible():
            window.page.click("#col-node-3 .drain-bar a")
            window.page.wait_for_selector("dialog[open] form")
            window.confirm("End the drain")
    window.page.wait_for_selector('.col[data-node="node-3"][data-status="alive"]')


@pytest.fixture
def frozen(installation: Installation) -> Iterator[None]:
    """Freeze automatic moves: a card that changes its column takes its menu along."""
    installation.call("POST", "/api/schedule/freeze/", {"reason": "test"})
    wait_until_idle(installation)
    yield
    installation.call("POST", "/api/schedule/unfreeze/", {})


def test_card_dragged_to_a_node_that_takes_it_migrates_by_the_dialog(frozen, window, installation):
    name, page = "energy-revert", window.page
    source, target = owner_of(installation, name), free_node(installation, name)
    (refusing,) = {*NODES} - {source, target}
    dialog = page.locator("dialog[open]")
    lifted = page.locator(".lifted, .drop-note, .over, [data-can]")
    installation.call("POST", f"/api/nodes/{refusing}/cordon/", {})
    try:
        window.drag_card(name, refusing)
        assert "cordoned" in page.inner_text(f"#col-{refusing} .drop-note")
        assert "already runs on" in page.inner_text(f"#col-{source} .drop-note")
        assert page.get_attribute(f"#col-{refusing}", "data-can") == "no"
        page.mouse.up()
        assert lifted.count() == dialog.count() == 0

        window.drag_card(name, target)
        assert page.get_attribute(f"#col-{target}", "data-can") == "yes"
        assert page.locator(".col.over").get_attribute("data-node") == target
        page.keyboard.press("Escape")
        page.mouse.up()
        assert lifted.count() == dialog.count() == 0

        window.drag_card(name, target)
        page.mouse.up()
        dialog.wait_for()
        assert page.is_checked(f'dialog input[value="{target}"]')
        assert owner_of(installation, name) == source
        window.confirm("Migrate")
        window.wait_for_card(name, target)
    finally:
        installation.call("POST", f"/api/nodes/{refusing}/uncordon/", {})
    installation.call("POST", f"/api/portfolios/{name}/unpin/", {})


def test_selected_cards_are_dragged_together_and_each_has_its_result(frozen, window, installation):
    page, keyboard = window.page, window.page.keyboard
    source, target, _ = NODES
    names = page.locator(f"#col-{source} .card").evaluate_all(
        "cards => cards.map(c => c.dataset.portfolio)"
    )
    row = next(n for n in installation.get("/api/nodes/")["results"] if n["name"] == target)
    room = int(row["capacity"] - row["load"])
    assert 0 < room < len(names)
    count = page.locator("#selection-bar [data-count]")
    lifted = page.locator(".lifted, .drop-note, .over, [data-can]")
    # By keyboard: the first, then down to the last.
    page.focus(f".card[data-portfolio='{names[0]}']")
    keyboard.press("Space")
    for _ in names[1:]:
        keyboard.press("Shift+ArrowDown")
    assert count.inner_text() == f"{len(names)} selected"
    window.drag_card(names[0], target)
    note = page.inner_text(f"#col-{target} .drop-note")
    assert f"{room} of {len(names)} can go" in note and f"{target} is full" in note
    assert "it already runs on" in page.inner_text(f"#col-{source} .drop-note")
    assert f"all {len(names)} can go" in page.inner_text("#selection-bar [data-answer]")
    assert page.locator(".card.lifted").count() == len(names)
    keyboard.press("Escape")
    page.mouse.up()
    assert lifted.count() == 0
    # By mouse: the last ones out again, so that the others fit.
    for name in names[room:]:
        page.locator(f".card[data-portfolio='{name}'] .card-strategy").click(modifiers=["Control"])
    moved = names[:room]
    assert page.locator(".card.selected").count() == room
    window.drag_card(moved[0], target)
    page.mouse.up()
    page.wait_for_selector("dialog[open] form")
    assert page.is_checked(f'dialog input[value="{target}"]')
    assert window.barriers("dialog") == []
    page.fill("dialog [name=reason]", "the rack is loud")
    page.click("dialog [type=submit]")
    page.wait_for_selector("dialog [data-moved]")
    outcomes = page.locator("dialog [data-outcome=moving]")
    assert outcomes.count() == len(moved)
    assert count.is_hidden()
    page.click("dialog [data-cancel]")
    for name in moved:
        window.wait_for_card(name, target)
        (newest,) = installation.get(f"/api/handoffs/?portfolio={name}&limit=1")["results"]
        assert newest["reason"] == "the rack is loud"
    back = {"portfolios": moved, "target_node": source}
    assert installation.call("POST", "/api/schedule/migrate-several/", back).status == 202
    for name in moved:
        window.wait_for_card(name, source)
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


def test_board_is_one_tab_stop_and_arrows_move_among_cards(frozen, window):
    window.open()  # the card of the tab stop is the first until another was focused
    window.wait_until_live()
    focused = "document.activeElement.dataset.portfolio"
    assert window.page.locator('.card[tabindex="0"]').count() == 1
    columns = [
        window.page.locator(f"#col-{node} .card").evaluate_all(
            "cards => cards.map(c => c.dataset.portfolio)"
        )
        for node in NODES[:2]
    ]
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
    window.page.keyboard.press("Escape")
    window.page.wait_for_selector("dialog[open]", state="hidden")


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


def test_language_is_switched_in_the_header(window):
    page = window.page
    page.click(".language button")
    try:
        page.wait_for_selector("html[lang=zh-hans]")
        window.wait_until_live()
        assert re.fullmatch(r"实时 · \d\.\d 秒", page.inner_text("#live"))
        assert "负载" in page.inner_text("#col-node-1 .meters >> nth=0")  # pushed to the open board
        page.keyboard.press("Control+k")
        page.keyboard.type("ibm")
        page.wait_for_selector("#palette [role=option]:has-text('迁移 ibm-sma')")
        page.keyboard.press("Escape")
        page.wait_for_selector("#palette", state="hidden")
        page.click(".language button")
        page.wait_for_selector("html[lang=en]")
    finally:
        page.context.clear_cookies(name="django_language")


def test_viewer_is_made_in_the_desk_and_is_offered_no_action(browser, window, installation):
    page, password = window.page, "a-viewer-of-the-desk"
    window.open("/people/")
    page.click("main >> text=Add…")
    page.wait_for_selector("dialog[open] form")
    page.fill("dialog [name=name]", "vera")
    page.select_option("dialog [name=role]", "viewer")
    page.click("dialog footer button:has-text('Add')")
    link = page.inner_text("#password-link")
    with dashboard_window(browser, installation) as hers:
        hers.page.goto(link)
        hers.page.fill("[name=new_password1]", password)
        hers.page.fill("[name=new_password2]", password)
        hers.page.click("text=Set the password >> visible=true")
        hers.page.wait_for_url("**/login/")
        hers.sign_in("vera", password)
        hers.wait_until_live()
        assert hers.page.inner_text(".user") == "vera · viewer"
        assert hers.page.locator("#halt, [data-dialog], .card[draggable]").count() == 0
        hers.page.locator(".card").first.focus()
        hers.page.keyboard.press("m")
        hers.page.keyboard.press("Control+k")
        hers.page.keyboard.type("migrate ibm")
        hers.page.wait_for_selector("#palette [data-case=nothing]")
        refused = hers.page.goto(installation.access["url"] + "/portfolios/ibm-sma/migrate/")
        assert refused is not None and refused.status == 403
        assert "operator" in hers.page.inner_text("main")


def test_what_if_page_offers_the_action_that_helps(frozen, window, installation):
    # node-3 takes nothing, so the five places of node-1 are all there is for what node-2 runs.
    installation.call("POST", "/api/nodes/node-3/cordon/", {"reason": "test"})
    try:
        plan = installation.get("/api/schedule/plan/?lose=node-2")
        left = [entry["portfolio"] for entry in plan["pending"]]
        eventually(
            lambda: window.page.inner_text("#col-node-2 [data-loss]").startswith(f"{len(left)} "),
            what="the loss of node-2 on its column",
        )
        window.page.locator("#col-node-2 .card").first.focus()
        window.page.keyboard.press("w")
        window.page.wait_for_url("**/what-if/?lose=node-2")
        assert window.page.inner_text("h1") == "If node-2 is lost now"
        assert window.page.inner_text("[data-verdict] h2") == plan["verdict"]["sentence"]
        shown = window.page.locator("#moves tbody tr, #unplaced .pending-row")
        named = shown.evaluate_all("rows => rows.map(row => row.dataset.portfolio)")
        assert named == [entry["portfolio"] for entry in (*plan["move"], *plan["pending"])]
        window.page.locator("[data-help=uncordon] a").click()
        window.page.wait_for_selector("dialog[open] form")
        window.confirm("Uncordon node-3")
        window.page.click("text=Compute again")
        window.page.wait_for_selector("#unplaced", state="detached")
        assert f"{len(named)} portfolios move." in window.page.inner_text("[data-verdict] h2")
        window.page.set_viewport_size({"width": 390, "height": 844})
        wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert not window.page.evaluate(wide)
    finally:
        installation.call("POST", "/api/nodes/node-3/uncordon/", {})


def test_portfolio_is_created_changed_compared_and_rolled_back(window, installation):
    page = window.page
    window.open("/portfolios/")
    page.click("text=New portfolio…")
    page.select_option("[name=strategy]", "sma_cross")
    page.wait_for_selector("[name='config.fast']")
    assert window.barriers("main") == []
    page.fill("[name=name]", "desk-made")
    page.fill("[name='config.fast']", "3")
    page.fill("[name='config.slow']", "8")
    page.fill("#id_symbols-add", "ibm")
    page.keyboard.press("Enter")
    assert page.inner_text(".symbol-picker .chips") == "IBM"
    page.click("footer button:has-text('Create')")
    page.wait_for_url("**/portfolios/desk-made/")
    page.wait_for_selector("#part-head[data-phase=running]")
    window.wait_until_live()
    window.mark()

    page.click("#part-head >> text=Edit…")
    page.wait_for_selector("dialog[open] form")
    page.fill("dialog [name='config.fast']", "many")
    page.fill("dialog [name=note]", "a try")
    page.click("dialog footer button:has-text('Save')")
    wrong = page.inner_text("dialog .field-error[data-field='config.fast']")
    assert wrong == "fast is 'many'; give a whole number."
    assert page.input_value("dialog [name='config.fast']") == "many"
    assert page.input_value("dialog [name=note]") == "a try"

    page.fill("dialog [name='config.fast']", "2")
    page.click("dialog footer button:has-text('Dry run')")
    page.wait_for_selector("dialog [data-differs='config.fast']")
    page.wait_for_selector("dialog [data-backtest-result] [data-orders]")
    assert "orders instead of" in page.inner_text("dialog [data-backtest-result]")
    window.confirm("Save")
    page.wait_for_selector("tr[data-revision='2'].current")
    assert window.was_not_reloaded()

    page.click("a[aria-label='Compare r1 and r2']")
    page.wait_for_selector("#compare [data-differs]")
    assert page.inner_text("#compare [data-differs] del") == "3"
    assert page.inner_text("#compare [data-differs] ins") == "2"
    page.click("a[aria-label='Reload to r1…']")
    page.wait_for_selector("dialog[open] form")
    assert page.is_checked("dialog [name=revision][value='1']")
    window.confirm("Reload")
    page.wait_for_selector("tr[data-revision='1'].current")
    assert installation.get("/api/portfolios/desk-made/")["revision"] == 1

    page.evaluate("scrollTo(0, document.body.scrollHeight)")  # the click below scrolls back up
    page.click("[popovertarget=more-actions]")
    page.click("#more-actions >> text=Delete…")
    page.wait_for_selector("dialog[open] form")
    page.click("dialog button:has-text('Delete desk-made')")
    page.wait_for_url("**/portfolios/")
    page.wait_for_selector("tr[data-portfolio]")
    assert page.locator("tr[data-portfolio='desk-made']").count() == 0


def test_portfolio_page_draws_its_curve_and_tables(window, installation):
    window.open("/portfolios/tech-hold/")
    window.wait_until_live()
    window.page.wait_for_selector("#equity-chart canvas", timeout=SLOW_MACHINE_S * 1000)
    assert window.page.locator("#orders tbody tr").count() > 0
    assert window.page.locator("#tenures tr.current").count() == 1
    rows = window.page.locator("#part-positions tbody tr").count()
    account = installation.get("/api/portfolios/tech-hold/")["account"]
    assert rows == len(account["positions"])
    assert window.barriers() == []
    window.page.click("#part-head >> text=Edit…")
    window.page.wait_for_selector("dialog[open] form")
    assert window.barriers("dialog[open]") == []


#: Pages with another main part each; the form of a portfolio and its page have their own tests.
PAGES = (
    "/portfolios/",
    "/orders/",
    "/nodes/",
    "/nodes/node-1/",
    "/handoffs/",
    "/handoffs/1/",
    "/incidents/",
    "/people/",
    "/feeds/",
    "/strategies/",
    "/roll-outs/",
    "/what-if/",
    "/add-node/",
    "/halt/",
)


def test_axe_finds_no_barrier_on_any_page(window):
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


def test_palette_finds_a_page_and_an_action_which_opens_its_dialog(window):
    page = window.page
    chosen = page.locator("#palette [aria-selected=true] .palette-text")
    page.keyboard.press("Control+k")
    page.keyboard.type("ibm ver")
    page.wait_for_selector("#palette [aria-selected=true]:has-text('Verify ibm-sma')")
    page.keyboard.press("Enter")
    page.wait_for_selector("#action-dialog[open] [data-action]")
    assert page.inner_text("#action-title") == "Verify ibm-sma?"
    page.keyboard.press("Escape")
    page.wait_for_selector("#action-dialog", state="hidden")

    page.keyboard.press("Control+k")
    page.keyboard.type("node-2")
    page.wait_for_selector("#palette [aria-selected=true]:has-text('node-2')")
    assert chosen.inner_text() == "node-2"
    page.keyboard.press("ArrowDown")
    assert chosen.inner_text() != "node-2"
    page.keyboard.press("ArrowUp")
    page.keyboard.type("xyz")
    page.wait_for_selector("#palette [data-case=nothing]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#palette", state="hidden")

    page.route("**/palette.json", lambda route: route.abort())
    page.keyboard.press("Control+k")
    page.wait_for_selector("#palette [data-case=failed]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#palette", state="hidden")
    page.keyboard.press("?")
    page.wait_for_selector("#keys")
    page.uncheck("[data-single-keys]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#keys", state="hidden")
    page.keyboard.press("?")
    assert page.locator("dialog[open]").count() == 0
    page.click("[data-keys]")
    page.check("[data-single-keys]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#keys", state="hidden")

    page.unroute("**/palette.json")
    page.keyboard.press("Control+k")
    page.keyboard.type("node-2")
    page.wait_for_selector("#palette [aria-selected=true]:has-text('node-2')")
    page.keyboard.press("Enter")
    page.wait_for_url("**/nodes/node-2/", wait_until="commit")


RECORD_NOTIFICATIONS = """
window.notified = [];
window.Notification = class extends Notification {
  constructor(title, options) { super(title, options); window.notified.push(options.body); }
};
"""


@pytest.fixture
def tab(window: DashboardWindow, installation: Installation) -> Iterator[DashboardWindow]:
    """A second tab of the operator's browser."""
    with window_in(window.page.context, installation) as opened:
        yield opened


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
        before = int(page.get_attribute("#part-alert-bell", "data-count") or 0)
        try:
            for node in NODES:
                installation.call("POST", f"/api/nodes/{node}/cordon/", {"reason": "test"})
            page.wait_for_selector(f"#part-alert-bell[data-count='{before + 1}']")
            page.wait_for_selector("#open-alerts tr[data-kind=no_open_node]")
            assert page.title().startswith(f"({before + 1}) ")
            icon = page.get_attribute("link[rel=icon]", "href")
            assert icon == f"/alerts/icon-{before + 1}.svg"
            (text,) = page.evaluate("window.notified")
            assert text.startswith("no node accepts portfolios: ")
            assert window.barriers("main") == []
            page.click("tr[data-kind=no_open_node] >> text=Acknowledge…")
            page.wait_for_selector("dialog[open] form")
            window.confirm("Acknowledge")
            page.wait_for_selector(f"#part-alert-bell[data-count='{before}']")
        finally:
            for node in NODES:
                installation.call("POST", f"/api/nodes/{node}/uncordon/", {})
        page.wait_for_selector("#open-alerts tr[data-kind=no_open_node]", state="detached")


def test_page_is_stale_while_the_server_is_silent(window, installation):
    web = installation.process_of("uvicorn")
    window.mark()
    web.send_signal(signal.SIGSTOP)
    try:
        window.page.wait_for_selector("#live[data-state=stale]", timeout=SLOW_MACHINE_S * 1000)
        assert re.fullmatch(r"Stale since \d\d:\d\d:\d\d UTC", window.page.inner_text("#live"))
        assert window.page.locator("#stale-banner").is_visible()
        assert "The server does not respond" in window.page.inner_text("#stale-banner")
        struck = "getComputedStyle(document.querySelector('.lease output')).textDecorationLine"
        assert window.page.evaluate(struck) == "line-through"
        before = window.page.inner_text("#col-node-1 .lease output")
        time.sleep(1.5)
        assert window.page.inner_text("#col-node-1 .lease output") == before
    finally:
        web.send_signal(signal.SIGCONT)
    window.wait_until_live()
    assert window.page.locator("#stale-banner").is_hidden()
    assert window.was_not_reloaded()


@contextmanager
def web_killed(installation: Installation) -> Iterator[None]:
    """Kill the web process. The launcher, which starts another, is suspended meanwhile."""
    assert installation.process is not None
    with suspended([psutil.Process(installation.process.pid)]):
        installation.process_of("uvicorn").kill()
        yield


def test_page_reconnects_to_a_restarted_web_process_without_a_reload(window, tab, installation):
    wait_until_idle(installation)
    tab.open("/handoffs/")
    tab.wait_until_live()
    for each in (window, tab):
        each.mark()
    with web_killed(installation):
        not_live = "#live:not([data-state=live])"
        window.page.wait_for_selector(not_live, timeout=SLOW_MACHINE_S * 1000)
        # Halt all, of all actions, must not leave the page for an error page of the browser.
        window.page.click("#halt")
        away = window.page.locator("dialog[open] [data-away]")
        away.wait_for()
        assert "The server does not respond" in away.inner_text()
        assert away.locator("code").inner_text().endswith("manage.py halt_all")
        assert window.page.locator(".card").count() == 9
    window.page.wait_for_selector("dialog[open] form[action='/halt/']")  # it opens by itself
    window.page.keyboard.press("Escape")
    assert window.page.evaluate("document.activeElement.id") == "halt"
    window.wait_until_live()
    assert window.was_not_reloaded()
    # The tables of the other page are fetched again.
    where = {"target_node": free_node(installation, "canary-3")}
    installation.call("POST", "/api/portfolios/canary-3/migrate/", where)
    (newest,) = installation.get("/api/handoffs/?portfolio=canary-3&limit=1")["results"]
    tab.page.wait_for_selector(f"#table tr[data-handoff='{newest['id']}'][data-state=done]")
    assert tab.page.locator("#old-tables").is_hidden()
    assert tab.was_not_reloaded()
    installation.call("POST", "/api/portfolios/canary-3/unpin/", {})


def test_action_sent_while_the_server_is_away_is_kept_and_sent_again(window, installation):
    window.mark()
    page = window.page
    window.open_node_action("node-2", "Cordon")
    page.fill("dialog [name=reason]", "typed before it went away")
    with web_killed(installation):
        page.wait_for_selector("#live:not([data-state=live])", timeout=SLOW_MACHINE_S * 1000)
        page.locator("dialog[open] button[type=submit]").click()
        note = page.locator("dialog [data-failed]")
        note.wait_for()
        assert "is sent again by itself" in note.inner_text()
        assert page.evaluate("document.querySelector('dialog section').inert")
        assert page.input_value("dialog [name=reason]") == "typed before it went away"
        # The line that it offers runs as pasted, from any folder and without the server.
        line = note.locator("code").inner_text()
        done = subprocess.run(
            line, shell=True, cwd="/", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    try:
        page.wait_for_selector("dialog[open]", state="hidden")
        window.wait_until_live()
        assert window.was_not_reloaded()
        # The form was sent again after the line had done it, which changed nothing more.
        (newest, *_) = installation.get("/api/events/?kind=node_cordoned&node=node-2")["results"]
        assert newest["reason"] == ""
    finally:
        installation.call("POST", "/api/nodes/node-2/uncordon/", {})


def test_second_of_two_tabs_that_edit_is_told_and_reverts_nothing(window, tab, installation):
    name = "tech-hold"
    wait_until_idle(installation)
    opened = installation.get(f"/api/portfolios/{name}/")["priority"]
    for each in (window, tab):
        each.open(f"/portfolios/{name}/")
        each.wait_until_live()
        each.page.click("#part-head >> text=Edit…")
        each.page.wait_for_selector("dialog[open] form")
    save = "dialog footer button:has-text('Save')"
    window.page.fill("dialog [name=priority]", str(opened + 3))
    window.page.click(save)
    window.page.wait_for_selector("dialog[open]", state="hidden")
    tab.page.fill("dialog [name=priority]", str(opened + 5))
    tab.page.click(save)
    said = tab.page.locator("dialog [data-conflict]")
    said.wait_for()
    change = rf"{installation.access['username']} \d+ (s|min) ago changed priority "
    assert re.search(rf"{change}{opened} → {opened + 3}\.", said.inner_text())
    row = said.locator("tr[data-field=priority][data-clash] td").all_inner_texts()
    assert row == ["priority", str(opened), str(opened + 3), str(opened + 5)]
    assert installation.get(f"/api/portfolios/{name}/")["priority"] == opened + 3
    assert tab.page.input_value("dialog [name=priority]") == str(opened + 5)
    tab.page.click(save)
    tab.page.wait_for_selector("dialog[open]", state="hidden")
    assert installation.get(f"/api/portfolios/{name}/")["priority"] == opened + 5
    installation.call("PATCH", f"/api/portfolios/{name}/", {"priority": opened})


def test_escape_returns_the_focus_to_the_card_whose_menu_was_opened(window):
    page = window.page
    card = page.locator(".card").first
    name = card.get_attribute("data-portfolio")
    card.focus()
    page.keyboard.press("m")
    page.wait_for_selector("dialog[open] form")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="hidden")
    assert page.evaluate("document.activeElement.dataset.portfolio") == name
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.classList.contains('card')")


def test_narrow_screen_does_not_scroll_sideways_and_fits_fingers(browser, installation, login):
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
        assert window.page.locator(".col.open").count() == 1
        window.page.click("#col-node-2 [data-fold]")
        assert window.page.locator("#col-node-2 .card").first.is_visible()


def test_board_and_migration_work_without_scripts(browser, installation, login):
    name = "energy-revert"
    wait_until_idle(installation)
    target = free_node(installation, name)
    no_scripts = {"java_script_enabled": False, "storage_state": login}
    with dashboard_window(browser, installation, **no_scripts) as window:
        window.open()
        assert window.page.locator("tr[data-portfolio]").count() == 9
        assert window.page.locator("tr[data-node][data-status=alive]").count() == 3
        assert window.page.inner_text("#live").startswith("Figures from ")
        window.open(f"/portfolios/{name}/migrate/")
        window.page.check(f'input[value="{target}"]')
        window.page.click("button:has-text('Migrate')")
        assert f"{name} is moving to {target}." in window.page.inner_text("body")
    eventually(lambda: owner_of(installation, name) == target, what="the move")
    wait_until_idle(installation)
    installation.call("POST", f"/api/portfolios/{name}/unpin/", {})


def test_chosen_theme_is_kept(window):
    # The last test: the window keeps it.
    toggle = window.page.locator("[data-theme-toggle]")
    assert toggle.get_attribute("aria-label") == "Theme: system"
    toggle.click()
    window.page.reload()
    assert window.page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert toggle.get_attribute("aria-label") == "Theme: dark"
