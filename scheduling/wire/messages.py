"""Schemas of the node protocol, MessagePack on the wire.

A daemon registers once, then sends heartbeats and commits. The answer to a registration or
heartbeat may carry the desired set: the portfolios that the node should run. A push over the
websocket carries the same set and nothing else, so a lost push costs time, never correctness.

Times are integers in microseconds since the epoch (`_us`) or seconds (`_s`). Decimals are sent as
text. Ids of portfolios and handoffs are those of the database.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from scheduling.wire.desired_set import DesiredEntry as DesiredEntry
from scheduling.wire.desired_set import DesiredSet as DesiredSet
from scheduling.wire.desired_set import FeedInfo as FeedInfo
from scheduling.wire.desired_set import Role as Role
from scheduling.wire.desired_set import SegmentInfo as SegmentInfo

PROTOCOL = 1  #: increased when a message changes so that an older daemon would misread it
#: Versions that gateway and daemon both speak: this one and the one before, so that during an
#: upgrade old daemons work with new gateways and new daemons with old gateways.
SPOKEN = tuple(range(max(PROTOCOL - 1, 1), PROTOCOL + 1))

# Limits of one message. The gateway rejects larger ones with 413 `payload_too_large`; a daemon
# sends the rest with the next message.
MAX_COMMITS = 200  #: commits of a CommitRequest
MAX_LINES = 10_000  #: orders, fills, ends of orders and equity points of all its commits
MAX_REPORTS = 500  #: reports of a Heartbeat
MAX_PORTFOLIOS = 2_000  #: portfolios of a Heartbeat
MAX_FEED_RECORDS = 5_000  #: events of a FeedAnswer
MAX_FEED_WAIT_S = 10.0  #: for which a FeedRequest may wait for the next record
MAX_LOG_LINES = 500  #: lines of a LogRequest
MAX_LOG_LINE = 1_000  #: characters of a line of a portfolio's log
MAX_LOG_BYTES = 200_000  #: of the texts of a LogRequest

# Limits of the lines of a commit: the daemon checks the replies of its processes against them,
# the control plane the commits of daemons.
MAX_INDEX = 32_767  #: index of an order or fill among those at one event
MAX_SYMBOL = 24  #: characters
MAX_TAG = 32  #: characters
MAX_METRIC_LINES = 4_000  #: metrics of one commit; a daemon drops older ones beyond that
MAX_REFUSED_AGAIN = 1_000_000  #: Commit.refused_again
MAX_REASON = 600  #: characters; reasons of limits and of the order book have under 300
LATEST_US = 253_402_300_799_000_000  #: the end of the year 9999, the last that Python reads back

#: fenced: not the owner at this epoch. conflict: the database has another last seq or feed. ahead:
#: the epoch is not granted yet. rejected: the commit is invalid. Of a release, handed_over: the
#: target was granted the portfolio; keep: the handoff has failed, so the source continues.
Answer = Literal["ok", "fenced", "conflict", "ahead", "rejected", "handed_over", "keep"]
#: Where a process failed: while loading, at an event, by ending, or it was killed at a time limit.
Stage = Literal["load", "event", "exit", "killed"]


# --- register ------------------------------------------------------------------------------------


class Register(msgspec.Struct, frozen=True, kw_only=True):
    """A daemon asks to act as its node."""

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
    """Minor version that runs the portfolios, such as "3.11"; "": an older daemon."""


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to Register: the node, its timing and the portfolios that it should run."""

    node: int
    name: str
    lease_ttl_s: float
    heartbeat_interval_s: float
    drain_deadline_s: float
    stale_order_age_s: float
    stall_s: float
    now_us: int
    """The database's clock: the node derives feed time from it and its boot-time clock."""
    desired: DesiredSet
    registration: int = 0
    """Number of registrations of this node so far. Only grows; 0: an older gateway."""


# --- heartbeat -----------------------------------------------------------------------------------


class ProcessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """State of one portfolio process."""

    portfolio: int
    epoch: int
    """0 while it is only prepared."""
    revision: int
    phase: Literal["preparing", "prepared", "starting", "running", "draining", "warm", "waiting"]
    """waiting: it exited and its back-off is running."""
    seq: int  #: the last committed one
    lag: int
    """Events between its seq and the head of the feed."""
    pid: int | None = None
    handoff: int | None = None
    stalled_s: float = 0.0
    """Seconds without progress while events wait."""
    cpu_pct: float | None = None
    """Per cent of the machine over the last minute; None until no process started or ended for as
    long."""
    caught_up_ms: float | None = None
    """After an activation: milliseconds until its lag was at most one batch."""


class Prepared(msgspec.Struct, frozen=True, tag="prepared", kw_only=True):
    """The process for `handoff` has loaded a checkpoint."""

    handoff: int


class StepFailed(msgspec.Struct, frozen=True, tag="step_failed", kw_only=True):
    """Preparing or activating `handoff` failed on this node."""

    handoff: int
    step: Literal["prepare", "activate"]
    error: str
    strategy_failed: bool = False
    """The strategy itself raised, on load or on its state: the revision is the cause."""


