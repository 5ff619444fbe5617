"""From what a node should have and what it has to what it must do next. Pure.

Processes are told apart by slot, not by portfolio: a reload puts two of one portfolio on a node.

    run(e)        process at e: keep (waiting: start again after its back-off; draining: resume)
                  else prepared for the entry's handoff: activate
                  else same revision, lower epoch, alive: adopt, if the checkpoint says it may
                  else: start
    prepare(h)    nothing prepared for h yet: prepare
    drain(e, h)   process at e: drain; none: release without a process
    warm(e)       keep what is there, fed with nothing
    not in the set: stop
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

BACK_OFF_S = (0.0, 1.0, 5.0, 30.0, 30.0)  #: by the number of deaths since the last progress
RETRY_AFTER_S = (
    2.0  #: a grant that was refused is looked at again after this, if the set repeats it
)

LIVE_PHASES = frozenset({"starting", "running", "draining", "warm"})


class DesiredEntry(Protocol):
    """One entry of a desired set; `wire.messages.Desired` is one."""

    @property
    def portfolio(self) -> int: ...
    @property
    def role(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def revision(self) -> int: ...
    @property
    def handoff(self) -> int | None: ...
    @property
    def attempts(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Process:
    """One portfolio process as the daemon has it, or what is left of one that ended.

    preparing ─▶ prepared ─activate─▶ starting ─first commit─▶ running ─▶ draining ─▶ warm
         └─▶ ended                        └──────died──────▶ waiting ◀──died──┘
    any ─fenced─▶ ended
    """

    slot: int
    portfolio: int
    epoch: int  #: 0 while it is only prepared
    revision: int
    phase: str
    handoff: int | None = None  #: prepared for, or drained for
    kept_for: int | None = (
        None  #: a handoff whose release was answered `keep`: not drained for it again
    )
    ended_at: float = 0.0  #: of waiting and ended, on the clock of `now`
    reported: bool = True  #: waiting: the server has heard of the death
    failures: int = 0  #: deaths in a row that this daemon has seen


@dataclass(frozen=True, slots=True)
class Start:
    """Start a process from the checkpoint. `replaces` is what is left of the one before."""

    entry: DesiredEntry
    replaces: int | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again at `until`: the back-off of `slot` is running."""

    slot: int
    until: float


@dataclass(frozen=True, slots=True)
class Prepare:
    """Start a process for the entry's handoff and try the newest checkpoint."""

    entry: DesiredEntry


@dataclass(frozen=True, slots=True)
class Activate:
    """Let the prepared process own the entry's epoch."""

    entry: DesiredEntry
    slot: int


@dataclass(frozen=True, slots=True)
class Adopt:
    """Let the process of an older epoch go on under the entry's."""

    entry: DesiredEntry
    slot: int


@dataclass(frozen=True, slots=True)
class Resume:
    """The handoff it drained for is over: go on with the same epoch."""

    slot: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Stop at the next batch boundary; the last commit is the release."""

    entry: DesiredEntry
    slot: int


@dataclass(frozen=True, slots=True)
class ReleaseAbsent:
    """Release an epoch that has no process here any more."""

    entry: DesiredEntry
    replaces: int | None = None


@dataclass(frozen=True, slots=True)
class Freeze:
    """Feed nothing more; keep the process in memory."""

    slot: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End it: the set does not name it."""

    slot: int


Action = Start | Wait | Prepare | Activate | Adopt | Resume | Drain | ReleaseAbsent | Freeze | Stop


def reconcile(
    desired: Iterable[DesiredEntry], actual: Iterable[Process], now: float
) -> list[Action]:
    """Return what to do, most urgent first, or an empty list if all is as it should be. Pure.

    The caller applies every action at once, so that the next call sees its beginning.
    """
    processes = list(actual)
    actions: list[Action] = []
    claimed: set[int] = set()
    for entry in desired:
        own = [p for p in processes if p.portfolio == entry.portfolio and p.slot not in claimed]
        action, slot = _ROLES[entry.role](entry, own, now)
        if action is not None:
            actions.append(action)
        if slot is not None:
            claimed.add(slot)
    actions.extend(Stop(p.slot) for p in processes if p.slot not in claimed)
    return actions


