"""The board over a running house, as a person sees it: in a browser, live."""

from __future__ import annotations

import itertools
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from chaos.harness.installation import SLOW_MACHINE_S, Installation, eventually
from ginkgo_site.env import CHECKOUT
from tests.acceptance.conftest import SharedInstallations, product
from tests.support.browser import DashboardWindow, a_browser, window

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NODES = ("node-1", "node-2", "node-3")
VIEWER_PASSWORD = "only-looks-4-tests"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with a_browser() as running:
        yield running


@pytest.fixture(scope="module")
def signed_in(browser: Browser, shared_installations: SharedInstallations) -> Any:
    """The cookies of somebody who has signed in."""
    installation = product(shared_installations)
    with window(browser, installation) as opened:
        opened.sign_in(installation.access["username"], installation.access["password"])
        return opened.page.context.storage_state()


@pytest.fixture
def desk(browser: Browser, installation: Installation, signed_in: Any) -> Iterator[DashboardWindow]:
    with window(browser, installation, storage_state=signed_in) as opened:
        opened.open()
        opened.is_live()
        yield opened


@pytest.fixture
def viewer(browser: Browser, installation: Installation) -> Iterator[DashboardWindow]:
    create = (
        "from django.contrib.auth.models import Group, User; "
        "u, _ = User.objects.get_or_create(username='vic'); "
        f"u.set_password('{VIEWER_PASSWORD}'); u.save(); "
        "u.groups.set([Group.objects.get_or_create(name='viewer')[0]])"
    )
    subprocess.run(
        [sys.executable, "manage.py", "shell", "-c", create],
        cwd=CHECKOUT,
        env=installation.environment(),
        check=True,
        capture_output=True,
    )
    with window(browser, installation) as opened:
        opened.sign_in("vic", VIEWER_PASSWORD)
        opened.is_live()
        yield opened


def place_of(installation: Installation, portfolio: str) -> str:
    return installation.get(f"/api/portfolios/{portfolio}/")["run"]["node"]


def free_node(installation: Installation, portfolio: str) -> str:
    """A node that can take the portfolio, by the same answers that the dialog shows."""
    answers = installation.get(f"/api/schedule/targets/?portfolio={portfolio}")
    return next(a["node"] for a in answers["results"] if a["feasible"])


def settle(installation: Installation) -> None:
    """Wait until no handoff is under way."""
    eventually(lambda: not installation.get("/api/handoffs/?active=true")["results"], 20, "quiet")


def test_the_board_shows_every_node_and_portfolio_and_is_live(desk, installation):
    names = {p["name"] for p in installation.get("/api/portfolios/?limit=1000")["results"]}
    shown = desk.page.locator(".card").evaluate_all("cards => cards.map(c => c.dataset.portfolio)")
    assert sorted(shown) == sorted(names)
    assert [
        desk.page.get_attribute(f'.col[data-node="{node}"]', "data-status") for node in NODES
    ] == ["alive"] * 3
    assert re.fullmatch(r"Live · \d\.\d s", desk.page.inner_text("#live"))


def test_a_lease_drains_before_the_eyes_and_is_filled_by_a_beat(desk):
    lease = desk.page.locator("#col-node-1 .lease")
    seen: list[int] = []

    def has_drained_and_was_filled() -> bool:
        left = int(lease.get_attribute("aria-valuenow") or 0)
        if seen[-1:] != [left]:
            seen.append(left)
        steps = [b - a for a, b in itertools.pairwise(seen)]
        return sum(step < 0 for step in steps) >= 5 and any(step > 0 for step in steps)

    eventually(has_drained_and_was_filled, 20, "five falls of the lease and a beat")
    assert lease.get_attribute("role") == "meter"


def is_updated(desk: DashboardWindow, times: int = 1) -> None:
    """Wait until the server has sent other figures of canary-2, so many times."""
    events = desk.page.locator('.card[data-portfolio="canary-2"] .lg.once')

    def count() -> int:
        return int(events.inner_text().split()[0].replace(",", ""))

    for _ in range(times):
        before = count()
        eventually(lambda: count() > before, 10, "more events")  # noqa: B023


def test_a_canary_counts_on_and_has_no_gap(desk):
    is_updated(desk)
    card = desk.page.locator('.card[data-portfolio="canary-2"]')
    assert "0 gaps, 0 duplicates" in card.inner_text()


