"""Pure checkers of the invariants. Each takes samples in order of time and returns failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

#: (invariant, sentence) of each violation found.
Failures = list[tuple[str, str]]

MAX_GAP_S = 2.0  #: I7: longest permitted pause of a bystander


@dataclass(frozen=True)
class RunSample:
    """The run of one portfolio in one sample."""

    name: str
    node: str | None
    incarnation: str | None
    epoch: int
    last_seq: int
    phase: str
    in_handoff: bool = False

    @property
    def owner(self) -> tuple[str | None, str | None]:
        """Node and incarnation that may commit; (None, None) without an owner."""
        return self.node, self.incarnation


@dataclass(frozen=True)
class Sample:
    """Every portfolio at one moment, by the checker's own clock: the database's may jump."""

    at_s: float
    runs: Mapping[int, RunSample]  #: by the portfolio's id
    is_quiet: bool = False  #: a feed is paused: no portfolio has to commit


@dataclass
class OwnershipChecker:
    """I1 and I2: epochs and seqs never decrease, and an epoch has one owner."""

    _epochs: dict[int, int] = field(default_factory=dict)  #: newest, by the portfolio's id
    _seqs: dict[int, int] = field(default_factory=dict)  #: newest, by the portfolio's id
    #: (portfolio's id, epoch) → the first owner that was seen under it.
    _owners: dict[tuple[int, int], tuple[str | None, str | None]] = field(default_factory=dict)

    def check(self, sample: Sample) -> Failures:
        """Return the violations that this sample shows, compared with all earlier ones."""
        found: Failures = []
        for pk, run in sample.runs.items():
            epoch, seq = self._epochs.get(pk, run.epoch), self._seqs.get(pk, run.last_seq)
            if run.epoch < epoch:
                found.append(("I1", f"the epoch of {run.name} fell from {epoch} to {run.epoch}"))
            if run.last_seq < seq:
                found.append(("I2", f"{run.name} went back from seq {seq} to {run.last_seq}"))
            node, incarnation = self._owners.setdefault((pk, run.epoch), run.owner)
            if (node, incarnation) != run.owner:
                what = f"epoch {run.epoch} of {run.name} had two owners: {node} ({incarnation})"
                found.append(("I1", f"{what} and {run.node} ({run.incarnation})"))
            self._epochs[pk], self._seqs[pk] = run.epoch, run.last_seq
        return found


@dataclass(frozen=True)
class Gap:
    """A time in which a portfolio committed nothing, as far as samples show it."""

    portfolio: str
    node: str | None
    from_s: float
    to_s: float

    @property
    def seconds(self) -> float:
        """Length of the gap."""
        return self.to_s - self.from_s


class BystanderChecker:
    """I7: a running portfolio, in no handoff and not affected by a fault, commits within 2 s.

    A gap counts from the first sample that shows a commit to the last sample that still shows the
    same one, so it is certain; the true gap is longer by two sampling intervals at most. A sample
    in which the portfolio is not a bystander resets the gap.
    """

    def __init__(self, excused: Callable[[RunSample], bool]) -> None:
        """`excused` returns whether a fault affects the portfolio now."""
        self._excused = excused
        #: The portfolio's id → (epoch, seq, time of the first sample that shows both).
        self._since: dict[int, tuple[int, int, float]] = {}
        self._reported: set[tuple[int, int]] = set()  #: (the portfolio's id, seq before the gap)
        self.longest: dict[str, Gap] = {}  #: by the portfolio's name, over the whole run

    def check(self, sample: Sample) -> tuple[Failures, list[Gap]]:
        """Return violations that no earlier sample showed, and each bystander's gap so far."""
        found: Failures = []
        gaps: list[Gap] = []
        for pk in self._since.keys() - sample.runs.keys():  # deleted portfolios
            del self._since[pk]
        for pk, run in sample.runs.items():
            must_commit = run.phase == "running" and not run.in_handoff and not sample.is_quiet
            if not must_commit or self._excused(run):
                self._since.pop(pk, None)
                continue
            epoch, seq, since_s = self._since.get(pk, (run.epoch, run.last_seq, sample.at_s))
            if (epoch, seq) != (run.epoch, run.last_seq):
                since_s = sample.at_s
            self._since[pk] = (run.epoch, run.last_seq, since_s)
            gap = Gap(run.name, run.node, since_s, sample.at_s)
            gaps.append(gap)
            longest = self.longest.get(run.name)
            if longest is None or gap.seconds > longest.seconds:
                self.longest[run.name] = gap
            if gap.seconds > MAX_GAP_S and (pk, run.last_seq) not in self._reported:
                self._reported.add((pk, run.last_seq))
                what = f"bystander {run.name} on {run.node} committed nothing for more than"
                found.append(("I7", f"{what} {MAX_GAP_S:g} s after seq {run.last_seq}"))
        return found, gaps


