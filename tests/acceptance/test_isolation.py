"""A revoked token ends its node's say."""

from __future__ import annotations

import urllib.error
import urllib.request
from uuid import uuid4

import msgspec
import pytest

from chaos.fleet import QUICK, Fleet, wait_for
from scheduling.wire.messages import Beat, Commit, CommitRequest, encode

TTL_S = float(QUICK["GINKGO_LEASE_TTL_S"])


def test_a_revoked_token_ends_its_nodes_say_and_its_portfolios_go_elsewhere(
    quick_fleet: Fleet,
) -> None:
    token = quick_fleet.node_token("node-banned")
    with quick_fleet.own_node("node-banned", token=token) as daemon:
        wait_for(lambda: quick_fleet.on("node-banned"), bool, 30, "a share of its own")
        had = quick_fleet.runs_on("node-banned")
        names, incarnation = [run.name for run in had], str(had[0].incarnation)
        since = quick_fleet.now()
        assert quick_fleet.manage("revoke_node_token", "node-banned")["revoked"] == 1
        quick_fleet.commits_elsewhere(names, "node-banned", 2 * (TTL_S + 3))
        assert daemon.wait(15) == 1
    log = quick_fleet.home / "logs" / "node-banned.txt"
    assert "This token of node node-banned is revoked" in log.read_text()
    assert len(quick_fleet.events("node_token_revoked", since, node="node-banned")) == 1
    # Another one with the same token says what the daemon could have said.
    ((portfolio,),) = quick_fleet.query(
        "SELECT id FROM portfolios_portfolio WHERE name = %s", names[0]
    )
    at = had[0].last_seq
    commit = Commit(
        portfolio=portfolio, epoch=had[0].epoch, from_seq=at, to_seq=at, batch=str(uuid4())
    )
    for path, message in (
        ("heartbeat", Beat(incarnation=incarnation, have_version=0)),
        ("commit", CommitRequest(incarnation=incarnation, commits=[commit])),
    ):
        assert say(quick_fleet, path, token, encode(message)) == (401, "unauthenticated")
    quick_fleet.assert_canaries_clean()
    quick_fleet.assert_history_whole()


def say(fleet: Fleet, path: str, token: str, body: bytes) -> tuple[int, str]:
    """Return status and code of what the gateway answers to a daemon with this token."""
    request = urllib.request.Request(
        f"{fleet.access['url']}/api/agent/{path}/",
        data=body,
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/msgpack"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    problem = msgspec.msgpack.decode(refused.value.read())
    return refused.value.code, str(problem["code"])
