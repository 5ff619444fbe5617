"""A node that does what reconcile says gets to what it should have, whatever it had before."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.decide import reconcile as decide
from scheduling.decide.reconcile import Process, reconcile
from scheduling.wire.messages import DesiredEntry

PHASES = ["preparing", "prepared", "starting", "running", "draining", "warm", "waiting", "ended"]
LATER_S = 100.0  #: beyond every back-off


@st.composite
def processes(draw: st.DrawFn) -> list[Process]:
    """Return what a node may have: one portfolio has each (epoch, revision) once."""
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
    return [_whole(replace(p, slot=slot)) for slot, p in enumerate(found, 1)]


def _whole(process: Process) -> Process:
    """Return it as it can be: what is only prepared has a handoff and no epoch."""
    if process.phase in ("preparing", "prepared"):
        return replace(process, epoch=0, handoff=process.handoff or process.slot)
    return process


@st.composite
def sets(draw: st.DrawFn) -> list[DesiredEntry]:
    """Return a set as the server makes them: an owner's entry, and at most one beside it."""
    entries = []
    for portfolio in draw(st.sets(st.integers(1, 3))):
        role = draw(st.sampled_from(["run", "drain", "warm", "prepare"]))
        epoch, handoff = draw(st.integers(1, 5)), draw(st.integers(1, 3))
        revision = draw(st.integers(1, 2))
        needs = handoff if role != "run" or draw(st.booleans()) else None
        entries.append(_entry(portfolio, role, epoch, revision, needs, draw(st.integers(0, 4))))
        if role in ("run", "drain") and draw(st.booleans()):
            entries.append(_entry(portfolio, "prepare", epoch, 3 - revision, handoff, 0))
    return entries


def _entry(
    portfolio: int, role: str, epoch: int, revision: int, handoff: int | None, attempts: int
) -> DesiredEntry:
    return DesiredEntry(
        portfolio=portfolio,
        name=f"p-{portfolio}",
        role=role,  # type: ignore[arg-type]
        epoch=epoch,
        revision=revision,
        handoff=handoff,
        attempts=attempts,
    )


def begin(have: list[Process], actions: list[decide.Action]) -> list[Process]:
    """Return what the daemon has once it has begun every action, as `HostedPortfolio` does it."""
    slots = {p.slot: p for p in have}
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


@given(sets(), processes())
@settings(max_examples=200)
def test_what_was_begun_is_not_begun_again(wanted: list[DesiredEntry], have: list[Process]) -> None:
    begun = begin(have, reconcile(wanted, have, LATER_S))
    again = [a for a in reconcile(wanted, begun, LATER_S) if not isinstance(a, decide.Wait)]
    assert again == []


@given(sets(), processes())
@settings(max_examples=200)
def test_everything_wanted_is_there_or_waits_for_a_report(
    wanted: list[DesiredEntry], have: list[Process]
) -> None:
    begun = begin(have, reconcile(wanted, have, LATER_S))
    for entry in wanted:
        mine = [p for p in begun if p.portfolio == entry.portfolio]
        if entry.role in ("run", "drain"):
            assert any(p.epoch == entry.epoch for p in mine)
        if entry.role == "prepare":
            assert any(p.epoch == 0 and p.handoff == entry.handoff for p in mine)


@given(sets(), processes())
@settings(max_examples=200)
def test_an_epoch_is_never_run_that_was_not_granted(
    wanted: list[DesiredEntry], have: list[Process]
) -> None:
    granted = {(e.portfolio, e.epoch) for e in wanted} | {(e.portfolio, 0) for e in wanted}
    begun = begin(have, reconcile(wanted, have, LATER_S))
    assert {(p.portfolio, p.epoch) for p in begun} <= granted


@given(sets(), processes())
@settings(max_examples=200)
def test_no_slot_is_asked_for_two_things(wanted: list[DesiredEntry], have: list[Process]) -> None:
    slots = [
        slot
        for action in reconcile(wanted, have, LATER_S)
        if (slot := getattr(action, "slot", getattr(action, "replaces", None))) is not None
    ]
    assert len(slots) == len(set(slots))


@given(sets(), processes())
@settings(max_examples=200)
def test_the_same_question_has_the_same_answer(
    wanted: list[DesiredEntry], have: list[Process]
) -> None:
    assert reconcile(wanted, have, LATER_S) == reconcile(wanted, have, LATER_S)