def test_a_migration_by_dialog_is_watched_to_its_end_without_a_reload(desk, installation):
    name = "ibm-sma"
    settle(installation)
    source, target = place_of(installation, name), free_node(installation, name)
    desk.mark()
    desk.act_on_card(name, "Migrate")
    here = desk.page.locator(f'dialog label[data-target="{source}"]')
    assert here.get_attribute("data-feasible") == "false"
    assert here.locator("input").is_disabled()
    desk.page.check(f'dialog input[value="{target}"]')
    assert f"--to {target}" in desk.page.inner_text("dialog footer code")
    desk.page.fill("dialog [name=reason]", "shown in the browser")
    desk.confirm("Migrate")
    desk.card_on(name, target)
    card = desk.page.locator(f'.card[data-portfolio="{name}"]')
    assert card.locator(f'[aria-label="pinned to {target}"]').count() == 1
    recent = desk.page.locator(".rec li", has_text=name).first
    recent.wait_for()
    assert "shown in the browser" in recent.inner_text()
    assert re.search(r"\d ms", recent.inner_text())
    assert desk.was_not_reloaded()
    assert place_of(installation, name) == target
    installation.call("POST", f"/api/portfolios/{name}/unpin/", {})


def test_a_move_asked_for_elsewhere_shows_up_by_itself(desk, installation):
    name = "tech-hold"
    settle(installation)
    target = free_node(installation, name)
    desk.mark()
    installation.call("POST", f"/api/portfolios/{name}/migrate/", {"target_node": target})
    desk.card_on(name, target)
    assert desk.was_not_reloaded()
    installation.call("POST", f"/api/portfolios/{name}/unpin/", {})


def test_a_refusal_stays_in_the_dialog_with_what_was_typed(desk, installation):
    name = "bank-revert"
    settle(installation)
    target = free_node(installation, name)
    desk.act_on_card(name, "Migrate")
    desk.page.check(f'dialog input[value="{target}"]')
    desk.page.fill("dialog [name=reason]", "too late")
    installation.call("POST", f"/api/nodes/{target}/cordon/", {})
    try:
        desk.page.locator("dialog button", has_text="Migrate").click()
        desk.page.wait_for_selector("dialog[open] .callout.red")
        assert target in desk.page.inner_text("dialog .callout.red")
        assert desk.page.input_value("dialog [name=reason]") == "too late"
    finally:
        installation.call("POST", f"/api/nodes/{target}/uncordon/", {})


def test_a_drain_by_dialog_says_the_consequence_first_and_empties_the_node(desk, installation):
    settle(installation)
    desk.mark()
    desk.act_on_node("node-3", "Drain")
    here = desk.page.locator("#col-node-3 .card").evaluate_all(
        "cards => cards.map(c => c.dataset.portfolio)"
    )
    said = desk.page.inner_text("dialog .what")
    assert all(name in said for name in here)
    desk.page.fill("dialog [name=reason]", "kernel update")
    desk.confirm("Drain node-3")
    try:
        desk.page.wait_for_selector('.col[data-node="node-3"][data-status="draining"]')
        assert "kernel update" in desk.page.inner_text("#col-node-3")
        eventually(lambda: not desk.page.locator("#col-node-3 .card").count(), 40, "empty node-3")
        assert "nothing runs here" in desk.page.inner_text("#col-node-3 .drainbar")
        assert desk.was_not_reloaded()
    finally:
        if desk.page.locator("#col-node-3 .drainbar a").count():
            desk.page.click("#col-node-3 .drainbar a")
            desk.page.wait_for_selector("dialog[open] form")
            desk.confirm("End the drain")
    desk.page.wait_for_selector('.col[data-node="node-3"][data-status="alive"]')


@pytest.fixture
def still(installation: Installation) -> Iterator[None]:
    """Nothing is moved meanwhile: a card that changes its column takes its menu along."""
    installation.call("POST", "/api/schedule/freeze/", {"reason": "test"})
    settle(installation)
    yield
    installation.call("POST", "/api/schedule/unfreeze/", {})


def test_an_open_menu_and_the_focus_survive_the_updates(still, desk):
    card = desk.page.locator('.card[data-portfolio="canary-1"]')
    card.hover()
    card.locator(".menu-button").click()
    is_updated(desk, times=3)
    assert desk.page.locator("#cardmenu-canary-1").is_visible()
    focused = desk.page.evaluate("document.activeElement.textContent")
    assert focused == "Migrate…"