@dataclass
class PauseMeter:
    """Measures the time between commits of every portfolio that runs, affected by a fault or not.

    A pause counts from the first sample that shows a commit to the first that shows a further one:
    it differs from the true one by the time between two samples at most, which failed samples make
    longer.
    """

    #: The portfolio's id → (seq, time of the first sample that shows it).
    _since: dict[int, tuple[int, float]] = field(default_factory=dict)

    def take(self, sample: Sample) -> list[Gap]:
        """Return a pause for each portfolio that committed between the previous sample and this."""
        found = []
        for pk, run in sample.runs.items():
            if run.phase != "running" or sample.is_quiet:
                self._since.pop(pk, None)
                continue
            seq, since_s = self._since.get(pk, (run.last_seq, sample.at_s))
            if seq != run.last_seq:
                found.append(Gap(run.name, run.node, since_s, sample.at_s))
                since_s = sample.at_s
            self._since[pk] = (run.last_seq, since_s)
        return found


def unexpected_moves(before: Mapping[int, RunSample], after: Mapping[int, RunSample]) -> Failures:
    """I9: return the portfolios of `before` that are gone, or have another owner or epoch."""
    found: Failures = []
    for pk, run in before.items():
        now = after.get(pk)
        if now is None:
            found.append(("I9", f"{run.name} is gone"))
        elif (run.owner, run.epoch) != (now.owner, now.epoch):
            to = f"{now.node} (epoch {now.epoch}, {now.phase})"
            how = "moved" if run.node != now.node or run.epoch != now.epoch else "changed daemon"
            found.append(("I9", f"{run.name} {how} from {run.node} (epoch {run.epoch}) to {to}"))
    return found


@dataclass(frozen=True)
class TenureRow:
    """One stored tenure: the events after `from_seq`, up to and including `to_seq`."""

    portfolio: str
    first_seq: int  #: of the portfolio
    epoch: int
    from_seq: int
    to_seq: int | None  #: None: it has no end yet


def tiling_violations(tenures: Iterable[TenureRow]) -> Failures:
    """Return tenures that do not begin where the one before ended (I2), or whose epoch is not
    higher (I1). `tenures` are in the order of their creation."""
    found: Failures = []
    last: dict[str, TenureRow] = {}
    for tenure in tenures:
        before = last.get(tenure.portfolio)
        last[tenure.portfolio] = tenure
        at = f"epoch {tenure.epoch} of {tenure.portfolio}"
        if before is None:
            if tenure.from_seq != tenure.first_seq - 1:
                found.append(
                    ("I2", f"{at} begins after seq {tenure.from_seq}, not at the first event")
                )
            continue
        if tenure.epoch <= before.epoch:
            found.append(("I1", f"{at} came after epoch {before.epoch}"))
        if before.to_seq is None:
            found.append(("I2", f"{at} began while epoch {before.epoch} had no end"))
        elif tenure.from_seq != before.to_seq:
            what = f"{at} began after seq {tenure.from_seq}, but epoch {before.epoch} ended"
            found.append(("I2", f"{what} with {before.to_seq}"))
    return found


@dataclass(frozen=True)
class Canary:
    """The state of a canary, and the digest that should be in it."""

    name: str
    first_seq: int
    state: Mapping[str, object]
    digest: str  #: computed from the log, over each event from `first_seq` to the state's last seq


def canary_violations(canary: Canary) -> Failures:
    """I2, end to end: return whether a canary missed events, saw one twice or at another price."""
    state, found = canary.state, []
    if state["gaps"] or state["duplicates"]:
        found.append(f"{state['gaps']} gaps and {state['duplicates']} duplicates")
    if state["first_seq"] != canary.first_seq:
        found.append(f"first event {state['first_seq']} instead of {canary.first_seq}")
    if state["digest"] != canary.digest:
        found.append(f"digest {state['digest']} instead of {canary.digest}")
    return [("I2", f"{canary.name} at seq {state['last_seq']}: {each}") for each in found]


@dataclass(frozen=True)
class OpenAlert:
    """An open alert, and whether its cause persists."""

    kind: str
    key: str
    has_cause: bool
    is_closing: bool  #: its cause has gone; it closes unless the cause returns


def alert_violations(alerts: Iterable[OpenAlert]) -> Failures:
    """I12: return causes with two open alerts, and open alerts whose cause has gone."""
    found: Failures = []
    seen: set[tuple[str, str]] = set()
    for alert in alerts:
        what = f"{alert.kind} of {alert.key}"
        if (alert.kind, alert.key) in seen:
            found.append(("I12", f"two alerts are open for {what}"))
        seen.add((alert.kind, alert.key))
        if not alert.has_cause and not alert.is_closing:
            found.append(("I12", f"the alert {what} is open, though its cause is gone"))
    return found
