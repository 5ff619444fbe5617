"""The checkers of chaos runs find constructed violations."""

from __future__ import annotations

import psycopg
import pytest

from chaos.checkers import invariants
from chaos.checkers.blast_radius import BlastRadius
from chaos.checkers.findings import Findings
from chaos.checkers.invariants import (
    BystanderChecker,
    Canary,
    OpenAlert,
    OwnershipChecker,
    RunSample,
    Sample,
    TenureRow,
)
from chaos.checkers.monitor import Monitor


def sample(
    epoch: int = 3, seq: int = 100, node: str | None = "node-1", **changes: object
) -> RunSample:
    """Return a sample of a running portfolio."""
    fields: dict = {"incarnation": f"{node}-a" if node else None, "phase": "running", **changes}
    return RunSample("ibm-sma", node, epoch=epoch, last_seq=seq, **fields)


def found_by(judge: OwnershipChecker, *runs: RunSample) -> list[tuple[str, str]]:
    """Return the failures found in these runs, one sample each."""
    return [
        found for at, run in enumerate(runs) for found in judge.check(Sample(float(at), {1: run}))
    ]


@pytest.mark.parametrize(
    ("runs", "invariant", "what"),
    [
        ([sample(3), sample(4, 120), sample(3, 130)], "I1",
         "the epoch of ibm-sma fell from 4 to 3"),
        ([sample(3), sample(3, node="node-2")], "I1", "two owners"),
        ([sample(3), sample(3, incarnation="node-1-b")], "I1", "two owners"),
        ([sample(seq=100), sample(4, seq=90)], "I2", "ibm-sma went back from seq 100 to 90"),
    ],
    ids=["epoch", "owner", "incarnation", "seq"],
)  # fmt: skip
def test_two_owners_and_progress_that_goes_back_are_found(
    runs: list[RunSample], invariant: str, what: str
) -> None:
    ((found, said),) = found_by(OwnershipChecker(), *runs)
    assert found == invariant
    assert what in said


def test_a_correct_migration_is_not_a_violation() -> None:
    runs = (sample(3), sample(4, 100, None), sample(5, 120, "node-2"))
    assert found_by(OwnershipChecker(), *runs) == []


def bystander_failures(
    *samples: tuple[float, RunSample, bool], is_affected: bool = False
) -> list[str]:
    """Return the failures over samples of (time, run, is_quiet)."""
    judge = BystanderChecker(lambda run: is_affected)
    return [
        what
        for at, run, quiet in samples
        for _, what in judge.check(Sample(at, {1: run}, quiet))[0]
    ]


def test_a_bystander_without_commits_for_more_than_2_s_is_found_once() -> None:
    samples = [(at / 10, sample(), False) for at in range(40)]
    assert bystander_failures(*samples) == [
        "bystander ibm-sma on node-1 committed nothing for more than 2 s after seq 100"
    ]


@pytest.mark.parametrize(
    "samples",
    [
        ((0, sample(), False), (2.0, sample(), False), (2.1, sample(3, 101), False)),
        ((0, sample(), True), (9, sample(), True)),
        # A handoff resets the gap.
        ((0, sample(in_handoff=True), False), (5, sample(), False), (6.5, sample(), False)),
        *(
            ((0, run, False), (9, run, False))
            for run in (sample(phase="stopped"), sample(in_handoff=True), sample(phase="draining"))
        ),
    ],
    ids=["2 s", "feed is paused", "after a handoff", "stopped", "in a handoff", "draining"],
)
def test_allowed_pauses_of_a_portfolio_are_not_a_violation(
    samples: tuple[tuple[float, RunSample, bool], ...],
) -> None:
    assert bystander_failures(*samples) == []


def test_an_affected_portfolio_may_pause() -> None:
    assert bystander_failures((0, sample(), False), (9, sample(), False), is_affected=True) == []


