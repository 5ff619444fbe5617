"""Isolation of misbehaving strategies on one node, and of a node whose token is revoked."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from uuid import uuid4

import msgspec
import pytest

from chaos.harness import reference_feed
from chaos.harness.cluster import CANARIES, SHORT_LIMITS, Cluster
from chaos.harness.installation import SLOW_MACHINE_S, budget_s
from chaos.harness.observation import DEMO_NODES, wait_for
from scheduling.wire.messages import Commit, CommitRequest, Heartbeat, encode

TTL_S = float(SHORT_LIMITS["GINKGO_LEASE_TTL_S"])
SUSPECT_S = 2 * float(SHORT_LIMITS["GINKGO_HEARTBEAT_INTERVAL_S"])
MAX_GAP_S = 2.0
NODE, BYSTANDER = "node-ward", "bystander"
SELECTOR = {"ward": "yes"}
#: Misbehaviour at the twentieth event: strategy, parameters, and part of its audit line.
MISBEHAVIOURS = {
    "loops": ("looper", {"at_event": 20}, "took longer than its limit of 2 s"),
    "eats": ("misbehaving", {"at_event": 20, "action": "allocate_fast"}, "MemoryError"),
    "prints": ("misbehaving", {"at_event": 20, "action": "print_endlessly"}, "endless output"),
    "exits": ("exiter", {"at_event": 20}, "exited with status 3"),
}

AGES = """
SELECT p.name, extract(epoch FROM clock_timestamp() - r.last_commit_at)::float
FROM scheduling_run r JOIN portfolios_portfolio p ON p.id = r.portfolio_id
WHERE p.archived_at IS NULL AND r.last_commit_at IS NOT NULL
UNION ALL
SELECT n.name, extract(epoch FROM clock_timestamp() - l.renewed_at)::float
FROM scheduling_lease l JOIN scheduling_node n ON n.id = l.node_id
"""


@pytest.fixture
def ward(quick_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Add a fourth node reserved by a label, and a canary on it."""
    monkeypatch.setenv("GINKGO_BATCH_LIMIT_S", "2")
    monkeypatch.setenv("GINKGO_CHILD_MEMORY_MB", "160")
    with ExitStack() as undo:
        create(quick_cluster, undo, BYSTANDER, "canary", {}, [])
        options = ("--capacity", str(1 + len(MISBEHAVIOURS)), "--label", "ward=yes")
        undo.enter_context(quick_cluster.extra_node(NODE, "", "", *options))
        wait_for(
            lambda: quick_cluster.run(BYSTANDER),
            lambda run: run.node == NODE and run.phase == "running" and run.committed_at,
            "the bystander running on its node",
        )
        yield quick_cluster


def create(
    cluster: Cluster, undo: ExitStack, name: str, strategy: str, config: object, symbols: list[str]
) -> None:
    """Create a portfolio that runs only on the reserved node, and delete it at the end."""
    cluster.create(name, strategy, symbols, config=config, selector=SELECTOR)
    undo.callback(cluster.delete, name)


class Ages:
    """Greatest observed age of commits and heartbeats."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._oldest: dict[str, float] = {}

    def sample(self) -> None:
        for name, age_s in self._cluster.query(AGES):
            self._oldest[name] = max(self._oldest.get(name, 0.0), age_s)

    def oldest(self, *names: str) -> float:
        return max(self._oldest[name] for name in names)


def test_misbehaving_strategies_do_not_delay_a_portfolio_on_their_node(ward: Cluster) -> None:
    since, ages = ward.now(), Ages(ward)
    with ExitStack() as undo:
        for name, (strategy, config, _) in MISBEHAVIOURS.items():
            create(ward, undo, name, strategy, config, ["IBM", "GE", "HD", "XOM", "CVX", "JPM"])

        def reported() -> set[str]:
            ages.sample()
            found = ward.query(
                "SELECT p.name, e.reason || e.data::text FROM scheduling_event e"
                " JOIN portfolios_portfolio p ON p.id = e.portfolio_id"
                " WHERE e.kind = 'process_died' AND e.at >= %s",
                since,
            )
            return {
                name for name, text in found if MISBEHAVIOURS.get(name, ("", {}, "\n"))[2] in text
            }

        wait_for(
            reported,
            lambda names: names == set(MISBEHAVIOURS),
            "an audit line for each misbehaviour",
        )
    # On a busy machine, portfolios and heartbeats of other nodes are late as well.
    gap_s, elsewhere_s = ages.oldest(BYSTANDER), ages.oldest(*CANARIES)
    beat_s, beats_s = ages.oldest(NODE), ages.oldest(*DEMO_NODES)
    print(f"\ngap {gap_s:.2f} s, elsewhere {elsewhere_s:.2f} s; beat {beat_s:.2f}, {beats_s:.2f} s")
    assert gap_s < max(MAX_GAP_S, 2 * elsewhere_s)
    assert beat_s < max(SUSPECT_S, 2 * beats_s)  # never suspect
    assert ward.events("process_died", since, portfolio=BYSTANDER) == []
    lost = {line["node"] for line in ward.events("node_lost", since)}
    assert NODE not in lost or lost & set(DEMO_NODES)  # a starved machine loses others too
    state = ward.checkpoint(BYSTANDER)["state"]
    assert (state["gaps"], state["duplicates"]) == (0, 0)
    assert state["digest"] == reference_feed.digest_of(state["first_seq"], state["last_seq"])


def test_a_revoked_token_is_refused_and_its_portfolios_fail_over(quick_cluster: Cluster) -> None:
    token = quick_cluster.create_node_token("node-banned")
    with quick_cluster.extra_node("node-banned", token=token) as daemon:
        wait_for(lambda: quick_cluster.portfolios_on("node-banned"), bool, "a share of its own")
        had = quick_cluster.runs_on("node-banned")
        names, incarnation = [run.name for run in had], str(had[0].incarnation)
        since = quick_cluster.now()
        assert quick_cluster.manage("revoke_node_token", "node-banned")["revoked"] == 1
        quick_cluster.wait_for_commits_elsewhere(names, "node-banned", budget_s(TTL_S + 3))
        assert daemon.wait(SLOW_MACHINE_S) == 4
    log = quick_cluster.home / "logs" / "node-banned.txt"
    assert "This token of node node-banned is revoked" in log.read_text()
    assert len(quick_cluster.events("node_token_revoked", since, node="node-banned")) == 1
    # Another process sends, with the same token, what the daemon could have sent.
    ((portfolio,),) = quick_cluster.query(
        "SELECT id FROM portfolios_portfolio WHERE name = %s", names[0]
    )
    at = had[0].last_seq
    commit = Commit(
        portfolio=portfolio, epoch=had[0].epoch, from_seq=at, to_seq=at, batch=str(uuid4())
    )
    for path, message in (
        ("heartbeat", Heartbeat(incarnation=incarnation, have_version=0)),
        ("commit", CommitRequest(incarnation=incarnation, commits=[commit])),
    ):
        assert post_refused(quick_cluster, path, token, encode(message)) == (401, "unauthenticated")
    quick_cluster.assert_nothing_lost()


def post_refused(cluster: Cluster, path: str, token: str, body: bytes) -> tuple[int, str]:
    """Post to the gateway with this token. Return status and code of the refusal."""
    request = urllib.request.Request(
        f"{cluster.access['url']}/api/agent/{path}/",
        data=body,
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/msgpack"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=SLOW_MACHINE_S)
    problem = msgspec.msgpack.decode(refused.value.read())
    return refused.value.code, str(problem["code"])
