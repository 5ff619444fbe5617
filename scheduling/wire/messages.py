"""Schemas of the node protocol, MessagePack on the wire.

A daemon registers once, beats ever after, and commits what its portfolios did. Every answer may
carry the desired set: what the node should have. A push over the websocket carries the same set
and nothing else, so a lost push costs time and no truth.

Times are integers in microseconds since the epoch (`_us`) or seconds (`_s`). Decimals travel as
text. Ids of portfolios and handoffs are the database's.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec

PROTOCOL = 1  #: raised when a message changes so that an older daemon would misread it

# How much goes into one message. The gateway declines more with 413 `payload_too_large`, a daemon
# sends the rest with the next one.
MAX_COMMITS = 200  #: of a CommitRequest
MAX_LINES = 10_000  #: orders, fills and equity points of all its commits
MAX_REPORTS = 500  #: of a Beat
MAX_PORTFOLIOS = 2_000  #: that a Beat shows

Role = Literal["run", "prepare", "drain", "warm"]
Answer = Literal["ok", "fenced", "conflict", "ahead", "rejected", "handed_over", "keep"]
Stage = Literal["load", "event", "exit", "killed"]


# --- what a node should have ---------------------------------------------------------------------


class SegmentInfo(msgspec.Struct, array_like=True, frozen=True):
    """From `from_seq` on, since `from_time_us`, the feed runs at `rate` events a second."""

    from_seq: int
    from_time_us: int
    rate: float


class FeedInfo(msgspec.Struct, frozen=True):
    name: str
    sha256: str
    length: int
    segments: list[SegmentInfo]


class DesiredEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One portfolio of a desired set. A reload puts two of one portfolio into one set.

    run      own it under `epoch`: keep, or activate what was prepared for `handoff`, or start it
    prepare  start a process for `handoff` and try the newest checkpoint; commit nothing
    drain    stop at the next batch boundary and release with the last commit, naming `handoff`
    warm     released; keep the process in memory until it leaves the set or comes back as run
    """

    portfolio: int
    name: str
    role: Role
    epoch: int
    revision: int
    handoff: int | None = None
    attempts: int = 0
    """Deaths since the last progress: the daemon waits 0, 1, 5, 30, 30 s before it starts again."""
    catch_up: str = "state_only"
    """What it does about stale events. May change while it runs."""
    resume_seq: int = 0
    """Up to here a start has lifted `halt`: as `state_only`, and on until nothing is stale."""
    failed_seq: int = 0
    """The event at which it died last, or the last one of the batch it died in; 0: none. Up to here
    it gets one event at a time, so that everything before the bad one is kept."""
    feed: str = "replay"
    spec: dict[str, Any] = {}
    """What `portfolios.runtime.spec.Spec` takes."""


class DesiredSet(msgspec.Struct, frozen=True, tag="desired"):
    version: int
    """Only grows. A daemon ignores a lower one."""
    entries: list[DesiredEntry]
    feeds: list[FeedInfo]
    frozen: bool = False
    """No automatic moves now: a daemon that is asked to stop releases in place at once."""


# --- register ------------------------------------------------------------------------------------


class Register(msgspec.Struct, frozen=True, kw_only=True):
    protocol: int
    incarnation: str
    """UUID drawn at the daemon's start."""
    host: str
    pid: int
    version: str
    capacity: int
    labels: dict[str, str]
    strategies: dict[str, int]
    """Strategy name → version."""
    feeds: dict[str, str]
    """Feed name → sha256."""
    python: str = ""
    """Minor version that computes the portfolios, such as "3.11"; "": an older daemon."""


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    node: int
    name: str
    lease_ttl_s: float
    heartbeat_interval_s: float
    drain_deadline_s: float
    stale_order_age_s: float
    stall_s: float
    now_us: int
    """The database's clock: the node counts feed time from it on its boot-time clock."""
    desired: DesiredSet
    registration: int = 0
    """Number of registrations of this node so far. Only grows; 0: an older gateway."""


