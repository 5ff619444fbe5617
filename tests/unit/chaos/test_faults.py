"""Expectations of faults, suspended processes, and restarts of daemons."""

from __future__ import annotations

import math
import random
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from chaos.checkers.blast_radius import BlastRadius
from chaos.faults import roll_outs
from chaos.faults.daemons import are_taken_over
from chaos.faults.exits import ExitCounts, miscounts
from chaos.faults.locks import CommitTimes, is_named, read_commit_times, read_metrics, slowdowns
from chaos.faults.many import are_asynchronous, committed_elsewhere
from chaos.faults.partitions import is_just_renewed
from chaos.faults.registry import FAULTS_OF_FLEET
from chaos.harness.observation import ClusterRun
from chaos.harness.processes import suspended
from chaos.runner.fault_context import FaultContext, NotAvailable
from chaos.runner.topology import HALTING, SHORT_TIMES, Topology

OLD = ClusterRun("ibm-sma", "node-1", "a", 3, 1, 100, "running", "", None)
OTHER = ClusterRun("ge-sma", "node-2", "b", 5, 1, 100, "running", "", None)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, False),
        ({"node": "node-2", "incarnation": "b", "epoch": 4}, True),
        ({"incarnation": "c", "epoch": 4}, True),  # same node name, restarted daemon
        ({"node": "node-2", "incarnation": "b", "epoch": 4, "phase": "starting"}, False),
        ({"node": None, "incarnation": None, "phase": "pending"}, False),
        ({"node": None, "incarnation": None, "phase": "pending", "reason": "no room"}, True),
    ],
)
def test_portfolio_counts_as_taken_over_with_a_running_owner_or_a_reason(
    changes: dict, expected: bool
) -> None:
    assert are_taken_over([OLD], {"ibm-sma": replace(OLD, **changes), "ge-sma": OTHER}) is expected


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
def test_portfolio_has_to_commit_on_another_node_unless_no_node_has_room(
    changes: dict, has_place: bool, expected: bool
) -> None:
    now = replace(OLD, **changes)
    assert committed_elsewhere({now.name: OLD}, {now.name: now}, lambda _: has_place) is expected


def test_empty_lists_count_neither_as_committed_elsewhere_nor_as_asynchronous() -> None:
    assert not committed_elsewhere({}, {OLD.name: OLD}, lambda _: True)
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
        one.relaunch_if_proxied("far-1")
        other.relaunch_if_proxied("far-1")
        assert len(launched) == 2
        assert other.notes == ["far-1 was restarted by the other fault of this step"]
        launched[1].kill()
        other.relaunch_if_proxied("far-1")  # it knows the new daemon from then on
        assert len(launched) == 3
        # A second daemon of the same name ended before taking over: the first one still runs.
        newer = launch("far-1")
        newer.kill()
        one.relaunch_if_proxied("far-1", newer)
        assert len(launched) == 5
        assert launched[2].poll() is None
    finally:
        for daemon in launched:
            daemon.kill()
            daemon.communicate()


@pytest.mark.parametrize("victim", ["process", "daemon"])
def test_fault_without_a_process_to_kill_waits_for_the_end_of_its_roll_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    states = iter(["running", "running", "finished", "finished"])
    topology, rng = Topology(tmp_path, SHORT_TIMES), random.Random(0)
    unowned = replace(OLD, node=None, incarnation=None, phase="pending")
    cluster: Any = SimpleNamespace(run=lambda _: unowned)
    monkeypatch.setattr(topology, "cluster", cluster)
    monkeypatch.setattr(rng, "choice", lambda among: victim if victim in among else among[0])
    monkeypatch.setattr(roll_outs, "_add_version", lambda _: "sha256")
    monkeypatch.setattr(roll_outs, "_begin", lambda *_: 5)
    monkeypatch.setattr(roll_outs, "_items", lambda *_: [("rolled-1", "changing")])
    monkeypatch.setattr(roll_outs, "_roll_out_state", lambda *_: next(states))
    context = FaultContext(
        topology, rng, BlastRadius(), threading.Event(), lambda *_: pytest.fail("a violation")
    )
    with pytest.raises(NotAvailable, match="ibm-sma has no owner"), context.undo:
        roll_outs.killed_in_roll_out(context)
    assert context.notes[-1] == "roll-out 5 finished: [('rolled-1', 'changing')]"