def test_the_board_is_one_tab_stop_and_arrows_move_among_its_cards(still, desk):
    focused = "document.activeElement.dataset.portfolio"
    assert desk.page.locator('.card[tabindex="0"]').count() == 1
    columns = [
        desk.page.locator(f"#col-{node} .card").evaluate_all(
            "cards => cards.map(c => c.dataset.portfolio)"
        )
        for node in NODES[:2]
    ]
    desk.page.focus('.card[tabindex="0"]')
    assert desk.page.evaluate(focused) == columns[0][0]
    desk.page.keyboard.press("ArrowRight")
    assert desk.page.evaluate(focused) == columns[1][0]
    desk.page.keyboard.press("ArrowDown")
    assert desk.page.evaluate(focused) == columns[1][1]
    is_updated(desk, times=3)
    assert desk.page.evaluate(focused) == columns[1][1]
    desk.page.keyboard.press("m")
    desk.page.wait_for_selector("dialog[open] form")
    assert f"Migrate {columns[1][1]}" in desk.page.inner_text("dialog")
    desk.page.keyboard.press("Escape")
    desk.page.wait_for_selector("dialog", state="hidden")


def test_what_if_answers_before_anybody_acts_and_names_the_act_that_helps(
    still, desk, installation
):
    # node-3 takes nothing, so the five places of node-1 are all there is for what node-2 runs.
    installation.call("POST", "/api/nodes/node-3/cordon/", {"reason": "test"})
    try:
        plan = installation.get("/api/schedule/plan/?lose=node-2")
        left = [entry["portfolio"] for entry in plan["pending"]]
        eventually(
            lambda: desk.page.inner_text("#col-node-2 [data-loss]").startswith(f"{len(left)} "),
            20,
            "the loss of node-2 on its column",
        )
        desk.page.locator("#col-node-2 .card").first.focus()
        desk.page.keyboard.press("w")
        desk.page.wait_for_url("**/what-if/?lose=node-2")
        assert desk.page.inner_text("h1") == "If node-2 is lost now"
        assert desk.page.inner_text("[data-verdict] h2") == plan["verdict"]["sentence"]
        shown = desk.page.locator("#moves tbody tr, #left .plead")
        named = shown.evaluate_all("rows => rows.map(row => row.dataset.portfolio)")
        assert named == [entry["portfolio"] for entry in (*plan["move"], *plan["pending"])]
        desk.page.locator("[data-help=uncordon] a").click()
        desk.page.wait_for_selector("dialog[open] form")
        desk.confirm("Uncordon node-3")
        desk.page.click("text=Compute again")
        desk.page.wait_for_selector("#left", state="detached")
        assert f"{len(named)} portfolios move." in desk.page.inner_text("[data-verdict] h2")
        desk.page.set_viewport_size({"width": 390, "height": 844})
        wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert not desk.page.evaluate(wide)
    finally:
        installation.call("POST", "/api/nodes/node-3/uncordon/", {})


def test_a_wrong_parameter_is_named_and_nothing_is_retyped(desk):
    desk.open("/portfolios/ge-sma/")
    desk.is_live()
    desk.page.click("#part-head >> text=Edit…")
    desk.page.wait_for_selector("dialog[open] form")
    wrong = '{"fast": "many", "slow": 9}'
    desk.page.fill("dialog [name=config]", wrong)
    desk.page.fill("dialog [name=note]", "a try")
    desk.page.click("dialog button:has-text('Save')")
    desk.page.wait_for_selector('dialog .field-error[data-field="config"]')
    assert "fast" in desk.page.inner_text('dialog .field-error[data-field="config"]')
    assert desk.page.input_value("dialog [name=config]") == wrong
    assert desk.page.input_value("dialog [name=note]") == "a try"
    desk.page.click("dialog [data-cancel]")
    desk.page.wait_for_selector("dialog", state="hidden")


def test_the_page_of_a_portfolio_draws_its_curve_and_its_tables(desk, installation):
    desk.open("/portfolios/tech-hold/")
    desk.is_live()
    desk.page.wait_for_selector("#equity-chart canvas", timeout=SLOW_MACHINE_S * 1000)
    assert desk.page.locator("#orders tbody tr").count() > 0
    assert desk.page.locator("#tenures tr.cur").count() == 1
    rows = desk.page.locator("#part-positions tbody tr").count()
    account = installation.get("/api/portfolios/tech-hold/")["account"]
    assert rows == len(account["positions"])


