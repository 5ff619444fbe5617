"""Compare a node's desired set with its processes and return the actions it must take. Pure.

Processes are identified by slot, not by portfolio: during a reload a node has two processes of one
portfolio. Per entry of the desired set:

    run(e)        process at epoch e: keep (waiting: start after its back-off; draining: resume)
                  else process prepared for the entry's handoff: activate
                  else live process of the same revision and a lower epoch: adopt, if the
                  checkpoint allows it to continue
                  else: start
    prepare(h)    no process prepared for handoff h yet: prepare
    drain(e, h)   process at epoch e: drain; none: release without a process
    warm(e)       keep the process, but stop feeding it
    no entry      stop
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

BACK_OFF_S = (0.0, 1.0, 5.0, 30.0, 30.0)  #: by the number of failures since the last progress
#: Delay before a process ended by the fence is started again, if the desired set still names it.
RETRY_AFTER_S = 2.0

LIVE_PHASES = frozenset({"starting", "running", "draining", "warm"})


class EntryLike(Protocol):
    """Protocol of an entry of the desired set; `wire.messages.DesiredEntry` implements it."""

    @property
    def portfolio(self) -> int: ...
    @property
    def role(self) -> str: ...  # run, prepare, drain or warm, as above
    @property
    def epoch(self) -> int: ...
    @property
    def revision(self) -> int: ...
    @property
    def handoff(self) -> int | None: ...  # its id; None: role run, and no handoff to activate
    @property
    def attempts(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Process:
    """One portfolio process of the daemon, or the record of one that ended.

    preparing ─▶ prepared ─activate─▶ starting ─first commit─▶ running ─▶ draining ─▶ warm
         └─▶ ended                        └──────exit──────▶ waiting ◀──exit──┘
    any ─fenced─▶ ended
    """

    slot: int
    portfolio: int
    epoch: int  #: 0 until activated
    revision: int
    phase: str
    handoff: int | None = None  #: the handoff it was prepared or drained for
    #: The handoff whose release the server answered with `keep`: no second drain for it.
    kept_for: int | None = None
    ended_at: float = 0.0  #: in phases waiting and ended, on the clock of `now`
    reported: bool = True  #: in phase waiting: the server knows of the exit
    failures: int = 0  #: consecutive exits seen by this daemon


@dataclass(frozen=True, slots=True)
class Start:
    """Start a process from the checkpoint. `replaces` is the slot of its ended predecessor."""

    entry: EntryLike
    replaces: int | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing before `until`, the end of the back-off of `slot`."""

    slot: int
    until: float


@dataclass(frozen=True, slots=True)
class Prepare:
    """Start a process for the entry's handoff and load the newest checkpoint."""

    entry: EntryLike


@dataclass(frozen=True, slots=True)
class Activate:
    """Run the prepared process under the epoch of its entry in the desired set."""

    entry: EntryLike
    slot: int


@dataclass(frozen=True, slots=True)
class Adopt:
    """Continue a process of an older epoch under the epoch of its entry in the desired set."""

    entry: EntryLike
    slot: int


@dataclass(frozen=True, slots=True)
class Resume:
    """Continue a draining process under its epoch, since its handoff has ended."""

    slot: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Stop a process at the next batch boundary; its last commit is the release."""

    entry: EntryLike
    slot: int


@dataclass(frozen=True, slots=True)
class ReleaseAbsent:
    """Release an epoch that has no process on this node any more."""

    entry: EntryLike
    replaces: int | None = None  #: slot of its ended process; None: the daemon has none


@dataclass(frozen=True, slots=True)
class Freeze:
    """Stop feeding a process; keep it in memory."""

    slot: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End a process that the desired set does not name."""

    slot: int


Action = Start | Wait | Prepare | Activate | Adopt | Resume | Drain | ReleaseAbsent | Freeze | Stop


def reconcile(desired: Iterable[EntryLike], actual: Iterable[Process], now: float) -> list[Action]:
    """Return the actions that the node must take, in the order of `desired`, then the stops. Pure.

    The caller begins every action before the next call, which then sees its result.
    """
    processes = list(actual)
    actions: list[Action] = []
    claimed: set[int] = set()
    for entry in desired:
        own = [p for p in processes if p.portfolio == entry.portfolio and p.slot not in claimed]
        action, slot = _DECIDE_BY_ROLE[entry.role](entry, own, now)
        if action is not None:
            actions.append(action)
        if slot is not None:
            claimed.add(slot)
    actions.extend(Stop(p.slot) for p in processes if p.slot not in claimed)
    return actions


