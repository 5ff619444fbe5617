"""Portfolios to verify, whose replay runs in the process of the test."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from portfolios.models import Order, Portfolio
from portfolios.runtime.worker import PortfolioWorker
from scheduling.verification import verify
from tests.support.factories import FakeNode
from tests.support.kept_rows import KeptRows
from tests.support.verified_trader import (
    NAME,
    Replays,
    make_anchored,
    make_moved,
    make_verified,
    open_order,
)

MOVED, VERIFIED = KeptRows(make_moved), KeptRows(make_verified)
ANCHORED = KeptRows(make_anchored)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replay in this process."""
    monkeypatch.setattr(
        verify, "replay_processes", lambda *_, **__: nullcontext(PortfolioWorker().answer)
    )


@pytest.fixture(params=["from the first event", "from an anchor"])
def world(request: pytest.FixtureRequest, quick: None, db: None) -> tuple[Portfolio, FakeNode]:
    """Return (portfolio, owner): it was moved, suppressed, reloaded and taken over.

    Each test runs twice: in the second run a verification has stored an anchor at the last commit,
    so what the test changes lies before an anchor.
    """
    other, daemon = (MOVED if request.param == "from the first event" else VERIFIED).get()
    other.beat()
    daemon.beat()
    return Portfolio.objects.get(name=NAME), daemon


@pytest.fixture
def trader(world: tuple[Portfolio, FakeNode]) -> Portfolio:
    return world[0]


@pytest.fixture
def moved(quick: None, db: None) -> Portfolio:
    """Return a moved, suppressed, reloaded and taken over portfolio that was never verified."""
    for daemon in MOVED.get():
        daemon.beat()
    return Portfolio.objects.get(name=NAME)


@pytest.fixture
def waiting(world: tuple[Portfolio, FakeNode]) -> Order:
    """Return an order that is open at the last commit."""
    return open_order(*world)


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch, db: None) -> Replays:
    """Replay in this process, and count the replayed events."""
    found = Replays()
    monkeypatch.setattr(verify, "replay_processes", found.process)
    return found


@pytest.fixture
def node(replays: Replays) -> FakeNode:
    """Return the owner of a portfolio that traded for 8,000 events and was verified."""
    daemon = ANCHORED.get()
    daemon.beat()
    return daemon


@pytest.fixture
def anchored(node: FakeNode) -> Portfolio:
    return Portfolio.objects.get(name=NAME)
