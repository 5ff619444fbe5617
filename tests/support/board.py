"""Helpers of the tests that drive the board in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chaos.harness.installation import Installation, eventually
from tests.support.browser import DashboardWindow

NODES = ("node-1", "node-2", "node-3")


def owner_of(installation: Installation, portfolio: str) -> str:
    """Return the node that runs the portfolio."""
    return installation.get(f"/api/portfolios/{portfolio}/")["run"]["node"]


def free_node(installation: Installation, portfolio: str) -> str:
    """Return a node that can run the portfolio, as the migrate dialog shows it."""
    answers = installation.get(f"/api/schedule/targets/?portfolio={portfolio}")
    return next(a["node"] for a in answers["results"] if a["feasible"])


@contextmanager
def cordoned(installation: Installation, node: str) -> Iterator[None]:
    """Cordon the node in the block."""
    installation.call("POST", f"/api/nodes/{node}/cordon/", {"reason": "test"})
    try:
        yield
    finally:
        installation.call("POST", f"/api/nodes/{node}/uncordon/", {})


def wait_until_idle(installation: Installation) -> None:
    """Wait until no handoff is active."""
    eventually(
        lambda: not installation.get("/api/handoffs/?active=true")["results"], what="no handoff"
    )


def wait_for_updates(window: DashboardWindow, times: int = 1) -> None:
    """Wait until the event count of canary-2 has changed `times` times."""
    events = window.page.locator('.card[data-portfolio="canary-2"] .card-lag.canary')

    def count() -> int:
        return int(events.inner_text().split()[0].replace(",", ""))

    for _ in range(times):
        before = count()
        eventually(lambda: count() > before, what="more events")  # noqa: B023
