"""The board while a node falls silent, is lost and returns."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from chaos.harness.cluster import SHORT_LIMITS, Cluster
from chaos.harness.installation import SLOW_MACHINE_S, eventually
from tests.acceptance.conftest import SharedInstallations, quick
from tests.support.browser import DashboardWindow, dashboard_window

pytestmark = [pytest.mark.browser, pytest.mark.slow]


TTL_S = float(SHORT_LIMITS["GINKGO_LEASE_TTL_S"])
#: Note each number of seconds that the meter of a lease shows, and for how many milliseconds the
#: machine let the page stand still.
NOTE_VALUES = """
lease => {
  window.leaseValues = [];
  window.standstill = 0;
  let looked = performance.now();
  setInterval(() => {
    standstill = Math.max(standstill, performance.now() - looked);
    looked = performance.now();
  }, 100);
  const note = () => leaseValues.push(Number(lease.ariaValueNow));
  new MutationObserver(note).observe(lease, { attributeFilter: ["aria-valuenow"] });
}
"""


@pytest.fixture(scope="module")
def desk(browser: Browser, shared_installations: SharedInstallations) -> Iterator[DashboardWindow]:
    """Yield the window of a signed-in operator."""
    cluster = quick(shared_installations)
    with dashboard_window(browser, cluster) as opened:
        opened.sign_in(cluster.access["username"], cluster.access["password"])
        yield opened


@pytest.fixture
def window(quick_cluster: Cluster, desk: DashboardWindow) -> Iterator[DashboardWindow]:
    """The window, on a live board."""
    desk.return_to_board()
    desk.wait_until_live()
    yield desk
    desk.assert_clean()


def test_board_shows_a_stopped_node_as_lost_and_then_alive(
    window: DashboardWindow, quick_cluster: Cluster
) -> None:
    window.mark()
    column = window.page.locator("#col-node-2")
    lease = column.locator(".lease")
    assert lease.get_attribute("role") == "meter"
    lease.evaluate(NOTE_VALUES)
    column.locator(".card").first.wait_for()
    names = window.cards("#col-node-2")
    daemon = quick_cluster.node_process("node-2")
    daemon.send_signal(signal.SIGSTOP)
    try:
        window.page.wait_for_selector(
            '#col-node-2[data-status="lost"]', timeout=SLOW_MACHINE_S * 1000
        )
        eventually(lambda: window.page.evaluate("leaseValues.at(-1) === 0"), what="an empty lease")
        shown, standstill_ms = window.page.evaluate("[leaseValues, standstill]")
        went_down = any(0 < value < TTL_S for value in shown)
        assert went_down or standstill_ms > 1000 * TTL_S / 2, shown
        assert "s without a heartbeat, limit" in column.inner_text()
        assert "cpu –" in column.inner_text()
        eventually(lambda: not column.locator(".card").count(), what="all placed elsewhere")
        eventually(
            lambda: "It can no longer commit." in column.inner_text(), what="what it cannot do"
        )
        for name in names:
            card = f'.col:not([data-node="node-2"]) .card[data-portfolio="{name}"]'
            eventually(lambda card=card: window.page.locator(card).count() == 1, what=card)  # type: ignore[misc]
            assert name in column.locator(".note + ul").inner_text()
        assert window.page.locator("#trouble-strip a[data-jump]").is_visible()
        assert window.barriers() == []
    finally:
        daemon.send_signal(signal.SIGCONT)
    window.page.wait_for_selector('#col-node-2[data-status="alive"]', timeout=SLOW_MACHINE_S * 1000)
    eventually(lambda: window.page.evaluate("leaseValues.at(-1) > 0"), what="a new lease")
    assert window.was_not_reloaded()


def losses(cluster: Cluster, node: str) -> int:
    """Return how often this node was lost."""
    found = cluster.query(
        "SELECT count(*) FROM scheduling_event e JOIN scheduling_node n ON n.id = e.node_id"
        " WHERE e.kind = 'node_lost' AND n.name = %s",
        node,
    )
    return int(found[0][0])


def test_sidebar_shows_the_failovers_of_a_killed_node(
    window: DashboardWindow, quick_cluster: Cluster
) -> None:
    quick_cluster.wait_for_portfolios_on("node-1")
    lost_before = losses(quick_cluster, "node-1")
    quick_cluster.node_process("node-1").kill()
    eventually(lambda: losses(quick_cluster, "node-1") > lost_before, what="the loss of node-1")
    # One row for the loss, named by the node; rows of other nodes name it as a target only.
    row = (
        window.page.locator(".recent-handoffs li")
        .filter(has=window.page.locator("a b", has_text=re.compile("^node-1$")))
        .filter(has_text="failover")
        .first
    )
    row.wait_for(timeout=SLOW_MACHINE_S * 1000)
    window.page.wait_for_selector('#col-node-1[data-status="alive"]', timeout=SLOW_MACHINE_S * 1000)
    window.open("/nodes/node-1/incident/")
    rows = window.page.locator("#incident-portfolios tr[data-outcome]")
    outcomes: list[str] = []

    def ended() -> bool:
        # On a busy machine the node may be back before all of its portfolios were placed.
        outcomes[:] = rows.evaluate_all("rows => rows.map(r => r.dataset.outcome)")
        return "moved" in outcomes and set(outcomes) <= {"moved", "returned", "kept"}

    try:
        eventually(ended)
    except AssertionError:
        raise AssertionError(
            f"portfolios of the lost node: {outcomes}; {window.page.inner_text('main')}"
        ) from None
    assert "without a heartbeat" in window.page.inner_text("#incident-verdict") or (
        "connection closed" in window.page.inner_text("#incident-verdict")
    )
    assert window.barriers("main") == []