def test_every_page_opens_live_and_without_an_error(desk):
    for address in ("/portfolios/", "/nodes/", "/handoffs/", "/handoffs/1/", "/audit/"):
        desk.open(address)
        desk.is_live()
        assert desk.page.locator("h1").count() == 1, address
        assert desk.violations() == []


def test_a_silent_server_makes_the_page_stale_and_its_return_makes_it_live(desk, installation):
    web = installation.process_of("uvicorn")
    desk.mark()
    web.send_signal(signal.SIGSTOP)
    try:
        desk.page.wait_for_selector("#live[data-state=stale]", timeout=SLOW_MACHINE_S * 1000)
        assert re.fullmatch(r"Stale since \d\d:\d\d:\d\d", desk.page.inner_text("#live"))
        assert desk.page.locator("#stale-banner").is_visible()
        assert "The server does not answer" in desk.page.inner_text("#stale-banner")
        struck = "getComputedStyle(document.querySelector('.lease output')).textDecorationLine"
        assert desk.page.evaluate(struck) == "line-through"
        before = desk.page.inner_text("#col-node-1 .lease output")
        time.sleep(1.5)
        assert desk.page.inner_text("#col-node-1 .lease output") == before
    finally:
        web.send_signal(signal.SIGCONT)
    desk.is_live()
    assert desk.page.locator("#stale-banner").is_hidden()
    assert desk.was_not_reloaded()


def test_a_web_process_that_dies_is_found_again_without_a_reload(desk, installation):
    desk.mark()
    installation.process_of("uvicorn").kill()
    desk.page.wait_for_selector("#live:not([data-state=live])", timeout=SLOW_MACHINE_S * 1000)
    desk.is_live(30)
    assert desk.was_not_reloaded()


def test_a_viewer_finds_no_act_and_a_post_by_hand_is_refused(viewer, installation):
    assert viewer.page.locator("[data-dialog]").count() == 0
    assert "vic · viewer" in viewer.page.inner_text(".who")
    token = viewer.page.input_value("[name=csrfmiddlewaretoken]")
    answer = viewer.page.request.post(
        installation.access["url"] + "/portfolios/tech-hold/stop/",
        form={"csrfmiddlewaretoken": token},
        headers={"Referer": installation.access["url"] + "/"},
    )
    assert answer.status == 403
    assert "vic is a viewer" in answer.text()
    assert place_of(installation, "tech-hold") in NODES


def test_on_a_narrow_screen_nothing_scrolls_sideways(browser, installation):
    settle(installation)
    where = {"target_node": free_node(installation, "tech-hold"), "reason": "w" * 200}
    installation.call("POST", "/api/portfolios/tech-hold/migrate/", where)
    installation.call("POST", "/api/portfolios/tech-hold/unpin/", {})
    with window(browser, installation, viewport={"width": 390, "height": 844}) as desk:
        desk.sign_in(installation.access["username"], installation.access["password"])
        for address in ("/", "/portfolios/tech-hold/", "/portfolios/", "/nodes/", "/audit/"):
            desk.open(address)
            desk.is_live()
            assert desk.page.evaluate("document.documentElement.scrollWidth") == 390, address
        desk.open("/")
        desk.is_live()
        assert desk.page.locator(".col.open").count() == 1
        desk.page.click("#col-node-2 [data-fold]")
        assert desk.page.locator("#col-node-2 .card").first.is_visible()


def test_without_scripts_the_board_is_right_and_a_move_works(browser, installation):
    name = "energy-revert"
    settle(installation)
    target = free_node(installation, name)
    with window(browser, installation, java_script_enabled=False) as desk:
        desk.sign_in(installation.access["username"], installation.access["password"])
        assert desk.page.locator(".card").count() == 9
        assert desk.page.inner_text("#live").startswith("Figures of ")
        desk.open(f"/portfolios/{name}/migrate/")
        desk.page.check(f'input[value="{target}"]')
        desk.page.click("button:has-text('Migrate')")
        assert f"{name} is moving to {target}." in desk.page.inner_text("body")
    eventually(lambda: place_of(installation, name) == target, 15, "the move")
    settle(installation)
    installation.call("POST", f"/api/portfolios/{name}/unpin/", {})


def test_the_theme_is_chosen_once_and_kept(desk):
    toggle = desk.page.locator("[data-theme-toggle]")
    assert toggle.get_attribute("aria-label") == "Theme: system"
    toggle.click()
    desk.page.reload()
    assert desk.page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert toggle.get_attribute("aria-label") == "Theme: dark"
