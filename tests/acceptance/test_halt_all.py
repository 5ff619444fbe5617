"""The kill switch in a running installation: on the board, through the API, and by command."""

from __future__ import annotations

import time

import psutil
import pytest
from playwright.sync_api import Browser

from chaos.harness.cluster import Cluster
from chaos.harness.installation import SLOW_MACHINE_S, budget_s, eventually
from chaos.harness.observation import DEMO_NODES, wait_for
from chaos.harness.processes import still_running, suspended
from tests.support.browser import dashboard_window

pytestmark = pytest.mark.slow

PROCESSES_GONE_S = 1.0  #: a fenced process ends at its next commit, 0.25 s later


def children(cluster: Cluster) -> list[psutil.Process]:
    """Return every portfolio process."""
    pids = [p["run"]["pid"] for p in cluster.get("/api/portfolios/?limit=1000")["results"]]
    return [psutil.Process(pid) for pid in pids if pid]


def bring_back(cluster: Cluster) -> None:
    """Undo the newest halt and wait until every portfolio commits."""
    undone = cluster.call("POST", "/api/halt/undo/", {})
    assert undone.status == 202, undone.text
    cluster.converge_without_loss()


@pytest.mark.browser
def test_halt_all_dialog_asks_for_the_number_and_its_page_undoes_the_halt(
    cluster: Cluster, browser: Browser
) -> None:
    names = sorted(cluster.runs())
    with dashboard_window(browser, cluster) as window:
        window.sign_in(cluster.access["username"], cluster.access["password"])
        window.wait_until_live()
        page = window.page
        page.click("#halt")
        page.wait_for_selector("dialog[open].danger form")
        assert page.evaluate("document.activeElement.textContent") == "Cancel"
        page.fill("dialog [name=reason]", "shown in the browser")
        page.fill("dialog [name=word]", f"halt {len(names) - 1}")
        assert page.locator("#halt-go").is_disabled()
        page.press("dialog [name=word]", "Enter")
        page.press("dialog [name=reason]", "Enter")
        assert page.input_value("dialog [name=reason]") == "shown in the browser"
        assert cluster.portfolios_on("node-1")
        page.fill("dialog [name=word]", f"halt {len(names)}")
        page.press("dialog [name=word]", "Enter")
        page.wait_for_selector("main[data-halt]")
        lines = page.locator("tbody tr")
        assert lines.evaluate_all("rows => rows.map(r => r.dataset.portfolio)") == names
        assert "shown in the browser" in page.inner_text(".head")
        assert {run.phase for run in cluster.runs().values()} == {"stopped"}
        window.open("/")
        first = page.locator(".banner:visible").first
        assert "banner-halt" in (first.get_attribute("class") or "")
        assert "shown in the browser" in first.inner_text()
        page.wait_for_selector('.status-line:has-text("halted: nothing runs here")')
        assert page.locator('.status-line:has-text("loss absorbed")').count() == 0
        window.open_dialog(f"text=Start {len(names)} again…")
        window.confirm("Undo halt")
        window.open("/")
        for name in names:
            page.wait_for_selector(
                f'.col .card[data-portfolio="{name}"]', timeout=SLOW_MACHINE_S * 1000
            )
    cluster.converge_without_loss()


def test_halt_ends_every_process_within_2_s_without_pushes(cluster: Cluster) -> None:
    before = cluster.runs()
    # A heartbeat tells which processes there are.
    processes, _ = wait_for(
        lambda: children(cluster), lambda found: len(found) == len(before), "every process"
    )
    with cluster.pushes_lost():
        began = time.monotonic()
        answer = cluster.call(
            "POST", "/api/halt/", {"reason": "test", "expect_running": len(before)}
        )
        answered_s = time.monotonic() - began
        assert answer.status == 200, answer.text
        eventually(
            lambda: not still_running(processes),
            budget_s(PROCESSES_GONE_S),
            "the end of every process",
        )
        print(f"answered after {answered_s:.3f} s, all gone after {time.monotonic() - began:.3f} s")
        stood = {line["portfolio"]: line["last_seq"] for line in answer.json["results"]}
        assert {name: run.last_seq for name, run in cluster.runs().items()} == stood
    bring_back(cluster)


def test_halt_all_command_works_without_the_web_process_and_under_a_freeze(
    cluster: Cluster,
) -> None:
    processes = children(cluster)
    why = {"reason": "test", "failover": True}
    assert cluster.call("POST", "/api/schedule/freeze/", why).status == 200
    web = cluster.processes_of("uvicorn") or cluster.processes_of("ginkgo_site.asgi:application")
    assert web
    with suspended(web):
        done = cluster.manage("halt_all", "--yes", "--reason", "test")
        assert done["running"] == len(processes)
        assert {run.node for run in cluster.runs().values()} == {None}
    eventually(lambda: not still_running(processes), SLOW_MACHINE_S, "the end of every process")
    assert cluster.call("POST", "/api/schedule/unfreeze/", {}).status == 200
    # A node whose heartbeats the suspended process did not answer is suspect until the next one.
    wait_for(
        lambda: {cluster.node(node)["status"] for node in DEMO_NODES},
        lambda found: found == {"alive"},
        "heartbeats of every node",
    )
    bring_back(cluster)