# --- heartbeat -----------------------------------------------------------------------------------


class ProcessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One portfolio process as the daemon sees it."""

    portfolio: int
    epoch: int
    """0 while it is only prepared."""
    revision: int
    phase: Literal["preparing", "prepared", "starting", "running", "draining", "warm", "waiting"]
    """waiting: it died and its back-off is running."""
    seq: int
    lag: int
    """Events between its seq and the head of the feed."""
    pid: int | None = None
    handoff: int | None = None
    stalled_s: float = 0.0
    """Seconds without progress while events wait."""
    cpu_pct: float | None = None
    """Per cent of the machine over the last minute; None until nothing came or went for as long."""
    caught_up_ms: float | None = None
    """After an activation: milliseconds until its lag was at most one batch."""


class Prepared(msgspec.Struct, frozen=True, tag="prepared", kw_only=True):
    """The process for `handoff` has loaded and tried a checkpoint."""

    handoff: int


class StepFailed(msgspec.Struct, frozen=True, tag="step_failed", kw_only=True):
    """Preparing or activating `handoff` failed on this node."""

    handoff: int
    step: Literal["prepare", "activate"]
    error: str
    strategy_failed: bool = False
    """The strategy itself raised, on load or on its state: the revision is to blame."""


class ProcessExited(msgspec.Struct, frozen=True, tag="died", kw_only=True):
    """A process that owned a portfolio ended unasked. `death` makes a repeat harmless."""

    death: str
    portfolio: int
    epoch: int
    revision: int
    seq: int
    stage: Stage
    error: str
    before_first_event: bool = False
    failed_seq: int = 0
    """The event in work, or the last one of the batch in work; 0 if it is not known."""
    idle: bool = False
    """It ended while nothing was asked of it: no event has failed, so it has no attempt less."""


class Halted(msgspec.Struct, frozen=True, tag="halted", kw_only=True):
    """catch_up is `halt` and the next event is stale: stopped before it."""

    portfolio: int
    epoch: int
    seq: int
    """The last committed seq."""
    age_s: float


Report = Prepared | StepFailed | ProcessExited | Halted


class AcknowledgedCommits(msgspec.Struct, frozen=True, kw_only=True):
    """How far commits of one portfolio were acknowledged to this daemon."""

    portfolio: int
    epoch: int
    seq: int
    orders: list[tuple[int, int]] = []
    """(seq, index) of the last orders that were placed."""
    found_epoch: int = -1
    found_seq: int = -1
    """What a checkpoint held later, where that was less: these commits are missing. -1: not known,
    the server compares."""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    incarnation: str
    have_version: int
    """Version of the set the daemon holds; the answer leaves the set out if it is current."""
    leaving: bool = False
    metrics: dict[str, float] = {}
    """cpu_pct, mem_pct, rss_mb …; cpu_minute_pct where nothing came or went for a minute."""
    portfolios: list[ProcessStatus] = []
    reports: list[Report] = []
    unheard_s: float = 0.0
    """Seconds since the last answered beat was sent, where later ones got no answer. A lease is for
    those who hear: one whose answers are lost stops feeding and must not keep its portfolios."""
    registered_us: int = 0
    """`now_us` of the answer to its registration; 0: an older daemon, which does not say."""
    registration: int = 0
    """`registration` of that answer; 0: not known."""
    acknowledged: list[AcknowledgedCommits] = []
    """Commits that the database forgot, as a checkpoint showed; and, with `recalled`, all."""
    recalled: bool = False
    """The last answer asked for everything that was acknowledged, and it is here."""


class HeartbeatAnswer(msgspec.Struct, frozen=True, kw_only=True):
    status: Literal["ok", "superseded", "unknown"]
    """superseded: another daemon took this name; exit and do not register again.
    unknown: the lease is gone (forgotten, or said goodbye): register again."""
    expires_in_s: float = 0.0
    next_beat_s: float = 10.0
    now_us: int = 0
    message: str = ""
    desired: DesiredSet | None = None
    recall: bool = False
    """Tell with the next beat what was acknowledged: this process, or the database behind it, has
    only just become the one that answers."""


class Goodbye(msgspec.Struct, frozen=True, kw_only=True):
    incarnation: str
    reason: str = ""


# --- checkpoint ----------------------------------------------------------------------------------


class CheckpointRequest(msgspec.Struct, frozen=True, kw_only=True):
    incarnation: str
    portfolio: int
    handoff: int | None = None
    """Set by the target of a handoff, which owns nothing yet."""


class CheckpointAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Run and state as of one statement, so seq and state always belong together."""

    epoch: int
    revision: int
    state_revision: int
    """The revision under which the state was made; the runtime adapts it if that is another."""
    last_seq: int
    state_seq: int
    state: bytes | None
    """None: it has no state yet and starts afresh."""