def test_a_blast_radius_includes_its_portfolios_and_those_of_its_nodes() -> None:
    blast_radius = BlastRadius()
    blast_radius.add_nodes(["node-1"])
    blast_radius.add_portfolios(["ge-sma"])
    assert blast_radius.includes("ibm-sma", "node-1")
    assert blast_radius.includes("ge-sma", "node-2")
    assert not blast_radius.includes("ibm-sma", "node-2")
    assert not blast_radius.includes("ibm-sma", None)
    blast_radius.add_all("the database is away")
    assert blast_radius.includes("ibm-sma", "node-2")


def test_moved_stopped_or_missing_portfolios_are_reported_as_a_mass_action() -> None:
    before = {1: sample(), 2: sample(), 3: sample(), 4: sample()}
    after = {
        1: sample(3, 150),
        2: sample(4, 150, "node-2"),
        3: sample(4, 150, None, phase="stopped"),
    }
    found = [invariant for invariant, _ in invariants.unexpected_moves(before, after)]
    assert found == ["I9", "I9", "I9"]
    assert invariants.unexpected_moves({1: sample()}, {1: sample(3, 150)}) == []


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(1, 10, 50), (2, 50, 50), (4, 50, None)], []),
        ([(1, 12, None)], ["I2"]),  # the first event is missing
        ([(1, 10, 50), (2, 52, None)], ["I2"]),  # a gap
        ([(1, 10, 50), (2, 48, None)], ["I2"]),  # an overlap
        ([(1, 10, None), (2, 10, None)], ["I2"]),  # two open tenures
        ([(2, 10, 50), (2, 50, None)], ["I1"]),
        ([(3, 10, 50), (2, 50, None)], ["I1"]),
    ],
)
def test_only_tenures_with_a_gap_or_overlap_violate_tiling(rows: list, expected: list[str]) -> None:
    """Rows are tenures (epoch, from_seq, to_seq) of a portfolio whose first seq is 11."""
    found = invariants.tiling_violations([TenureRow("ibm-sma", 11, *row) for row in rows])
    assert [invariant for invariant, _ in found] == expected


@pytest.mark.parametrize(
    "wrong", [{}, {"gaps": 1}, {"duplicates": 1}, {"first_seq": 12}, {"digest": "ac"}]
)
def test_only_a_canary_whose_history_differs_from_the_log_is_a_violation(wrong: dict) -> None:
    clean = {"gaps": 0, "duplicates": 0, "first_seq": 11, "last_seq": 90, "digest": "ab"}
    seen = Canary("canary-1", 11, {**clean, **wrong}, "ab")
    found = [invariant for invariant, _ in invariants.canary_violations(seen)]
    assert found == (["I2"] if wrong else [])


def test_an_alert_without_cause_or_open_twice_is_found() -> None:
    lost = OpenAlert("node_lost", "node:3", has_cause=True, is_closing=False)
    gone = OpenAlert("halted", "portfolio:4", has_cause=False, is_closing=False)
    closing = OpenAlert("pending", "portfolio:4", has_cause=False, is_closing=True)
    assert invariants.alert_violations([lost, closing]) == []
    assert [what for _, what in invariants.alert_violations([lost, lost, gone])] == [
        "two alerts are open for node_lost of node:3",
        "the alert halted of portfolio:4 is open, though its cause is gone",
    ]


def test_a_pause_is_measured_up_to_the_commit_that_ends_it() -> None:
    meter = invariants.PauseMeter()
    samples = [
        Sample(0.0, {1: sample(seq=100)}),
        Sample(1.0, {1: sample(seq=100)}),
        Sample(9.0, {1: sample(seq=120)}),  # no sample could be taken for 8 s
        Sample(9.5, {1: sample(seq=121, phase="starting")}),  # a handoff's pause is another figure
        Sample(20.0, {1: sample(seq=122)}),
        Sample(20.2, {1: sample(seq=123)}),
    ]
    found = [pause.seconds for sample in samples for pause in meter.take(sample)]
    assert found == pytest.approx([9.0, 0.2])


def test_a_monitor_that_was_never_started_can_be_stopped() -> None:
    findings = Findings()
    monitor = Monitor(lambda: psycopg.connect("postgresql://nowhere"), findings)
    monitor.stop()  # as in a run interrupted before its first convergence
    assert (monitor.samples_taken, findings.violations) == (0, [])
