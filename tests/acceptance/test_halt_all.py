"""The kill switch in a running house: by hand on the board, and by a command without the web."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psutil
import pytest
from playwright.sync_api import Browser

from chaos.harness.cluster import DEMO_NODES, Cluster, alive, frozen
from chaos.harness.installation import SLOW_MACHINE_S, eventually
from tests.support.browser import a_browser, window

pytestmark = pytest.mark.slow

PROCESSES_GONE_S = 2.0  #: by the fence, at the next commit a quarter of a second later


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with a_browser() as running:
        yield running


def children(fleet: Cluster) -> list[psutil.Process]:
    """Every portfolio process; what a daemon keeps beside them is its forkserver alone."""
    pids = [p["run"]["pid"] for p in fleet.get("/api/portfolios/?limit=1000")["results"]]
    return [psutil.Process(pid) for pid in pids if pid]


def bring_back(fleet: Cluster) -> None:
    """Start all that the newest halt stopped and wait until everything commits."""
    fleet.manage("halt_all", "--undo")
    fleet.wait_until_converged()
    fleet.assert_canaries_clean()
    fleet.assert_history_whole()


@pytest.mark.browser
def test_halt_all_asks_for_the_number_shows_a_line_for_each_and_is_undone(
    fleet: Cluster, browser: Browser
) -> None:
    names = sorted(fleet.runs())
    with window(browser, fleet) as desk:
        desk.sign_in(fleet.access["username"], fleet.access["password"])
        desk.is_live()
        page = desk.page
        page.click("#halt")
        page.wait_for_selector("dialog[open].danger form")
        assert page.evaluate("document.activeElement.textContent") == "Cancel"
        page.fill("dialog [name=reason]", "shown in the browser")
        page.fill("dialog [name=word]", f"halt {len(names) - 1}")
        assert page.locator("#halt-go").is_disabled()
        page.press("dialog [name=word]", "Enter")
        page.wait_for_selector("dialog", state="hidden")
        assert fleet.on("node-1")
        page.click("#halt")
        page.wait_for_selector("dialog[open] form")
        page.fill("dialog [name=reason]", "shown in the browser")
        page.fill("dialog [name=word]", f"halt {len(names)}")
        page.click("#halt-go")
        page.wait_for_selector("main[data-halt]")
        lines = page.locator("tbody tr")
        assert lines.evaluate_all("rows => rows.map(r => r.dataset.portfolio)") == names
        assert "shown in the browser" in page.inner_text(".head")
        assert {run.phase for run in fleet.runs().values()} == {"stopped"}
        page.click(f"text=Start {len(names)} again…")
        page.wait_for_selector("dialog[open] form")
        desk.confirm("Start them")
        desk.open("/")
        for name in names:
            page.wait_for_selector(
                f'.col .card[data-portfolio="{name}"]', timeout=SLOW_MACHINE_S * 1000
            )
    fleet.wait_until_converged()
    fleet.assert_canaries_clean()
    fleet.assert_history_whole()


def test_every_process_ends_at_once_with_every_push_lost(fleet: Cluster) -> None:
    before, processes = fleet.runs(), children(fleet)
    assert len(processes) == len(before)
    with fleet.no_pushes():
        began = time.monotonic()
        answer = fleet.call("POST", "/api/halt/", {"reason": "test", "expect_running": len(before)})
        answered_s = time.monotonic() - began
        assert answer.status == 200, answer.text
        eventually(lambda: not alive(processes), PROCESSES_GONE_S, "the end of every process")
        print(f"answered after {answered_s:.3f} s, all gone after {time.monotonic() - began:.3f} s")
        stood = {line["portfolio"]: line["last_seq"] for line in answer.json["results"]}
        assert {name: run.last_seq for name, run in fleet.runs().items()} == stood
    bring_back(fleet)


def test_it_works_without_the_web_process_and_under_a_freeze(fleet: Cluster) -> None:
    processes = children(fleet)
    fleet.manage("freeze", "--failover")
    web = fleet.processes_of("uvicorn") or fleet.processes_of("ginkgo_site.asgi:application")
    assert web
    with frozen(web):
        done = fleet.manage("halt_all", "--yes", "--reason", "test")
        assert done["running"] == len(processes)
        assert {run.node for run in fleet.runs().values()} == {None}
    eventually(lambda: not alive(processes), SLOW_MACHINE_S, "the end of every process")
    fleet.manage("freeze", "--undo")
    assert {fleet.node(node)["status"] for node in DEMO_NODES} == {"alive"}
    bring_back(fleet)
