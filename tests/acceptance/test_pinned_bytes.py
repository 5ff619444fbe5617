"""A revision runs the bytes that it pins, whatever is built, uploaded or killed afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from chaos.harness.cluster import Cluster
from chaos.harness.installation import SLOW_MACHINE_S
from chaos.harness.observation import wait_for
from tests.support.artifacts import make_wheel, momentum

NAME = "pinned"


@pytest.fixture
def add(quick_cluster: Cluster) -> Callable[..., str | None]:
    """Return a function that adds a version of the code and returns its hash, or None."""

    def add_version(version: str, code: str) -> str | None:
        filename, wheel = make_wheel(version=version, files=momentum(code))
        added = quick_cluster.call("POST", f"/api/artifacts/?filename={filename}", wheel)
        return str(added.json["sha256"]) if added.status == 201 else None

    return add_version


@pytest.fixture
def cluster(quick_cluster: Cluster) -> Iterator[Cluster]:
    yield quick_cluster
    quick_cluster.delete(NAME)


def wait_for_code(cluster: Cluster, code: str, after_seq: int = 0) -> int:
    """Wait until `code` has handled an event after `after_seq`. Return the seq reached."""
    reached, _ = wait_for(
        lambda: cluster.checkpoint(NAME),
        lambda seen: seen["state"].get("code") == code and seen["seq"] > after_seq,
        f"the code {code} after seq {after_seq}",
    )
    return int(reached["seq"])


def reload(cluster: Cluster) -> str:
    """Reload the portfolio. Return the state in which the handoff ended, or why there is none."""
    answer = cluster.call("POST", f"/api/portfolios/{NAME}/reload/", {})
    if answer.status == 409:  # a starved node was lost, and a failover is under way
        return answer.text
    return str(cluster.wait_for_handoff(answer.json["id"], SLOW_MACHINE_S)["state"])


def test_a_revision_runs_its_own_artifact_through_uploads_reloads_and_process_deaths(
    cluster: Cluster, add: Callable[..., str | None]
) -> None:
    first = add("1.0", "one")
    assert first is not None
    cluster.create(NAME, "momentum", ["*"], artifact=first)
    wait_for(
        lambda: cluster.call("GET", f"/api/portfolios/{NAME}/checkpoint/").status,
        lambda status: status == 200,
        "a first commit",
    )
    seq = wait_for_code(cluster, "one")

    # Code that changed without its version once ran under the old revision after a reload.
    assert add("1.0", "sneaked in") is None
    wait_for(lambda: reload(cluster), lambda state: state == "done", "a reload")
    seq = wait_for_code(cluster, "one", seq)

    # A process that died after the next version was installed once found its own version gone.
    second = add("2.0", "two")
    assert second is not None
    pid, _ = wait_for(
        lambda: cluster.get(f"/api/portfolios/{NAME}/")["run"]["pid"], bool, "its process"
    )
    with suppress(ProcessLookupError):  # a slow machine has just replaced it
        os.kill(pid, signal.SIGKILL)
    seq = wait_for_code(cluster, "one", seq)
    wait_for(lambda: cluster.run(NAME).phase, lambda phase: phase == "running", "running again")

    # The new version once needed a restart of web, and a PATCH of it alone made no revision.
    changed = cluster.patch(NAME, {"artifact": second[:12]})
    assert (changed["portfolio"]["revision"], changed["portfolio"]["artifact"]) == (2, second)
    wait_for_code(cluster, "two", seq)

    verdict = cluster.manage("verify_portfolio", NAME)
    assert verdict["state"] == "identical", verdict
    cluster.assert_history_whole()