_Decision = tuple[Action | None, int | None]  #: the action, and the slot that the entry claims


def _decide_run(entry: EntryLike, own: Sequence[Process], now: float) -> _Decision:
    """Decide how the node runs the portfolio under the entry's epoch."""
    current = _process_at_epoch(entry, own)
    if current is not None:
        return _keep_or_restart(entry, current, now)
    for process in own:
        eligible = process.phase != "ended" and process.revision == entry.revision
        if eligible and entry.handoff is not None and _is_prepared_for(entry.handoff, process):
            return Activate(entry, process.slot), process.slot
    live = [p for p in own if p.phase in LIVE_PHASES and p.revision == entry.revision]
    older = [p for p in live if p.epoch < entry.epoch]
    if older:
        newest = max(older, key=lambda each: each.epoch)
        return Adopt(entry, newest.slot), newest.slot
    ended = [p for p in own if p.phase == "waiting" and p.epoch < entry.epoch]
    if ended:
        return _restart(entry, max(ended, key=lambda each: each.epoch), now)
    return Start(entry), None


def _keep_or_restart(entry: EntryLike, current: Process, now: float) -> _Decision:
    """Decide about `current`, which has the entry's epoch and revision."""
    if current.phase == "draining":
        return Resume(current.slot), current.slot
    if current.phase == "warm":  # released and granted again: its checkpoint decides
        return Adopt(entry, current.slot), current.slot
    if current.phase == "waiting" and current.reported:  # the server has decided about the exit
        return _restart(entry, current, now)
    if current.phase == "ended":
        if now < current.ended_at + RETRY_AFTER_S:
            return Wait(current.slot, current.ended_at + RETRY_AFTER_S), current.slot
        return Start(entry, current.slot), current.slot
    return None, current.slot


def _restart(entry: EntryLike, ended: Process, now: float) -> _Decision:
    """Start a process in place of the ended one, or wait for the end of its back-off."""
    until = ended.ended_at + back_off_s(max(entry.attempts, ended.failures))
    if now < until:
        return Wait(ended.slot, until), ended.slot
    return Start(entry, ended.slot), ended.slot


def back_off_s(attempts: int) -> float:
    """Return the seconds to wait before the next start after `attempts` failures."""
    return BACK_OFF_S[min(attempts, len(BACK_OFF_S) - 1)]


def _decide_prepare(entry: EntryLike, own: Sequence[Process], now: float) -> _Decision:
    """Prepare a process for the entry's handoff, unless one was started for it."""
    for process in own:
        if entry.handoff is not None and _is_prepared_for(entry.handoff, process):
            return None, process.slot  # a failed prepare was reported and is not repeated
    return Prepare(entry), None


def _decide_drain(entry: EntryLike, own: Sequence[Process], now: float) -> _Decision:
    """Drain the process at the entry's epoch, or release the epoch if it has no process."""
    current = _process_at_epoch(entry, own)
    if current is None:
        return ReleaseAbsent(entry), None
    if current.phase in ("waiting", "ended"):
        return ReleaseAbsent(entry, current.slot), current.slot
    done = current.phase == "warm" or current.kept_for == entry.handoff
    if done or (current.phase == "draining" and current.handoff == entry.handoff):
        return None, current.slot  # it has drained for this handoff, or is about to
    return Drain(entry, current.slot), current.slot


def _decide_warm(entry: EntryLike, own: Sequence[Process], now: float) -> _Decision:
    """Keep the released process in memory, but stop feeding it."""
    current = _process_at_epoch(entry, own)
    if current is None:
        return None, None
    if current.phase in ("starting", "running"):  # released by the server, not by the process
        return Freeze(current.slot), current.slot
    return None, current.slot


_DECIDE_BY_ROLE = {
    "run": _decide_run,
    "prepare": _decide_prepare,
    "drain": _decide_drain,
    "warm": _decide_warm,
}


def _process_at_epoch(entry: EntryLike, own: Sequence[Process]) -> Process | None:
    """Return the process that has the entry's epoch and revision, or None."""
    for process in own:
        if process.epoch == entry.epoch and process.revision == entry.revision:
            return process
    return None


def _is_prepared_for(handoff: int, process: Process) -> bool:
    """Return whether the process was started for this handoff and is not activated yet.

    Epoch 0: a process that is prepared owns nothing yet.
    """
    return process.epoch == 0 and process.handoff == handoff
