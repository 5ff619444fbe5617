"""The history rebuilt from the audit trail is the one that was granted; nothing may be missing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from scheduling.decide.history import FIELDS, Now, Owned, TrailLine, disagreement, rebuild

NODES = ("node-1", "node-2", "node-3")
CAUSES = ("place", "migrate", "reload", "failover", "register", "rollback")
ENDS = ("stop", "halt", "quarantine", "orphaned", "failed_start", "floor")


@st.composite
def histories(draw: st.DrawFn) -> list[Owned]:
    """Draw what may have happened to one portfolio, as the grants did it."""
    history: list[Owned] = []
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
            Owned(
                epoch=epoch,
                node=None if ended else draw(st.sampled_from(NODES)),
                incarnation=None if ended else str(draw(st.uuids())),
                revision=draw(st.integers(1, 5)),
                from_seq=seq,
                to_seq=None,
                cause=cause,
                handoff=handoff,
                after=before if cause == "floor" else None,
            )
        )
    return history


def trail_of(history: list[Owned]) -> list[TrailLine]:
    """Return the lines that the grants write."""
    return [
        TrailLine(
            number,
            "granted" if owned.node is not None else "ended",
            owned.node,
            {
                "epoch": owned.epoch,
                "incarnation": owned.incarnation,
                "revision": owned.revision,
                "from_seq": owned.from_seq,
                "cause": owned.cause,
                "handoff": owned.handoff,
                "epoch_before": owned.after,
            },
        )
        for number, owned in enumerate(history, start=1)
    ]


def tenures_of(history: list[Owned]) -> list[Owned]:
    return [owned for owned in history if owned.node is not None]


def now_of(history: list[Owned]) -> Now:
    last = history[-1]
    return Now(last.epoch, last.node, last.incarnation, last.revision)


@given(histories())
def test_the_trail_alone_gives_the_whole_history_back(history: list[Owned]) -> None:
    assert rebuild(trail_of(history)) == history
    assert disagreement(trail_of(history), tenures_of(history), now_of(history)) is None


@given(histories(), st.data())
def test_no_line_of_the_trail_can_be_missing(history: list[Owned], data: st.DataObject) -> None:
    trail = trail_of(history)
    gone = data.draw(st.integers(0, len(trail) - 1))
    left = trail[:gone] + trail[gone + 1 :]
    assert disagreement(left, tenures_of(history), now_of(history)) is not None


@given(histories(), st.data())
def test_no_tenure_can_be_missing_or_invented(history: list[Owned], data: st.DataObject) -> None:
    tenures = tenures_of(history)
    at = data.draw(st.integers(0, len(tenures) - 1))
    assert (
        disagreement(trail_of(history), tenures[:at] + tenures[at + 1 :], now_of(history))
        is not None
    )
    more = replace(tenures[at], epoch=history[-1].epoch + 1)
    assert disagreement(trail_of(history), [*tenures, more], now_of(history)) is not None


@given(histories(), st.data())
def test_no_field_of_a_tenure_can_differ(history: list[Owned], data: st.DataObject) -> None:
    tenures = tenures_of(history)
    at = data.draw(st.integers(0, len(tenures) - 1))
    field = data.draw(st.sampled_from(FIELDS))
    other: Any = {"node": "node-9", "incarnation": "x", "cause": "mystery"}.get(field, -7)
    tenures[at] = replace(tenures[at], **{field: other})
    said = disagreement(trail_of(history), tenures, now_of(history))
    assert said is not None and said.startswith(f"epoch {tenures[at].epoch}: the trail says")


@given(histories(), st.sampled_from(["epoch", "node", "incarnation", "revision"]))
def test_the_run_is_where_the_trail_ends(history: list[Owned], field: str) -> None:
    now = replace(now_of(history), **{field: 99 if field in ("epoch", "revision") else "other"})
    said = disagreement(trail_of(history), tenures_of(history), now)
    assert said is not None and said.startswith(f"the trail ends with {field}")


def test_a_line_that_does_not_say_what_it_must_is_named() -> None:
    lines = [TrailLine(7, "granted", "node-1", {"epoch": 1})]
    assert disagreement(lines, [], Now(0, None, None, 1)) == (
        "event 7 (granted) does not say 'incarnation'"
    )
