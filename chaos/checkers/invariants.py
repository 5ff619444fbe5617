"""Who owns what, who moved backwards, and who had to wait: judged from one look after another.

Each judge is pure: it is shown looks in the order of time and answers with (invariant, sentence).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

Found = list[tuple[str, str]]

MAX_GAP_S = 2.0  #: I7: a bystander may not pause for longer


@dataclass(frozen=True)
class RunSample:
    """One portfolio in one look."""

    name: str
    node: str | None
    incarnation: str | None
    epoch: int
    last_seq: int
    phase: str
    in_handoff: bool = False

    @property
    def owner(self) -> tuple[str | None, str | None]:
        """Who may commit."""
        return self.node, self.incarnation


@dataclass(frozen=True)
class Sample:
    """Every portfolio at one moment; the moment is the judge's own, since clocks may jump."""

    at_s: float
    runs: Mapping[int, RunSample]
    is_quiet: bool = False  #: the feed releases nothing


@dataclass
class Ownership:
    """I1 and I2: epochs and seqs never fall, and an epoch has one owner."""

    _epochs: dict[int, int] = field(default_factory=dict)
    _seqs: dict[int, int] = field(default_factory=dict)
    _owners: dict[tuple[int, int], tuple[str | None, str | None]] = field(default_factory=dict)

    def judge(self, look: Sample) -> Found:
        """Return what this look has against the ones before it."""
        found: Found = []
        for number, run in look.runs.items():
            epoch, seq = self._epochs.get(number, run.epoch), self._seqs.get(number, run.last_seq)
            if run.epoch < epoch:
                found.append(("I1", f"the epoch of {run.name} fell from {epoch} to {run.epoch}"))
            if run.last_seq < seq:
                found.append(("I2", f"{run.name} went back from seq {seq} to {run.last_seq}"))
            owner = self._owners.setdefault((number, run.epoch), run.owner)
            if owner != run.owner:
                found.append(
                    (
                        "I1",
                        f"epoch {run.epoch} of {run.name} had two owners: {owner[0]}"
                        f" ({owner[1]}) and {run.node} ({run.incarnation})",
                    )
                )
            self._epochs[number], self._seqs[number] = run.epoch, run.last_seq
        return found


@dataclass(frozen=True)
class Gap:
    """How long a bystander has been seen without a commit, at least."""

    portfolio: str
    node: str | None
    from_s: float
    to_s: float

    @property
    def seconds(self) -> float:
        """Its length, as far as it was seen."""
        return self.to_s - self.from_s


class Bystanders:
    """I7: whoever runs, and is in no handoff and touched by no fault, commits within two seconds.

    A gap counts from the first look that shows a commit to the last that still shows the same one,
    so it is certain; the true one is longer by two intervals between looks at most. Looks at which
    a portfolio is no bystander begin it anew.
    """

    def __init__(self, excused: Callable[[RunSample], bool]) -> None:
        """`excused` says whether a fault touches this one now."""
        self._excused = excused
        self._since: dict[int, tuple[int, int, float]] = {}  #: epoch, seq, first seen
        self._told: set[tuple[int, int]] = set()
        self.longest: dict[str, Gap] = {}  #: per portfolio, over the whole run

    def judge(self, look: Sample) -> tuple[Found, list[Gap]]:
        """Return what this look has against the ones before it, and the gaps that are open."""
        found: Found = []
        gaps: list[Gap] = []
        for number in [n for n in self._since if n not in look.runs]:
            del self._since[number]
        for number, run in look.runs.items():
            waits = run.phase == "running" and not run.in_handoff and not look.is_quiet
            if not waits or self._excused(run):
                self._since.pop(number, None)
                continue
            epoch, seq, since_s = self._since.get(number, (run.epoch, run.last_seq, look.at_s))
            if (epoch, seq) != (run.epoch, run.last_seq):
                since_s = look.at_s
            self._since[number] = (run.epoch, run.last_seq, since_s)
            gap = Gap(run.name, run.node, since_s, look.at_s)
            gaps.append(gap)
            longest = self.longest.get(run.name)
            if longest is None or gap.seconds > longest.seconds:
                self.longest[run.name] = gap
            if gap.seconds > MAX_GAP_S and (number, run.last_seq) not in self._told:
                self._told.add((number, run.last_seq))
                found.append(
                    (
                        "I7",
                        f"bystander {run.name} on {run.node} committed nothing for more than"
                        f" {MAX_GAP_S:g} s after seq {run.last_seq}",
                    )
                )
        return found, gaps


