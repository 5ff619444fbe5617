"""Applying the reconcile actions leads from any state to the desired set."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.decide import reconcile as decide
from scheduling.decide.reconcile import Process, reconcile
from scheduling.wire.messages import DesiredEntry
from tests.support.drawn_examples import examples

PHASES = ["preparing", "prepared", "starting", "running", "draining", "warm", "waiting", "ended"]
LATER_S = 100.0  #: after every back-off


@st.composite
def processes(draw: st.DrawFn) -> list[Process]:
    """Draw the processes of a node: each (epoch, revision) of a portfolio once."""
    found = draw(
        st.lists(
            st.builds(
                Process,
                slot=st.just(0),
                portfolio=st.integers(1, 3),
                epoch=st.integers(1, 5),
                revision=st.integers(1, 2),
                phase=st.sampled_from(PHASES),
                handoff=st.one_of(st.none(), st.integers(1, 3)),
                kept_for=st.one_of(st.none(), st.integers(1, 3)),
                ended_at=st.floats(0, 10),
                reported=st.booleans(),
                failures=st.integers(0, 5),
            ),
            max_size=6,
            unique_by=lambda p: (p.portfolio, p.epoch),
        )
    )
    return [_valid(replace(p, slot=slot)) for slot, p in enumerate(found, 1)]


def _valid(process: Process) -> Process:
    """Make the process valid: a prepared one has a handoff and no epoch."""
    if process.phase in ("preparing", "prepared"):
        return replace(process, epoch=0, handoff=process.handoff or process.slot)
    return process


@st.composite
def desired_sets(draw: st.DrawFn) -> list[DesiredEntry]:
    """Draw a desired set as the server makes them: one entry per owner, and at most one more."""
    entries = []
    for portfolio in draw(st.sets(st.integers(1, 3))):
        role: Any = draw(st.sampled_from(["run", "drain", "warm", "prepare"]))
        epoch, handoff = draw(st.integers(1, 5)), draw(st.integers(1, 3))
        revision = draw(st.integers(1, 2))
        needs = handoff if role != "run" or draw(st.booleans()) else None
        entry = partial(DesiredEntry, portfolio=portfolio, name=f"p-{portfolio}", epoch=epoch)
        attempts = draw(st.integers(0, 4))
        entries.append(entry(role=role, revision=revision, handoff=needs, attempts=attempts))
        if role in ("run", "drain") and draw(st.booleans()):
            entries.append(entry(role="prepare", revision=3 - revision, handoff=handoff))
    return entries


def begin(existing: list[Process], actions: list[decide.Action]) -> list[Process]:
    """Return the processes after beginning every action, like `HostedPortfolio`."""
    slots = {p.slot: p for p in existing}
    free = max(slots, default=0)
    for action in actions:
        match action:
            case decide.Start(entry=e, replaces=old) | decide.ReleaseAbsent(entry=e, replaces=old):
                slots.pop(old or -1, None)
                free += 1
                phase = "starting" if isinstance(action, decide.Start) else "draining"
                slots[free] = Process(free, e.portfolio, e.epoch, e.revision, phase, e.handoff)
            case decide.Prepare(entry=e):
                free += 1
                slots[free] = Process(free, e.portfolio, 0, e.revision, "preparing", e.handoff)
            case decide.Activate(entry=e, slot=slot) | decide.Adopt(entry=e, slot=slot):
                slots[slot] = Process(slot, e.portfolio, e.epoch, e.revision, "starting", e.handoff)
            case decide.Drain(entry=e, slot=slot):
                slots[slot] = replace(slots[slot], phase="draining", handoff=e.handoff)
            case decide.Resume(slot=slot):
                slots[slot] = replace(slots[slot], phase="running", handoff=None)
            case decide.Freeze(slot=slot):
                slots[slot] = replace(slots[slot], phase="warm")
            case decide.Stop(slot=slot):
                del slots[slot]
    return list(slots.values())


@given(desired_sets(), processes())
@settings(max_examples=examples(400))
def test_one_round_of_reconcile_leaves_nothing_to_do_and_runs_only_granted_epochs(
    entries: list[DesiredEntry], existing: list[Process]
) -> None:
    actions = reconcile(entries, existing, LATER_S)
    slots = [getattr(action, "slot", getattr(action, "replaces", None)) for action in actions]
    used = [slot for slot in slots if slot is not None]
    assert len(used) == len(set(used)), "two actions on one slot"
    begun = begin(existing, actions)
    assert [a for a in reconcile(entries, begun, LATER_S) if not isinstance(a, decide.Wait)] == []
    granted = {(e.portfolio, e.epoch) for e in entries} | {(e.portfolio, 0) for e in entries}
    assert {(p.portfolio, p.epoch) for p in begun} <= granted
    for entry in entries:
        mine = [p for p in begun if p.portfolio == entry.portfolio]
        if entry.role in ("run", "drain"):
            assert any(p.epoch == entry.epoch for p in mine)
        if entry.role == "prepare":
            assert any(p.epoch == 0 and p.handoff == entry.handoff for p in mine)