# --- commit --------------------------------------------------------------------------------------


class OrderLine(msgspec.Struct, array_like=True, frozen=True):
    seq: int
    index: int
    symbol: str
    side: str
    quantity: str
    price: str
    status: str
    reason: str
    decided_us: int


class FillLine(msgspec.Struct, array_like=True, frozen=True):
    order_seq: int
    order_index: int
    fill_seq: int
    index: int
    symbol: str
    side: str
    quantity: str
    price: str
    at_us: int


class EquityLine(msgspec.Struct, array_like=True, frozen=True):
    seq: int
    at_us: int
    equity: str


#: A daemon counts no further in one commit.
MAX_REFUSED_AGAIN = 1_000_000


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """Progress of one portfolio from `from_seq` (exclusive) to `to_seq` (inclusive)."""

    portfolio: int
    epoch: int
    from_seq: int
    to_seq: int
    batch: str
    """UUID; a repeat carries the same."""
    state: bytes | None = None
    """None: unchanged since the last commit of this epoch."""
    suppress: bool = False
    """Decisions in this range were suppressed because the events were too old."""
    orders: Annotated[list[OrderLine], msgspec.Meta(max_length=MAX_LINES)] = []
    fills: Annotated[list[FillLine], msgspec.Meta(max_length=MAX_LINES)] = []
    equity: Annotated[list[EquityLine], msgspec.Meta(max_length=MAX_LINES)] = []
    release: int | None = None
    """Handoff id: this is the source's last commit."""
    feed_us: int = 0
    """from_time_us of the newest segment of the feed that the node knew when it read the first of
    these events; 0: not known. Events behind a later one were not released as they are stamped."""
    refused_again: int = 0
    """Refused decisions that are no row, since the same reason is on record already."""


class CommitRequest(msgspec.Struct, frozen=True, kw_only=True):
    incarnation: str
    commits: list[Commit]


class CommitResult(msgspec.Struct, frozen=True, kw_only=True):
    portfolio: int
    answer: Answer
    detail: str = ""
    version: int = 0
    """Of an ordinary commit that passed, or that conflicts since the feed has changed: the version
    of the node's desired set. A node that holds a lower one beats, so that it hears of a handoff in
    time when every push is lost."""


class CommitAnswers(msgspec.Struct, frozen=True, kw_only=True):
    results: list[CommitResult]


# --- errors and socket ---------------------------------------------------------------------------


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Body of every answer that is not 200."""

    code: str
    message: str


class Hello(msgspec.Struct, frozen=True, tag="hello", kw_only=True):
    """First words of a daemon on its websocket."""

    incarnation: str
    have_version: int = -1
    """Version of the set the daemon holds: none is pushed before there is a newer one."""


_uuid = lru_cache(maxsize=4096)(UUID)


def uuid_from(text: str) -> UUID:
    """Return `text` as a UUID, or raise ValueError. A node says its incarnation in every message,
    so those are remembered; of the other spellings, some are as long as you like.
    """
    return _uuid(text) if len(text) == 36 else UUID(text)


def encode(message: msgspec.Struct) -> bytes:
    """Return `message` as MessagePack."""
    return msgspec.msgpack.encode(message)
