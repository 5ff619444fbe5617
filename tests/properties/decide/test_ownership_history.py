"""Rebuilding ownership from the audit log gives the granted history and finds every gap."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.decide.ownership_history import (
    AuditLine,
    CurrentRun,
    OwnershipPeriod,
    find_disagreement,
    rebuild_history,
)
from tests.support.drawn_examples import examples

NODES = ("node-1", "node-2", "node-3")
CAUSES = ("place", "migrate", "reload", "failover", "register", "rollback")
FIELDS = ("node", "incarnation", "revision", "from_seq", "to_seq", "cause", "handoff")
ENDS = ("stop", "halt", "quarantine", "orphaned", "failed_start", "floor")


@st.composite
def histories(draw: st.DrawFn) -> list[OwnershipPeriod]:
    """Draw a possible history of one portfolio, as grants would make it."""
    history: list[OwnershipPeriod] = []
    epoch, seq = 0, draw(st.integers(0, 10**12))
    for _ in range(draw(st.integers(1, 12))):
        ended = draw(st.booleans()) and bool(history) and history[-1].node is not None
        cause = draw(st.sampled_from(ENDS if ended else CAUSES))
        before = epoch
        epoch += draw(st.integers(2, 1_000_000)) if cause == "floor" else 1
        seq += draw(st.integers(0, 50))
        if history:
            history[-1] = replace(history[-1], to_seq=seq)
        handoff = draw(st.none() | st.integers(1, 10**6))
        history.append(
            OwnershipPeriod(
                epoch=epoch, node=None if ended else draw(st.sampled_from(NODES)),
                incarnation=None if ended else str(draw(st.uuids())),
                revision=draw(st.integers(1, 5)), from_seq=seq, to_seq=None, cause=cause,
                handoff=handoff, after=before if cause == "floor" else None,
            )
        )  # fmt: skip
    return history


def audit_lines_of(history: list[OwnershipPeriod]) -> list[AuditLine]:
    """Return the audit lines that the grants would write."""
    return [
        AuditLine(
            number, "granted" if owned.node is not None else "ended", owned.node,
            {
                "epoch": owned.epoch, "incarnation": owned.incarnation, "revision": owned.revision,
                "from_seq": owned.from_seq, "cause": owned.cause, "handoff": owned.handoff,
                "epoch_before": owned.after,
            },
        )
        for number, owned in enumerate(history, start=1)
    ]  # fmt: skip


def tenures_of(history: list[OwnershipPeriod]) -> list[OwnershipPeriod]:
    return [owned for owned in history if owned.node is not None]


def run_of(history: list[OwnershipPeriod]) -> CurrentRun:
    last = history[-1]
    return CurrentRun(last.epoch, last.node, last.incarnation, last.revision)


@given(histories())
@settings(max_examples=examples(100))
def test_audit_log_alone_rebuilds_the_history(history: list[OwnershipPeriod]) -> None:
    assert rebuild_history(audit_lines_of(history)) == history
    assert find_disagreement(audit_lines_of(history), tenures_of(history), run_of(history)) is None


@given(histories(), st.data())
@settings(max_examples=examples(100))
def test_missing_lines_and_missing_extra_or_different_tenures_are_a_disagreement(
    history: list[OwnershipPeriod], data: st.DataObject
) -> None:
    lines, tenures, run = audit_lines_of(history), tenures_of(history), run_of(history)
    gone = data.draw(st.integers(0, len(lines) - 1))
    assert find_disagreement(lines[:gone] + lines[gone + 1 :], tenures, run) is not None
    at = data.draw(st.integers(0, len(tenures) - 1))
    before, one, after = tenures[:at], tenures[at], tenures[at + 1 :]
    assert find_disagreement(lines, before + after, run) is not None
    more = replace(one, epoch=history[-1].epoch + 1)
    assert find_disagreement(lines, [*tenures, more], run) is not None
    field = data.draw(st.sampled_from(FIELDS))
    other: Any = {"node": "node-9", "incarnation": "x", "cause": "mystery"}.get(field, -7)
    found = find_disagreement(lines, [*before, replace(one, **{field: other}), *after], run)
    assert found is not None and found.startswith(f"epoch {one.epoch}: {field} is ")


@given(histories(), st.sampled_from(["epoch", "node", "incarnation", "revision"]))
@settings(max_examples=examples(100))
def test_run_has_to_match_the_last_audit_line(history: list[OwnershipPeriod], field: str) -> None:
    other: Any = 99 if field in ("epoch", "revision") else "other"
    run = replace(run_of(history), **{field: other})
    found = find_disagreement(audit_lines_of(history), tenures_of(history), run)
    assert found is not None and f" with {field} " in found


def disagreement_within(*epochs: tuple[Any, ...]) -> str | None:
    """Return the disagreement within an audit log of (epoch, node, from_seq[, previous epoch]).

    Tenures and run are derived from the log, so that they agree with it.
    """
    lines = [
        OwnershipPeriod(epoch, node, None, 1, seq, None, "place", None, *after)
        for epoch, node, seq, *after in epochs
    ]
    history = rebuild_history(audit_lines_of(lines))
    return find_disagreement(audit_lines_of(lines), tenures_of(history), run_of(history))


@pytest.mark.parametrize(
    ("epochs", "found"),
    [
        ([(1, "node-1", 5), (2, None, 9), (9, "node-2", 9, 2)], None),
        # An epoch may follow a gap if its line names the one before.
        ([(1, "node-1", 5), (9, "node-2", 9, 2)], "the audit log goes from epoch 1 to epoch 9, "
         "which follows epoch 2: a line between them is missing"),
        ([(2, "node-1", 5, 0), (2, "node-1", 5)], "the audit log has epoch 2 after epoch 2"),
        ([(1, "node-1", 5), (2, "node-2", 4)],
         "epoch 2 begins after seq 4, before the start of the previous epoch"),
    ],
)  # fmt: skip
def test_epochs_and_seqs_of_an_audit_log_follow_each_other(
    epochs: list[tuple[Any, ...]], found: str | None
) -> None:
    assert disagreement_within(*epochs) == found


def test_ended_epoch_has_no_owner() -> None:
    data = audit_lines_of([OwnershipPeriod(1, None, None, 1, 5, None, "stop", None)])[0].data
    ended = AuditLine(1, "ended", "node-1", data)
    assert rebuild_history([ended])[0].node is None
    assert find_disagreement([ended], [], CurrentRun(1, None, None, 1)) is None


def test_epoch_in_only_one_source_is_named() -> None:
    lines = [OwnershipPeriod(n, f"node-{n}", None, 1, 4 + n, 5 + n, "place", None) for n in (1, 2)]
    lines[1] = replace(lines[1], to_seq=None)
    run = CurrentRun(2, "node-2", None, 1)
    assert find_disagreement(audit_lines_of(lines), lines[1:], run) == (
        "the audit log grants epoch 1 to node-1 (place) after seq 5, and no tenure of it exists"
    )
    first = replace(lines[0], epoch=0)
    assert find_disagreement(audit_lines_of(lines), [first, *lines], run) == (
        "the tenure of epoch 0 on node-1 (place) has no granted line in the audit log"
    )


(GRANTED,) = audit_lines_of([OwnershipPeriod(1, "node-1", None, 1, 5, None, "place", None)])
INVALID = "event 7 (granted) has a missing or invalid field: "


@pytest.mark.parametrize(
    ("node", "data", "found"),
    [
        (None, GRANTED.data, "event 7 (granted) names no node"),
        ("node-1", {**GRANTED.data, "epoch": None}, INVALID),
        ("node-1", {"epoch": 1}, f"{INVALID}'incarnation'"),
    ],
)
def test_incomplete_audit_line_is_named(node: str | None, data: dict[str, Any], found: str) -> None:
    line = AuditLine(7, "granted", node, data)
    assert str(find_disagreement([line], [], CurrentRun(1, None, None, 1))).startswith(found)
