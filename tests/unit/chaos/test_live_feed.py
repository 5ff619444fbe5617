"""What a chaos run checks of its JetStream feed when it has ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from chaos.harness.cluster import Cluster
from chaos.harness.observation import ClusterRun
from chaos.runner import live_feed
from chaos.runner.live_feed import LiveFeed

HEAD = 9


class EndedCluster:
    """What the check asks of a cluster. Each read of the runs finds the next of `seqs`."""

    def __init__(self, *seqs: dict[str, int]) -> None:
        self._seqs: Iterator[dict[str, int]] = iter(seqs)

    def manage(self, *_: str, check: bool) -> dict[str, Any]:
        return {"records": HEAD}

    def query(self, *_: object) -> list[tuple[int]]:
        return [(HEAD,)]

    def runs(self) -> dict[str, ClusterRun]:
        return {
            name: ClusterRun(name, "node-1", "a", 3, 1, seq, "running", "", None)
            for name, seq in next(self._seqs).items()
        }


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make none: it would have to be installed, and the check asks it nothing."""
    monkeypatch.setattr(live_feed, "NatsServer", lambda _: None)


def failures_of(tmp_path: Path, cluster: EndedCluster) -> list[tuple[str, str, dict[str, Any]]]:
    found: list[tuple[str, str, dict[str, Any]]] = []
    live = LiveFeed(tmp_path)
    live._cluster, live.appended = cast(Cluster, cluster), HEAD
    live.report = lambda *said: found.append(said)
    live.check()
    return found


def test_portfolios_that_reach_the_head_of_an_ended_feed_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_feed, "EVERY_S", 0.0)
    late = {"live-canary": HEAD, "live-sma": HEAD - 1}
    assert failures_of(tmp_path, EndedCluster(late, dict.fromkeys(live_feed.NAMES, HEAD))) == []


@pytest.mark.parametrize("sma", [{"live-sma": HEAD - 1}, {}], ids=["behind", "missing"])
def test_portfolio_that_does_not_reach_the_head_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sma: dict[str, int]
) -> None:
    monkeypatch.setattr(live_feed, "HEAD_LIMIT_S", -1.0)
    ((invariant, what, evidence),) = failures_of(
        tmp_path, EndedCluster({"live-canary": HEAD, **sma})
    )
    assert (invariant, what) == ("I8", "not at the head of live after -1 s: live-sma")
    assert evidence == {"live-sma": {"last_seq": sma.get("live-sma"), "head": HEAD}}
