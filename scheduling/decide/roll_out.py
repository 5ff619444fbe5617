"""Decide the next steps of a roll-out, from the state of all its items. Pure.

A roll-out gives many portfolios a new revision: the canary alone first, then `at_a_time` at once,
and none after the first rejection. The way back gives each portfolio its earlier revision again,
unless an operator has changed it since.

The pass calls `next_steps` whenever something changed and enacts what it returns. Every state has
a deadline, so that a roll-out ends whatever its portfolios do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from scheduling.decide.types import NEEDS_OPERATOR_PHASES, Reason

RollOutState = Literal["running", "stopping", "stopped", "finished", "going_back", "back"]
ItemState = Literal[
    "waiting", "changing", "proving", "done", "rejected", "late", "left", "skipped",
    "returning", "returned", "not_returned",
]  # fmt: skip

#: States that a pass ends; the others wait for an operator, or are over.
OPEN_ROLL_OUTS: tuple[RollOutState, ...] = ("running", "stopping", "going_back")
OPEN_ITEMS: tuple[ItemState, ...] = ("waiting", "changing", "proving", "returning")
#: An item in one of these stops its roll-out.
FAILED_ITEMS: tuple[ItemState, ...] = ("rejected", "late")
#: From these the way back may begin. A roll-out that went back is over.
RETURNABLE: tuple[RollOutState, ...] = ("running", "stopping", "stopped", "finished")
#: Items that a roll-out never changed, or that the way back has finished with.
NOT_RETURNABLE: tuple[ItemState, ...] = ("waiting", "skipped", "returned", "not_returned")

#: At least so many portfolios return at once: their earlier revision is proven, so haste is safe.
RETURN_AT_A_TIME = 10


@dataclass(frozen=True, slots=True)
class Limits:
    """Deadlines of the states of an item, in seconds."""

    change_s: float  #: from the new revision to its first commit
    build_s: float  #: added where the node may have to build the artifact's environment
    good_s: float  #: how long a revision has to run after its first commit to be good
    prove_s: float  #: after that, the time within which an event has to prove it
    ready_s: float  #: to wait for its owner, its good revision, or the end of another handoff


@dataclass(frozen=True, slots=True)
class Item:
    """One portfolio of a roll-out, and what is true of the portfolio now."""

    id: int
    name: str
    state: ItemState = "waiting"  #: drawn at the model `RollOutItem`
    is_canary: bool = False
    since: float = 0.0  #: epoch seconds of the last change of `state`
    seen_revision: int = 1  #: the wanted revision when the roll-out was created
    from_revision: int | None = None  #: to which the way back returns; None: not started
    to_revision: int | None = None  #: made by the roll-out; None: not started
    wanted: int = 1  #: the portfolio's wanted revision
    running: int | None = None  #: under which its present owner has committed; None: no commit yet
    has_owner: bool = True
    has_good: bool = True  #: a proven revision, to which a bad one falls back
    has_progress: bool = False  #: an event was committed under the present owner
    status: str = "unproven"  #: of `to_revision`
    status_reason: str = ""
    is_deleted: bool = False
    is_wanted: bool = True  #: the portfolio should run
    phase: str = "running"
    in_handoff: bool = False
    cannot_run_reason: Reason | None = None  #: why its node cannot run the new revision

    @property
    def is_stopped(self) -> bool:
        """Return whether an operator has to start the portfolio before it runs again."""
        return not self.is_wanted or self.phase in NEEDS_OPERATOR_PHASES

    @property
    def phase_to_show(self) -> str:
        """Return the phase if it is `halted` or `quarantined`, else `stopped`."""
        return self.phase if self.phase in NEEDS_OPERATOR_PHASES else "stopped"


@dataclass(frozen=True, slots=True)
class RollOut:
    """A roll-out with its items, in the order in which they are started."""

    id: int
    state: RollOutState
    now: float  #: epoch seconds
    items: tuple[Item, ...]
    at_a_time: int = 1  #: portfolios that change at the same time, after the canary
    #: Seconds after which the canary counts as proven; None: once its revision is good.
    canary_s: float | None = None
    has_environment: bool = False  #: the artifact has dependencies

    def change_limit_s(self, limits: Limits) -> float:
        """Return the seconds within which a portfolio has to run its new revision."""
        return limits.change_s + (limits.build_s if self.has_environment else 0)


@dataclass(frozen=True, slots=True)
class Change:
    """A new state of an item. `reason` is None where the state says everything."""

    item: Item
    state: ItemState
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Steps:
    """What to do now: `start` items get the new revision, `give_back` items the earlier one."""

    changes: tuple[Change, ...] = ()
    start: tuple[Item, ...] = ()
    give_back: tuple[Item, ...] = ()
    state: RollOutState | None = None  #: the new state of the roll-out; None: unchanged
    reason: Reason | None = None  #: why it stops

    def __bool__(self) -> bool:
        return bool(self.changes or self.start or self.give_back or self.state)


def next_steps(roll_out: RollOut, limits: Limits) -> Steps:
    """Return the next steps of `roll_out`: empty, and so false, if it can only wait."""
    if roll_out.state == "going_back":
        return _go_back(roll_out, limits)
    found = (_change_of(item, roll_out, limits) for item in roll_out.items)
    changes = {change.item.id: change for change in found if change is not None}
    if roll_out.state == "stopping":
        return _end_if_over(roll_out, changes, "stopped")
    if roll_out.state != "running":
        return Steps()
    failed = next((i for i in roll_out.items if _state_after(i, changes) in FAILED_ITEMS), None)
    if failed is not None:
        return _stop(roll_out, changes, failed)
    canary = next((i for i in roll_out.items if i.is_canary), None)
    others = [i for i in roll_out.items if not i.is_canary]
    others_began = any(item.to_revision is not None for item in others)
    if canary is not None and not others_began:
        if _state_after(canary, changes) == "waiting":
            return _start_next(roll_out, changes, [canary], free=1, limits=limits)
        if _state_after(canary, changes) in ("skipped", "left"):
            return _stop(roll_out, changes, canary)
        if not _has_passed(canary, changes, roll_out):
            return Steps(tuple(changes.values()))
    waiting = [item for item in others if item.state == "waiting"]
    if not waiting:
        return _end_if_over(roll_out, changes, "finished")
    changing = sum(_state_after(item, changes) == "changing" for item in others)
    free = roll_out.at_a_time - changing
    return _start_next(roll_out, changes, waiting, free, limits)


def _start_next(
    roll_out: RollOut,
    changes: dict[int, Change],
    waiting: Iterable[Item],
    free: int,
    limits: Limits,
) -> Steps:
    """Return the steps that start up to `free` ready items, and skip those that never get ready."""
    # A change of any item gives those that are not ready more time, since it may make them ready.
    last_change = max(item.since for item in roll_out.items)
    is_quiet = not changes and roll_out.now > last_change + limits.ready_s
    start: list[Item] = []
    for item in waiting:
        if len(start) >= free:
            break
        reason = _skip_reason(item)
        if reason is None and (code := _not_ready_code(item)):
            if not is_quiet:
                continue  # another may go first
            reason = Reason(code, {"limit_s": limits.ready_s})
        if reason is None:
            start.append(item)
        else:
            changes[item.id] = Change(item, "skipped", reason)
    return Steps(tuple(changes.values()), tuple(start))


def _skip_reason(item: Item) -> Reason | None:
    """Return why an item is skipped at its turn, or None if it may be started."""
    if item.is_deleted:
        return Reason("roll_out_deleted")
    if item.wanted != item.seen_revision:
        return Reason("roll_out_changed", {"revision": f"r{item.wanted}"})
    if item.is_stopped:
        return Reason("roll_out_not_running", {"state": item.phase_to_show})
    return item.cannot_run_reason


def _not_ready_code(item: Item) -> str:
    """Return the code of why an item is not started now, or an empty text if it can be."""
    if not item.has_owner:
        return "roll_out_no_owner"
    if item.in_handoff:
        return "roll_out_in_handoff"
    # A bad revision would have nothing to fall back to: the portfolio would be quarantined.
    return "" if item.has_good else "roll_out_no_good"


def _change_of(item: Item, roll_out: RollOut, limits: Limits) -> Change | None:
    """Return the change of an item that leaves `changing` or `proving` now, else None."""
    if item.state not in ("changing", "proving"):
        return None
    revision = f"r{item.to_revision}"
    if item.is_deleted:
        return Change(item, "left", Reason("roll_out_deleted"))
    if item.wanted != item.to_revision:
        return Change(item, "left", Reason("roll_out_changed", {"revision": f"r{item.wanted}"}))
    if item.status == "rejected":
        params = {"revision": revision, "error": item.status_reason}
        return Change(item, "rejected", Reason("roll_out_rejected", params))
    if item.status == "good":
        return Change(item, "done")
    if item.is_stopped:
        params = {"state": item.phase_to_show, "revision": revision}
        return Change(item, "left", Reason("roll_out_interrupted", params))
    waited_s = roll_out.now - item.since
    if item.state == "changing":
        if item.running == item.to_revision:
            return Change(item, "proving")
        limit_s = roll_out.change_limit_s(limits)
        if waited_s > limit_s:
            late = {"revision": revision, "limit_s": limit_s}
            return Change(item, "late", Reason("roll_out_late", late))
        return None
    limit_s = limits.good_s + limits.prove_s
    # `canary_s` may be longer: a canary is not late before it could have passed.
    if waited_s <= max(limit_s, roll_out.canary_s or 0):
        return None
    reason = Reason("roll_out_unproven", {"revision": revision, "limit_s": limit_s})
    if item.is_canary and not _has_passed(item, changes={}, roll_out=roll_out):
        return Change(item, "late", reason)
    # No failure: it was not rejected, and perhaps no event came that could prove it.
    return Change(item, "done", reason)


def _has_passed(canary: Item, changes: Mapping[int, Change], roll_out: RollOut) -> bool:
    """Return whether the canary counts as proven after `changes`: others may then be started."""
    state = _state_after(canary, changes)
    if state == "done":
        return True
    # A canary that turns `proving` now has not been so for any time: its `since` is of `changing`.
    if canary.state != "proving" or state != "proving" or roll_out.canary_s is None:
        return False
    runs = canary.running == canary.to_revision
    # With 0 seconds it only has to run: on a silent feed no event would ever prove its revision.
    has_run = canary.has_progress or roll_out.canary_s == 0
    return runs and has_run and roll_out.now >= canary.since + roll_out.canary_s


def _stop(roll_out: RollOut, changes: dict[int, Change], cause: Item) -> Steps:
    """Return the steps that stop the roll-out because of `cause` and skip its waiting items."""
    # Not among the changes: it failed in an earlier pass.
    why = changes[cause.id].reason if cause.id in changes else None
    _skip_waiting(roll_out, changes)
    params = {"portfolio": cause.name, "code": "", "params": {}}
    if why is not None:
        params |= {"code": why.code, "params": dict(why.params)}
    reason = Reason("roll_out_stopped", params)
    return Steps(tuple(changes.values()), state="stopping", reason=reason)


def _skip_waiting(roll_out: RollOut, changes: dict[int, Change]) -> None:
    """Add a change to `skipped` for each waiting item without a change."""
    for item in roll_out.items:
        if item.state == "waiting" and item.id not in changes:
            changes[item.id] = Change(item, "skipped", Reason("roll_out_not_begun"))


def _end_if_over(roll_out: RollOut, changes: dict[int, Change], state: RollOutState) -> Steps:
    """Return the changes of items, and `state` for the roll-out if no item is open after them.

    If an operator stopped it, the items that wait are skipped.
    """
    if roll_out.state == "stopping":
        _skip_waiting(roll_out, changes)
    is_open = any(_state_after(item, changes) in OPEN_ITEMS for item in roll_out.items)
    return Steps(tuple(changes.values()), state=None if is_open else state)


def _go_back(roll_out: RollOut, limits: Limits) -> Steps:
    """Return the steps of the way back, which ends once no portfolio is `returning` any more.

    The request of the way back made every changed item `returning`, so that no other roll-out can
    take its portfolio meanwhile.
    """
    changes: dict[int, Change] = {}
    give_back: list[Item] = []
    returning = [item for item in roll_out.items if item.state == "returning"]
    begun = sum(item.wanted == item.from_revision for item in returning)
    free = max(roll_out.at_a_time, RETURN_AT_A_TIME) - begun
    _skip_waiting(roll_out, changes)
    for item in returning:
        change = _end_of_return(item, roll_out, limits)
        if change is not None:
            changes[item.id] = change
        elif item.wanted == item.to_revision and len(give_back) < free:
            give_back.append(item)
    is_over = all(_state_after(item, changes) not in OPEN_ITEMS for item in roll_out.items)
    return Steps(
        tuple(changes.values()),
        give_back=tuple(give_back),
        state="back" if is_over else None,
    )


def _end_of_return(item: Item, roll_out: RollOut, limits: Limits) -> Change | None:
    """Return how the way back of an item has ended, or None if it has not."""
    if item.is_deleted:
        return Change(item, "not_returned", Reason("roll_out_deleted"))
    if item.wanted not in (item.from_revision, item.to_revision):
        params = {"revision": f"r{item.wanted}"}
        return Change(item, "not_returned", Reason("roll_out_changed", params))
    if item.wanted == item.to_revision:
        return None  # its earlier revision was not requested yet
    if item.running == item.from_revision and not item.in_handoff:
        return Change(item, "returned")
    if item.is_stopped and not item.has_owner:
        params = {"state": item.phase_to_show, "revision": f"r{item.from_revision}"}
        return Change(item, "returned", Reason("roll_out_returned_stopped", params))
    limit_s = limits.change_s + limits.build_s  # the earlier artifact may have an environment too
    if roll_out.now > item.since + limit_s:
        late = {"revision": f"r{item.from_revision}", "limit_s": limit_s}
        return Change(item, "not_returned", Reason("roll_out_late", late))
    return None


def _state_after(item: Item, changes: Mapping[int, Change]) -> ItemState:
    return changes[item.id].state if item.id in changes else item.state
