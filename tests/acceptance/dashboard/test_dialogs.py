"""Actions of an operator through the dialogs of the dashboard."""

from __future__ import annotations

import re

import pytest

from chaos.harness.installation import eventually
from tests.support.board import NODES, cordoned, free_node, owner_of, wait_until_idle
from tests.support.browser import dashboard_window

pytestmark = [pytest.mark.browser, pytest.mark.slow]


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
    eventually(  # seconds on a busy machine
        lambda: re.search(r"\d m?s\n", recent.inner_text()), what="the pause"
    )
    assert window.was_not_reloaded()
    assert owner_of(installation, name) == target
    installation.call("POST", f"/api/portfolios/{name}/unpin/", {})


def test_refusal_is_shown_in_the_dialog_and_keeps_the_input(window, installation):
    name = "bank-revert"
    wait_until_idle(installation)
    target = free_node(installation, name)
    window.open_card_action(name, "Migrate")
    window.page.check(f'dialog input[value="{target}"]')
    window.page.fill("dialog [name=reason]", "too late")
    with cordoned(installation, target):
        window.page.locator("dialog button", has_text="Migrate").click()
        window.page.wait_for_selector("dialog[open] .callout.red")
        assert target in window.page.inner_text("dialog .callout.red")
        assert window.page.input_value("dialog [name=reason]") == "too late"


def test_drain_by_dialog_states_its_consequence_and_empties_the_node(window, installation):
    wait_until_idle(installation)
    window.mark()
    window.open_node_action("node-3", "Drain")
    here = window.cards("#col-node-3")
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
            lambda: not window.page.locator("#col-node-3 .card").count(), what="empty node-3"
        )
        bar = window.page.locator("#col-node-3 .drain-bar")
        eventually(
            lambda: "no portfolio runs here" in bar.inner_text(), what="the end of the drain"
        )
        assert window.was_not_reloaded()
    finally:
        if window.page.locator("#col-node-3 .drain-bar a").is_visible():
            window.open_dialog("#col-node-3 .drain-bar a")
            window.confirm("End the drain")
    window.page.wait_for_selector('.col[data-node="node-3"][data-status="alive"]')


def test_card_dropped_on_a_node_that_takes_it_opens_a_migrate_dialog(frozen, window, installation):
    name, page = "energy-revert", window.page
    source, target = owner_of(installation, name), free_node(installation, name)
    (refusing,) = {*NODES} - {source, target}
    dialog = page.locator("dialog[open]")
    lifted = page.locator(".lifted, .drop-note, .over, [data-can]")
    with cordoned(installation, refusing):
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
    installation.call("POST", f"/api/portfolios/{name}/unpin/", {})


def test_selected_cards_are_dragged_together_and_each_has_its_result(frozen, window, installation):
    page = window.page
    # Of 9 portfolios on 3 nodes of capacity 5: the emptiest has room for two of the fullest.
    loads = {row["name"]: row["load"] for row in installation.get("/api/nodes/")["results"]}
    target, *_, source = sorted(loads, key=loads.__getitem__)
    *moved, stays = window.cards(f"#col-{source}")[:3]
    if loads[target]:
        stays = page.locator(f"#col-{target} .card").first.get_attribute("data-portfolio")
    else:  # the node was lost on a busy machine, and the balancer has not used it since
        installation.call("POST", f"/api/portfolios/{stays}/migrate/", {"target_node": target})
        window.wait_for_card(stays, target)
        installation.call("POST", f"/api/portfolios/{stays}/unpin/", {})
    for name in (*moved, stays):
        page.locator(f".card[data-portfolio='{name}'] .card-strategy").click(modifiers=["Control"])
    window.drag_card(moved[0], target)
    assert "2 of 3 can go" in page.inner_text(f"#col-{target} .drop-note")
    page.mouse.up()
    page.wait_for_selector("dialog[open] form")
    assert page.is_checked(f'dialog input[value="{target}"]')
    assert window.barriers("dialog") == []
    page.fill("dialog [name=reason]", "the rack is loud")
    page.click("dialog [type=submit]")
    page.wait_for_selector("dialog [data-outcome]")
    assert page.locator("dialog [data-outcome=moving]").count() == 2
    page.click("dialog [data-cancel]")
    # The refused one may be tried elsewhere.
    assert page.inner_text("#selection-bar [data-count]") == "1 selected"
    page.click("#selection-bar [data-clear-selected]")
    assert page.locator("#selection-bar").is_hidden()
    assert page.evaluate("document.activeElement.matches('.card')")
    for name in moved:
        window.wait_for_card(name, target)
        (newest,) = installation.get(f"/api/handoffs/?portfolio={name}&limit=1")["results"]
        assert newest["reason"] == "the rack is loud"
    back = {"portfolios": moved, "target_node": source}
    answer = installation.call("POST", "/api/schedule/migrate-several/", back)
    assert all(result["handoff"] for result in answer.json["results"])
    for name in moved:
        window.wait_for_card(name, source)
        installation.call("POST", f"/api/portfolios/{name}/unpin/", {})


def test_user_added_as_a_viewer_signs_in_and_is_offered_no_action(browser, window, installation):
    page, password = window.page, "a-viewer-of-the-desk"
    window.open("/people/")
    window.open_dialog("main >> text=Add…")
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
        first = hers.page.locator(".card").first
        first.focus()
        hers.page.keyboard.press("Shift+ArrowDown")  # moves the focus and selects nothing
        assert not first.evaluate("card => card === document.activeElement")
        assert hers.page.evaluate("document.activeElement.matches('.card:not(.selected)')")
        hers.page.keyboard.press("m")
        hers.page.keyboard.press("Control+k")
        hers.page.keyboard.type("migrate ibm")
        hers.page.wait_for_selector("#palette [data-case=nothing]")
        refused = hers.page.goto(installation.access["url"] + "/portfolios/ibm-sma/migrate/")
        assert refused is not None and refused.status == 403
        assert "operator" in hers.page.inner_text("main")


def test_what_if_page_offers_the_action_that_helps(frozen, window, installation):
    # node-3 takes nothing, so the five places of node-1 are all there is for what node-2 runs.
    with cordoned(installation, "node-3"):
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

    window.open_dialog("#part-head >> text=Edit…")
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
    window.open_dialog("a[aria-label='Reload to r1…']")
    assert page.is_checked("dialog [name=revision][value='1']")
    window.confirm("Reload")
    page.wait_for_selector("tr[data-revision='1'].current")
    assert installation.get("/api/portfolios/desk-made/")["revision"] == 1

    page.evaluate("scrollTo(0, document.body.scrollHeight)")  # the click below scrolls back up
    page.click("[popovertarget=more-actions]")
    window.open_dialog("#more-actions >> text=Delete…")
    page.click("dialog button:has-text('Delete desk-made')")
    page.wait_for_url("**/portfolios/")
    page.wait_for_selector("tr[data-portfolio]")
    assert page.locator("tr[data-portfolio='desk-made']").count() == 0