def moved(before: Mapping[int, RunSample], after: Mapping[int, RunSample]) -> Found:
    """I9: return who changed hands, or stopped, over a fault that moves nothing."""
    return [
        (
            "I9",
            f"{run.name} moved from {run.node} (epoch {run.epoch}) to {now.node}"
            f" (epoch {now.epoch}, {now.phase})"
            if now
            else f"{run.name} is gone",
        )
        for number, run in before.items()
        for now in [after.get(number)]
        if now is None or (run.owner, run.epoch) != (now.owner, now.epoch)
    ]


@dataclass(frozen=True)
class TenureRow:
    """One tenure, as the history has it."""

    portfolio: str
    first_seq: int
    epoch: int
    from_seq: int
    to_seq: int | None


def tiling_violations(tenures: Iterable[TenureRow]) -> Found:
    """I2: return where a history does not tile. `tenures` come in the order they were written."""
    found: Found = []
    last: dict[str, TenureRow] = {}
    for tenure in tenures:
        before = last.get(tenure.portfolio)
        last[tenure.portfolio] = tenure
        at = f"epoch {tenure.epoch} of {tenure.portfolio}"
        if before is None:
            if tenure.from_seq != tenure.first_seq - 1:
                found.append(("I2", f"{at} began after seq {tenure.from_seq}, not at the first"))
            continue
        if tenure.epoch <= before.epoch:
            found.append(("I1", f"{at} came after epoch {before.epoch}"))
        if before.to_seq is None:
            found.append(("I2", f"{at} began while epoch {before.epoch} had no end"))
        elif tenure.from_seq != before.to_seq:
            found.append(
                (
                    "I2",
                    f"{at} began after seq {tenure.from_seq}, but epoch {before.epoch} ended"
                    f" with {before.to_seq}",
                )
            )
    return found


@dataclass(frozen=True)
class Canary:
    """What a canary says that it saw, and what there was to see."""

    name: str
    first_seq: int
    state: Mapping[str, object]
    digest: str  #: of every event from the first to its last, once, in order


def canary(seen: Canary) -> Found:
    """I2 from outside: return what a canary saw twice, not at all, or with another price."""
    state, found = seen.state, []
    if state["gaps"] or state["duplicates"]:
        found.append(f"{state['gaps']} gaps and {state['duplicates']} duplicates")
    if state["first_seq"] != seen.first_seq:
        found.append(f"first event {state['first_seq']} instead of {seen.first_seq}")
    if state["digest"] != seen.digest:
        found.append(f"digest {state['digest']} instead of {seen.digest}")
    return [("I2", f"{seen.name} at seq {state['last_seq']}: {each}") for each in found]


@dataclass(frozen=True)
class Alarm:
    """One alert that is open, and whether its cause is still there."""

    kind: str
    key: str
    has_cause: bool
    is_closing: bool  #: its cause is known to be gone; it waits whether it comes back


def alarms(open_: Iterable[Alarm]) -> Found:
    """I12: return causes with two open alerts, and alerts that outlive their cause."""
    found: Found = []
    seen: set[tuple[str, str]] = set()
    for alarm in open_:
        what = f"{alarm.kind} of {alarm.key}"
        if (alarm.kind, alarm.key) in seen:
            found.append(("I12", f"two alerts are open for {what}"))
        seen.add((alarm.kind, alarm.key))
        if not alarm.has_cause and not alarm.is_closing:
            found.append(("I12", f"the alert {what} is open, though its cause is gone"))
    return found