def test_faults_of_the_nats_server_belong_to_the_jetstream_fleet_only() -> None:
    added = set(FAULTS_OF_FLEET["jetstream"]) - set(FAULTS_OF_FLEET["one"])
    assert added == {"freeze-nats", "kill-nats", "kill-recorder", "nats-away", "nats-full"}
    assert set(FAULTS_OF_FLEET["one"]) < set(FAULTS_OF_FLEET["jetstream"])


BEFORE = ExitCounts(7, "", attempts=0, exits=3)


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
def test_exits_or_attempts_other_than_expected_are_a_miscount(
    attempts: int, exits: int, expected: list[str]
) -> None:
    assert miscounts(BEFORE, replace(BEFORE, attempts=attempts, exits=exits), exits=2) == expected


def times_of(*took_s: float, failed: int = 0, given_up: int = 0) -> CommitTimes:
    """Return the times of a web process that answered commits after these seconds, a heartbeat
    after three, and other commits with 503 at once and with 499 after four."""
    registry = CollectorRegistry(auto_describe=False)
    requests = Histogram(
        "ginkgo_gateway_request_seconds", "", ["kind", "status"], buckets=(0.1, 0.5, 1),
        registry=registry,
    )  # fmt: skip
    for each in took_s:
        requests.labels("commit", "200").observe(each)
    requests.labels("heartbeat", "200").observe(3)
    for _ in range(failed):
        requests.labels("commit", "503").observe(0)
    for _ in range(given_up):
        requests.labels("commit", "499").observe(4)
    return read_commit_times(read_metrics(generate_latest(registry).decode()))


def test_commit_times_are_the_difference_of_two_readings() -> None:
    asked = times_of(0.5, 2.0, 0.25, 0.75, failed=3, given_up=1).since(times_of(0.5, 2.0, failed=1))
    assert asked == CommitTimes(2, 5.0, {0.1: 2, 0.5: 3, 1.0: 4, math.inf: 5})
    assert (asked.count, asked.mean_ms, asked.median_s, asked.blocked_share) == (5, 1000, 0.5, 0.2)


def test_a_web_process_that_has_answered_no_commit_has_no_times() -> None:
    assert times_of() == CommitTimes(0, 0.0, {})
    assert times_of(0.5).since(times_of()) == times_of(0.5)
    assert slowdowns(times_of(), times_of()) == ["no commits were answered"]


@pytest.mark.parametrize(
    ("before", "held", "expected"),
    [
        (times_of(*[0.05] * 100), times_of(*[0.05] * 100), []),
        # The floors: a tenth of a second, and one commit in twenty.
        (times_of(), times_of(*[0.05] * 95, *[2] * 5), []),
        (times_of(*[0.05] * 100), times_of(*[0.05] * 94, *[2] * 6),
         ["6% of the commits took longer than 1 s (before: 0%)"]),
        (times_of(*[0.05] * 100), times_of(*[0.05] * 94, given_up=6),
         ["6% of the commits took longer than 1 s (before: 0%)"]),
        (times_of(*[0.05] * 100), times_of(*[0.4] * 100),
         ["the median commit took 0.5 s (before: 0.1 s)"]),
        # A machine that was as slow before.
        (times_of(*[0.4] * 80, *[2] * 20), times_of(*[0.4] * 60, *[2] * 40), []),
        (times_of(*[0.05] * 9, failed=1), times_of(*[0.05] * 9, failed=4), []),
        (times_of(*[0.05] * 10), times_of(*[0.05] * 9, failed=1),
         ["1 of 10 commits failed (before: 0)"]),
    ],
)  # fmt: skip
def test_slower_or_failed_commits_during_a_held_snapshot_are_reported(
    before: CommitTimes, held: CommitTimes, expected: list[str]
) -> None:
    assert slowdowns(before, held) == expected


@pytest.mark.parametrize(
    ("left_s", "expected"), [(5.3, False), (5.4, True), (5.8, True), (5.9, False), (-1, False)]
)
def test_lease_counts_as_just_renewed_only_for_a_short_time(left_s: float, expected: bool) -> None:
    assert is_just_renewed(left_s, ttl_s=6) is expected


def test_an_alert_names_a_dump_if_it_has_its_pid_and_application_name() -> None:
    reason = "pid 42 (chaos-dump, user postgres) has held a snapshot since 09:00:00 UTC"
    assert is_named(42, [reason])
    assert not is_named(4, [reason])
    assert not is_named(42, [reason.replace("chaos-dump", "no name")])
    assert not is_named(42, [])
