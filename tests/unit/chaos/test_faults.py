"""Expectations of faults, suspended processes, and restarts of daemons."""

from __future__ import annotations

import random
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from chaos.checkers.blast_radius import BlastRadius
from chaos.faults.daemons import are_taken_over
from chaos.faults.exits import Failures, miscounts
from chaos.faults.locks import CommitTimes, is_named, read_commit_times, read_metrics
from chaos.faults.many import are_asynchronous, commit_elsewhere
from chaos.faults.registry import FLEETS
from chaos.harness.observation import ClusterRun
from chaos.harness.processes import suspended
from chaos.runner.fault_context import FaultContext
from chaos.runner.topology import HALTING, SHORT_TIMES, Topology

OLD = ClusterRun("ibm-sma", "node-1", "a", 3, 1, 100, "running", "", None)
OTHER = ClusterRun("ge-sma", "node-2", "b", 5, 1, 100, "running", "", None)


def test_an_unchanged_owner_is_not_taken_over() -> None:
    assert not are_taken_over([OLD], {"ibm-sma": OLD, "ge-sma": OTHER})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"node": "node-2", "incarnation": "b", "epoch": 4}, True),
        ({"incarnation": "c", "epoch": 4}, True),  # same node name, restarted daemon
        ({"node": "node-2", "incarnation": "b", "epoch": 4, "phase": "starting"}, False),
        ({"node": None, "incarnation": None, "phase": "pending"}, False),
        ({"node": None, "incarnation": None, "phase": "pending", "reason": "no room"}, True),
    ],
)
def test_a_portfolio_is_taken_over_by_a_running_owner_or_a_reason(
    changes: dict, expected: bool
) -> None:
    assert are_taken_over([OLD], {"ibm-sma": replace(OLD, **changes)}) is expected


def test_a_deleted_portfolio_need_not_be_taken_over() -> None:
    assert are_taken_over([OLD], {"ge-sma": OTHER})


@pytest.mark.parametrize(
    ("changes", "has_place", "expected"),
    [
        ({}, True, False),
        ({"incarnation": "b"}, True, False),  # it has not committed there
        ({"incarnation": "b", "last_seq": 101}, True, True),
        ({"incarnation": None, "phase": "pending"}, True, False),
        ({"incarnation": None, "phase": "pending"}, False, True),
        ({"incarnation": None, "phase": "halted"}, True, False),
        ({"name": HALTING, "incarnation": None, "phase": "halted"}, True, True),
    ],
)
def test_a_portfolio_commits_elsewhere_unless_no_node_has_room(
    changes: dict, has_place: bool, expected: bool
) -> None:
    now = replace(OLD, **changes)
    assert commit_elsewhere({now.name: OLD}, {now.name: now}, lambda _: has_place) is expected


def test_a_daemon_without_portfolios_and_a_primary_without_standbys_show_nothing() -> None:
    assert not commit_elsewhere({}, {OLD.name: OLD}, lambda _: True)
    assert not are_asynchronous([])
    assert not are_asynchronous([("db-2", "async"), ("db-3", "sync")])
    assert are_asynchronous([("db-2", "async"), ("db-3", "async")])


def test_suspended_processes_resume_even_if_another_has_ended() -> None:
    living, gone = (
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)
    )
    held = [psutil.Process(living.pid), psutil.Process(gone.pid)]
    try:
        gone.communicate()
        with pytest.raises(psutil.NoSuchProcess), suspended(held):
            pass
        assert living.communicate(b"here", timeout=5) == (b"here", None)
    finally:
        living.kill()
        living.wait()


def test_of_two_faults_that_killed_one_daemon_the_first_restarts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topology = Topology(tmp_path, SHORT_TIMES)
    launched: list[subprocess.Popen[str]] = []

    def launch(name: str) -> subprocess.Popen[str]:
        topology.daemons[name] = subprocess.Popen(["cat"], stdin=subprocess.PIPE, text=True)
        launched.append(topology.daemons[name])
        return topology.daemons[name]

    monkeypatch.setattr(topology, "launch", launch)
    try:
        launch("far-1")
        one, other = (
            FaultContext(
                topology, random.Random(0), BlastRadius(), threading.Event(), lambda *_: None
            )
            for _ in range(2)
        )
        launched[0].kill()
        one.relaunch_proxied_node("far-1")
        other.relaunch_proxied_node("far-1")
        assert len(launched) == 2
        assert other.notes == ["far-1 was restarted by the other fault of this step"]
        launched[1].kill()
        other.relaunch_proxied_node("far-1")  # it knows the new daemon from then on
        assert len(launched) == 3
        # A second daemon of the same name ended before taking over: the first one still runs.
        newer = launch("far-1")
        newer.kill()
        one.relaunch_proxied_node("far-1", newer)
        assert len(launched) == 5
        assert launched[2].poll() is None
    finally:
        for daemon in launched:
            daemon.kill()
            daemon.communicate()


def test_faults_of_the_nats_server_belong_to_its_fleet() -> None:
    added = set(FLEETS["jetstream"]) - set(FLEETS["one"])
    assert added == {"freeze-nats", "kill-nats", "kill-recorder", "nats-away", "nats-full"}
    assert set(FLEETS["one"]) < set(FLEETS["jetstream"])


BEFORE = Failures(7, "", attempts=0, exits=3)


@pytest.mark.parametrize(
    ("attempts", "exits", "expected"),
    [
        (0, 5, []),
        (1, 5, []),  # the last exit, if nothing was committed since
        (0, 6, ["3 exits were counted, not 2"]),
        (0, 4, ["1 exits were counted, not 2"]),
        (2, 5, ["2 attempts were counted since its last commit, not 1"]),
    ],
)
def test_a_repeated_exit_report_is_a_miscount(
    attempts: int, exits: int, expected: list[str]
) -> None:
    assert miscounts(BEFORE, replace(BEFORE, attempts=attempts, exits=exits), exits=2) == expected


def metrics_of_commits(seconds: list[float]) -> str:
    """Return the metrics of a web process that answered commits after these seconds, and a
    heartbeat and a refused commit after three."""
    registry = CollectorRegistry(auto_describe=False)
    requests = Histogram(
        "ginkgo_gateway_request_seconds", "", ["kind", "status"], buckets=(1,), registry=registry
    )
    for took_s in seconds:
        requests.labels("commit", "200").observe(took_s)
    requests.labels("heartbeat", "200").observe(3)
    requests.labels("commit", "503").observe(3)
    return generate_latest(registry).decode()


def test_times_of_commits_are_those_after_the_first_reading() -> None:
    idle, last = (
        read_commit_times(read_metrics(metrics_of_commits(seconds)))
        for seconds in ([0.5, 2.0], [0.5, 2.0, 0.25, 0.75])
    )
    assert (idle.count, idle.within_a_second) == (2, 1)
    assert last.since(idle) == CommitTimes(2, 2, 1.0)
    assert last.since(idle).mean_ms == 500


@pytest.mark.parametrize(
    ("count", "slow", "expected"), [(100, 0, True), (100, 5, True), (100, 6, False), (0, 0, False)]
)
def test_one_commit_in_twenty_may_take_a_second(count: int, slow: int, expected: bool) -> None:
    assert CommitTimes(count, count - slow, 1.0).are_fast is expected


def test_a_dump_is_named_by_pid_and_application() -> None:
    reason = "pid 42 (chaos-dump, user postgres) has held a snapshot since 09:00:00 UTC"
    assert is_named(42, [reason])
    assert not is_named(4, [reason])
    assert not is_named(42, [reason.replace("chaos-dump", "no name")])
    assert not is_named(42, [])
