"""What the board says while a node falls silent, is lost, and comes back."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from chaos.harness.cluster import Cluster
from chaos.harness.installation import SLOW_MACHINE_S, eventually
from tests.support.browser import a_browser, window

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with a_browser() as running:
        yield running


def test_a_frozen_node_is_lost_before_the_eyes_and_comes_back(
    browser: Browser, quick_cluster: Cluster
) -> None:
    with window(browser, quick_cluster) as desk:
        desk.sign_in(quick_cluster.access["username"], quick_cluster.access["password"])
        desk.is_live()
        desk.mark()
        column = desk.page.locator("#col-node-2")
        names = column.locator(".card").evaluate_all("cards => cards.map(c => c.dataset.portfolio)")
        assert names
        daemon = quick_cluster.node_process("node-2")
        daemon.send_signal(signal.SIGSTOP)
        try:
            desk.page.wait_for_selector(
                '#col-node-2[data-status="lost"]', timeout=SLOW_MACHINE_S * 1000
            )
            assert "s without a beat, limit 4 s" in column.inner_text()
            assert "cpu –" in column.inner_text()
            eventually(lambda: not column.locator(".card").count(), 20, "all placed elsewhere")
            assert "It cannot commit any more." in column.inner_text()
            for name in names:
                seat = f'.col:not([data-node="node-2"]) .card[data-portfolio="{name}"]'
                assert desk.page.locator(seat).count() == 1
                assert name in column.locator(".note + ul").inner_text()
        finally:
            daemon.send_signal(signal.SIGCONT)
        desk.page.wait_for_selector(
            '#col-node-2[data-status="alive"]', timeout=SLOW_MACHINE_S * 1000
        )
        assert desk.was_not_reloaded()


def test_a_killed_node_hands_its_row_of_failovers_to_the_rail(
    browser: Browser, quick_cluster: Cluster
) -> None:
    with window(browser, quick_cluster) as desk:
        desk.sign_in(quick_cluster.access["username"], quick_cluster.access["password"])
        desk.is_live()
        quick_cluster.node_process("node-1").kill()
        row = desk.page.locator(".rec li", has_text="node-1").filter(has_text="failover").first
        row.wait_for(timeout=SLOW_MACHINE_S * 1000)
        desk.page.wait_for_selector(
            '#col-node-1[data-status="alive"]', timeout=SLOW_MACHINE_S * 1000
        )