_Decision = tuple[Action | None, int | None]  # what to do, and which slot the entry accounts for


def _run(entry: DesiredEntry, own: Sequence[Process], now: float) -> _Decision:
    held = _at_epoch(entry, own)
    if held is not None:
        return _keep(entry, held, now)
    for process in own:
        fits = process.phase != "ended" and process.revision == entry.revision
        if fits and entry.handoff is not None and _prepared_for(entry.handoff, process):
            return Activate(entry, process.slot), process.slot
    older = [p for p in own if p.phase in LIVE_PHASES and p.revision == entry.revision]
    older = [p for p in older if p.epoch < entry.epoch]
    if older:
        newest = max(older, key=lambda p: p.epoch)
        return Adopt(entry, newest.slot), newest.slot
    dead = [p for p in own if p.phase == "waiting" and p.epoch < entry.epoch]
    if dead:
        return _start_again(entry, max(dead, key=lambda p: p.epoch), now)
    return Start(entry), None


def _keep(entry: DesiredEntry, held: Process, now: float) -> _Decision:
    """Decide about the process that has this very epoch."""
    if held.phase == "draining":
        return Resume(held.slot), held.slot
    if held.phase == "warm":  # released, yet named again: the checkpoint knows
        return Adopt(entry, held.slot), held.slot
    if held.phase == "waiting" and held.reported:
        return _start_again(entry, held, now)
    if held.phase == "ended":
        if now < held.ended_at + RETRY_AFTER_S:
            return Wait(held.slot, held.ended_at + RETRY_AFTER_S), held.slot
        return Start(entry, held.slot), held.slot
    return None, held.slot


def _start_again(entry: DesiredEntry, dead: Process, now: float) -> _Decision:
    until = dead.ended_at + back_off_s(max(entry.attempts, dead.failures))
    if now < until:
        return Wait(dead.slot, until), dead.slot
    return Start(entry, dead.slot), dead.slot


def back_off_s(attempts: int) -> float:
    """Return how long to wait before the next start after `attempts` deaths."""
    return BACK_OFF_S[min(attempts, len(BACK_OFF_S) - 1)]


def _prepare(entry: DesiredEntry, own: Sequence[Process], now: float) -> _Decision:
    for process in own:
        if entry.handoff is not None and _prepared_for(entry.handoff, process):
            return None, process.slot  # one that ended has been reported; it is not tried twice
    return Prepare(entry), None


def _drain(entry: DesiredEntry, own: Sequence[Process], now: float) -> _Decision:
    held = _at_epoch(entry, own)
    if held is None:
        return ReleaseAbsent(entry), None
    if held.phase in ("waiting", "ended"):
        return ReleaseAbsent(entry, held.slot), held.slot
    done = held.phase == "warm" or held.kept_for == entry.handoff
    if done or (held.phase == "draining" and held.handoff == entry.handoff):
        return None, held.slot
    return Drain(entry, held.slot), held.slot


def _warm(entry: DesiredEntry, own: Sequence[Process], now: float) -> _Decision:
    held = _at_epoch(entry, own)
    if held is None:
        return None, None
    if held.phase in ("starting", "running"):  # released without its consent
        return Freeze(held.slot), held.slot
    return None, held.slot


_ROLES = {"run": _run, "prepare": _prepare, "drain": _drain, "warm": _warm}


def _at_epoch(entry: DesiredEntry, own: Sequence[Process]) -> Process | None:
    for process in own:
        if process.epoch == entry.epoch and process.revision == entry.revision:
            return process
    return None


def _prepared_for(handoff: int, process: Process) -> bool:
    return process.epoch == 0 and process.handoff == handoff