class ProcessExited(msgspec.Struct, frozen=True, tag="died", kw_only=True):
    """A process that owned a portfolio ended unexpectedly."""

    death: str
    """Identifies this end, so that a repeated report changes nothing."""
    portfolio: int
    epoch: int
    revision: int
    seq: int  #: the last committed one
    stage: Stage
    error: str
    before_first_event: bool = False
    """The process had handled no event since its start."""
    failed_seq: int = 0
    """The event in work, or the last one of the batch in work; 0 if it is not known."""
    idle: bool = False
    """It ended while nothing was asked of it: no event has failed, and no attempt is counted."""


class Halted(msgspec.Struct, frozen=True, tag="halted", kw_only=True):
    """A portfolio stopped: before a stale event, since its catch_up is `halt`, or by a limit."""

    portfolio: int
    epoch: int
    seq: int
    """The last committed seq."""
    age_s: float
    reason: str = ""
    """The limit that stopped the portfolio; "": it stopped before an event that is `age_s` old."""


Report = Prepared | StepFailed | ProcessExited | Halted


class AcknowledgedCommits(msgspec.Struct, frozen=True, kw_only=True):
    """How far commits of one portfolio were acknowledged to this daemon."""

    portfolio: int
    epoch: int
    seq: int
    orders: list[tuple[int, int]] = []
    """(seq, index) of the last placed orders."""
    found_epoch: int = -1
    found_seq: int = -1
    """Epoch and seq of a checkpoint read later, if lower: the commits in between are missing.
    -1: the daemon has read no such checkpoint, and the control plane compares."""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """A daemon's report of what it runs and what happened. It renews the lease of its node."""

    incarnation: str
    have_version: int
    """Version of the daemon's desired set; the answer leaves the set out if it is current."""
    leaving: bool = False
    metrics: dict[str, float] = {}
    """Name → value. Of the machine: cpu_pct, mem_pct, and cpu_minute_pct if no process started or
    ended for a minute. Of the daemon: rss_mb. Of its portfolio processes: children_rss_mb."""
    portfolios: list[ProcessStatus] = []
    reports: list[Report] = []
    unheard_s: float = 0.0
    """Seconds since the last answered heartbeat was sent; 0 if every heartbeat was answered. A node
    without answers stops feeding, so its heartbeats must not keep the lease for long."""
    registered_us: int = 0
    """`now_us` of the answer to its registration; 0: an older daemon, which does not send it."""
    registration: int = 0
    """`registration` of that answer; 0: not known."""
    acknowledged: list[AcknowledgedCommits] = []
    """Of portfolios whose checkpoint lacked acknowledged commits; if `recalled`, of all."""
    recalled: bool = False
    """The last answer had `recall`: `acknowledged` names every portfolio."""


class HeartbeatAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to Heartbeat: whether the lease holds and until when, and a newer desired set."""

    status: Literal["ok", "superseded", "unknown"]
    """superseded: another daemon took this name; exit and do not register again.
    unknown: the lease no longer exists (node forgotten, or goodbye): register again."""
    expires_in_s: float = 0.0  #: left of the lease
    next_beat_s: float = 10.0  #: until the next heartbeat is due
    now_us: int = 0  #: the database's clock
    message: str = ""
    desired: DesiredSet | None = None
    recall: bool = False
    """Send all acknowledged commits with the next heartbeat: the gateway has just started, or its
    database has changed."""


class Goodbye(msgspec.Struct, frozen=True, kw_only=True):
    """A daemon leaves: its lease ends at once."""

    incarnation: str
    reason: str = ""


# --- recorded feeds ------------------------------------------------------------------------------


class FeedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Ask for the records of a recorded feed after `after`; at the head, wait for the next one."""

    incarnation: str
    feed: str
    after: int
    """-1: answer with the head alone."""
    released_us: int = 0
    """Release time of the record at `after`, as the node has read it; 0: none."""
    limit: int = MAX_FEED_RECORDS
    wait_s: float = 0.0


class FeedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to FeedRequest: the head, and the records after `after`."""

    head: int
    first_seq: int
    """The oldest record that is kept."""
    events: list[bytes] = []
    """Encoded events, `after` + 1 and on, without gaps."""
    changed: bool = False
    """The database has another record at `after`, or none: it was restored to an earlier time. The
    node must forget every record of the feed."""


# --- checkpoint ----------------------------------------------------------------------------------


class CheckpointRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Ask for the newest checkpoint of a portfolio."""

    incarnation: str
    portfolio: int
    handoff: int | None = None
    """Set by the target of a handoff, which does not own the portfolio yet."""


class CheckpointAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A run and its state, read by one SQL statement, so that seq and state always match."""

    epoch: int
    revision: int
    state_revision: int
    """The revision under which the state was made; the runtime adapts the state if it differs."""
    last_seq: int
    state_seq: int  #: the event after which the state was made: it has not changed up to `last_seq`
    state: bytes | None
    """None: there is no state yet; start from the beginning."""


# --- commit --------------------------------------------------------------------------------------


class OrderLine(msgspec.Struct, array_like=True, frozen=True):
    """One order of a commit, decided at event `seq`."""

    seq: int
    index: int  #: of the orders at this event: 0, 1, 2 …
    symbol: str
    side: str  #: buy or sell
    quantity: str
    price: str
    status: str  #: open, filled, suppressed or refused
    reason: str
    decided_us: int
    kind: str = "market"
    limit_price: str = ""
    """"": none."""
    stop_price: str = ""
    time_in_force: str = "gtc"
    tag: str = ""


class FillLine(msgspec.Struct, array_like=True, frozen=True):
    """One fill of an order, made at event `fill_seq`."""

    order_seq: int
    order_index: int
    fill_seq: int
    index: int
    symbol: str
    side: str
    quantity: str
    price: str
    at_us: int
    fee: str = "0"


class OrderEndLine(msgspec.Struct, array_like=True, frozen=True):
    """An open order ended at `seq` without a fill."""

    order_seq: int
    order_index: int
    seq: int
    status: str
    reason: str


class EquityLine(msgspec.Struct, array_like=True, frozen=True):
    """The equity of a portfolio after event `seq`."""

    seq: int
    at_us: int
    equity: str


class MetricLine(msgspec.Struct, array_like=True, frozen=True):
    """The value of a strategy's own metric at an equity point."""

    seq: int
    at_us: int
    name: str
    value: float


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """Progress of one portfolio from `from_seq` (exclusive) to `to_seq` (inclusive)."""

    portfolio: int
    epoch: int  #: under which the node owns the portfolio
    from_seq: int
    to_seq: int
    batch: str
    """UUID; a repeat has the same one."""
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
    """from_time_us of the newest feed segment that the node knew when it read the first of these
    events; 0: not known. Events after a newer segment have other release times than they carry."""
    record: bytes = b""
    """sha256 of the encoded record at `to_seq`, as the node read it; empty on a packaged feed. The
    database refuses results of records that it does not have."""
    refused_again: int = 0
    """Refused decisions without a row, since the same reason is already recorded."""
    ended: Annotated[list[OrderEndLine], msgspec.Meta(max_length=MAX_LINES)] = []
    metrics: Annotated[list[MetricLine], msgspec.Meta(max_length=MAX_METRIC_LINES)] = []


class CommitRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Commits of the portfolios of one daemon."""

    incarnation: str
    commits: list[Commit]


class CommitResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one commit."""

    portfolio: int
    answer: Answer
    detail: str = ""
    version: int = 0
    """The version of the node's desired set; 0 for a release, and for a commit that was not
    accepted, except a `conflict` since the feed has changed. A node with a lower version sends a
    heartbeat, so that it learns of a handoff in time even if every push is lost."""


class CommitAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to CommitRequest: one result for each commit."""

    results: list[CommitResult]


# --- log of a portfolio --------------------------------------------------------------------------


class LogLine(msgspec.Struct, array_like=True, frozen=True):
    """One line that a portfolio process printed, or a number of lines that were lost."""

    age_ms: int
    """Time since the node read the line. No time of day, since the clocks of nodes differ."""
    text: str
    lost: int = 0  #: how many lines are missing here; then `text` is empty


class StreamLines(msgspec.Struct, array_like=True, frozen=True):
    """Lines of one process, named by its epoch, or by the handoff that it is prepared for."""

    portfolio: int
    epoch: int
    handoff: int | None
    lines: list[LogLine]


class LogRequest(msgspec.Struct, frozen=True):
    """Lines that portfolio processes printed."""

    incarnation: str
    batch: str
    """UUID; a repeat has the same one."""
    streams: list[StreamLines]


class LogAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to LogRequest."""

    written: int
    """How many lines were written: those of portfolios that the node runs or prepares."""


# --- errors and socket ---------------------------------------------------------------------------


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Body of every answer other than 200."""

    code: str
    message: str


class Hello(msgspec.Struct, frozen=True, tag="hello", kw_only=True):
    """First message of a daemon on its websocket."""

    incarnation: str
    have_version: int = -1
    """Version of the daemon's desired set: only a newer one is pushed."""


_uuid = lru_cache(maxsize=4096)(UUID)


def uuid_from(text: str) -> UUID:
    """Return `text` as a UUID, or raise ValueError. Cached, since every message carries one."""
    return _uuid(text) if len(text) == 36 else UUID(text)  # uncached: the text may be huge


def encode(message: msgspec.Struct) -> bytes:
    """Return `message` as MessagePack."""
    # msgspec takes no subclass of str, as a `Sentence` in a problem is: this makes it a plain str.
    return msgspec.msgpack.encode(message, enc_hook=str.__str__)
