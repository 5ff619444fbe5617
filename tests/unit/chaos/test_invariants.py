"""The judges of a fault run, each shown a violation that was made up, which it has to find."""

from __future__ import annotations

import pytest

from chaos.checkers import invariants
from chaos.checkers.blast_radius import BlastRadius
from chaos.checkers.invariants import (
    BystanderChecker,
    Canary,
    OpenAlert,
    OwnershipChecker,
    RunSample,
    Sample,
    TenureRow,
)


def seen(
    epoch: int = 3, seq: int = 100, node: str | None = "node-1", **changes: object
) -> RunSample:
    """One portfolio that runs."""
    fields: dict = {"incarnation": f"{node}-a" if node else None, "phase": "running", **changes}
    return RunSample("ibm-sma", node, epoch=epoch, last_seq=seq, **fields)


def found_by(judge: OwnershipChecker, *runs: RunSample) -> list[tuple[str, str]]:
    """What the judge says of these, one look each."""
    return [
        found for at, run in enumerate(runs) for found in judge.check(Sample(float(at), {1: run}))
    ]


def test_an_epoch_that_falls_is_found() -> None:
    ((invariant, what),) = found_by(OwnershipChecker(), seen(3), seen(4, 120), seen(3, 130))
    assert invariant == "I1"
    assert what == "the epoch of ibm-sma fell from 4 to 3"


def test_two_owners_of_one_epoch_are_found() -> None:
    ((invariant, what),) = found_by(OwnershipChecker(), seen(3), seen(3, node="node-2"))
    assert invariant == "I1"
    assert "two owners" in what


def test_two_incarnations_of_one_node_in_one_epoch_are_found() -> None:
    ((invariant, _),) = found_by(OwnershipChecker(), seen(3), seen(3, incarnation="node-1-b"))
    assert invariant == "I1"


def test_a_seq_that_goes_back_is_found() -> None:
    ((invariant, what),) = found_by(OwnershipChecker(), seen(seq=100), seen(4, seq=90))
    assert invariant == "I2"
    assert what == "ibm-sma went back from seq 100 to 90"


def test_a_move_in_order_is_none_of_these() -> None:
    assert found_by(OwnershipChecker(), seen(3), seen(4, 100, None), seen(5, 120, "node-2")) == []


def bystanders_say(
    *samples_taken: tuple[float, RunSample, bool], touched: bool = False
) -> list[str]:
    """What is said over looks of (time, run, whether the feed is quiet)."""
    judge = BystanderChecker(lambda run: touched)
    return [
        what
        for at, run, quiet in samples_taken
        for _, what in judge.check(Sample(at, {1: run}, quiet))[0]
    ]


def test_a_bystander_that_stands_still_for_more_than_two_seconds_is_found_once() -> None:
    samples_taken = [(at / 10, seen(), False) for at in range(40)]
    assert bystanders_say(*samples_taken) == [
        "bystander ibm-sma on node-1 committed nothing for more than 2 s after seq 100"
    ]


def test_a_bystander_that_stands_still_for_two_seconds_at_most_is_none() -> None:
    assert (
        bystanders_say((0, seen(), False), (2.0, seen(), False), (2.1, seen(3, 101), False)) == []
    )


@pytest.mark.parametrize(
    "run",
    [seen(phase="stopped"), seen(in_handoff=True), seen(phase="draining")],
    ids=["stopped", "in a handoff", "draining"],
)
def test_who_is_no_bystander_may_stand_still(run: RunSample) -> None:
    assert bystanders_say((0, run, False), (9, run, False)) == []


def test_whom_a_fault_touches_may_stand_still_and_so_may_all_while_the_feed_is_quiet() -> None:
    assert bystanders_say((0, seen(), False), (9, seen(), False), touched=True) == []
    assert bystanders_say((0, seen(), True), (9, seen(), True)) == []


def test_a_gap_begins_anew_when_its_handoff_has_ended() -> None:
    assert (
        bystanders_say((0, seen(in_handoff=True), False), (5, seen(), False), (6.5, seen(), False))
        == []
    )


def test_a_footprint_touches_its_portfolios_its_nodes_and_what_they_own() -> None:
    blast_radius = BlastRadius()
    blast_radius.add_nodes(["node-1"])
    blast_radius.add_portfolios(["ge-sma"])
    assert blast_radius.includes("ibm-sma", "node-1")
    assert blast_radius.includes("ge-sma", "node-2")
    assert not blast_radius.includes("ibm-sma", "node-2")
    assert not blast_radius.includes("ibm-sma", None)
    blast_radius.add_all("the database is away")
    assert blast_radius.includes("ibm-sma", "node-2")


def test_what_moved_stopped_or_is_gone_where_nothing_may_move_is_found() -> None:
    before = {1: seen(), 2: seen(), 3: seen(), 4: seen()}
    after = {1: seen(3, 150), 2: seen(4, 150, "node-2"), 3: seen(4, 150, None, phase="stopped")}
    assert [invariant for invariant, _ in invariants.unexpected_moves(before, after)] == [
        "I9",
        "I9",
        "I9",
    ]
    assert invariants.unexpected_moves({1: seen()}, {1: seen(3, 150)}) == []


def history(*rows: tuple[int, int, int | None]) -> list[tuple[str, str]]:
    """What is said of tenures of (epoch, from_seq, to_seq) of a portfolio that began at 11."""
    return invariants.tiling_violations([TenureRow("ibm-sma", 11, *row) for row in rows])


def test_a_history_that_tiles_is_whole() -> None:
    assert history((1, 10, 50), (2, 50, 50), (4, 50, None)) == []


@pytest.mark.parametrize(
    ("rows", "invariant"),
    [
        ([(1, 12, None)], "I2"),  # the first event is missing
        ([(1, 10, 50), (2, 52, None)], "I2"),  # a hole
        ([(1, 10, 50), (2, 48, None)], "I2"),  # twice
        ([(1, 10, None), (2, 10, None)], "I2"),  # two that have not ended
        ([(2, 10, 50), (2, 50, None)], "I1"),
        ([(3, 10, 50), (2, 50, None)], "I1"),
    ],
)
def test_a_torn_history_is_found(rows: list, invariant: str) -> None:
    ((found, _),) = history(*rows)
    assert found == invariant


CLEAN = {"gaps": 0, "duplicates": 0, "first_seq": 11, "last_seq": 90, "digest": "ab"}


def test_a_clean_canary_is_believed() -> None:
    assert invariants.canary_violations(Canary("canary-1", 11, CLEAN, "ab")) == []


@pytest.mark.parametrize(
    "wrong", [{"gaps": 1}, {"duplicates": 1}, {"first_seq": 12}, {"digest": "ac"}]
)
def test_a_canary_that_saw_anything_else_is_found(wrong: dict) -> None:
    ((invariant, _),) = invariants.canary_violations(
        Canary("canary-1", 11, {**CLEAN, **wrong}, "ab")
    )
    assert invariant == "I2"


def test_an_alert_that_outlives_its_cause_or_is_open_twice_is_found() -> None:
    lost = OpenAlert("node_lost", "node:3", has_cause=True, is_closing=False)
    gone = OpenAlert("halted", "portfolio:4", has_cause=False, is_closing=False)
    closing = OpenAlert("pending", "portfolio:4", has_cause=False, is_closing=True)
    assert invariants.alert_violations([lost, closing]) == []
    assert [what for _, what in invariants.alert_violations([lost, lost, gone])] == [
        "two alerts are open for node_lost of node:3",
        "the alert halted of portfolio:4 is open, though its cause is gone",
    ]
