"""Pages while the server is silent or gone."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from chaos.harness.installation import SLOW_MACHINE_S, Installation
from chaos.harness.processes import suspended
from tests.support.board import free_node, wait_until_idle

pytestmark = [pytest.mark.browser, pytest.mark.slow]


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
        # The badge is longer now, and pushes nothing out of the window.
        window.page.set_viewport_size({"width": 1200, "height": 940})
        assert window.page.evaluate("document.documentElement.scrollWidth") == 1200
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


def test_text_typed_in_a_dialog_outlives_a_sign_out_and_a_sign_in_in_another_tab(
    window, tab, installation
):
    page, access = window.page, installation.access
    window.mark()
    window.open_node_action("node-3", "Cordon")
    page.fill("dialog [name=reason]", "typed before the sign-out")
    tab.open("/nodes/")
    tab.page.click(".signout button")
    page.click("dialog footer button[type=submit]:not([data-cancel])")
    page.locator("dialog [data-case=signed-out]").wait_for()
    tab.sign_in(access["username"], access["password"])
    window.confirm("Cordon node-3")
    assert window.was_not_reloaded()
    (newest, *_) = installation.get("/api/events/?kind=node_cordoned&node=node-3")["results"]
    assert newest["reason"] == "typed before the sign-out"
    installation.call("POST", "/api/nodes/node-3/uncordon/", {})
    window.wait_until_live()


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
