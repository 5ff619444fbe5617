"""Schema of the desired set: what a node should run. Import it from `scheduling.wire.messages`."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Role = Literal["run", "prepare", "drain", "warm"]


class SegmentInfo(msgspec.Struct, array_like=True, frozen=True):
    """A replay releases `from_seq` at `from_time_us`, and then `rate` events a second."""

    from_seq: int
    from_time_us: int
    rate: float


class FeedInfo(msgspec.Struct, frozen=True):
    """A feed that portfolios of the set read: its identity, length and rates."""

    name: str
    sha256: str
    length: int  #: events of one lap of a replay; of a recorded feed 0
    segments: list[SegmentInfo]
    kind: str = "replay"
    """replay: packaged bars, released by the segments. recorded: read it with FeedRequest."""


class DesiredEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One portfolio of a desired set. During a reload, a set has two entries of one portfolio.

    run      own it under `epoch`: keep it, activate the process prepared for `handoff`, or start it
    prepare  start a process for `handoff` and try the newest checkpoint; commit nothing
    drain    stop at the next batch boundary and release `handoff` with the last commit
    warm     released; keep the process in memory until it leaves the set or returns as run
    """

    portfolio: int
    name: str
    role: Role
    epoch: int
    revision: int
    handoff: int | None = None
    attempts: int = 0
    """Exits since the last progress: the daemon waits 0, 1, 5, 30, 30 s before the next start."""
    catch_up: str = "state_only"
    """full, state_only or halt: what the process does with stale events. May change meanwhile."""
    resume_seq: int = 0
    """The head when an operator last started the portfolio. Up to this seq, and further until no
    event is stale, `catch_up` halt acts as state_only."""
    resumed_from: int = -1
    """The portfolio's last seq at that start: a limit reached up to there does not halt it again.
    -1: not known, `resume_seq` is used instead."""
    failed_seq: int = 0
    """The event at which the portfolio last failed, or the last event of the failed batch; 0: none.
    Up to it the process gets one event at a time, so that all work before the bad event is kept."""
    feed: str = "replay"
    spec: dict[str, Any] = {}
    """Fields of `portfolios.runtime.spec.Spec`."""


class DesiredSet(msgspec.Struct, frozen=True, tag="desired"):
    """The portfolios that one node should run, and the feeds that they read."""

    version: int
    """Only grows. A daemon ignores a lower version."""
    entries: list[DesiredEntry]
    feeds: list[FeedInfo]
    frozen: bool = False
    """Automatic moves are frozen: a daemon that is asked to stop hands no portfolio over."""
