"""Feed time: which event is released when. Pure integer arithmetic, the same on both sides.

A feed's segments are append-only. In a segment the head at time t is
from_seq + floor((t - from_time) * rate); a change of rate appends one at the present head.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Segment(msgspec.Struct, frozen=True):
    """From `from_time_us` on, with `from_seq` just released, `rate` events a second follow."""

    from_seq: int
    from_time_us: int
    rate: float  #: events a second; 0 is a pause


class NotReleased(LookupError):
    """The event lies behind the head of a feed that is paused: it has no release time yet."""


def head_at(segments: Sequence[Segment], now_us: int) -> int:
    """Return the newest seq released at `now_us`; before the first segment its from_seq - 1."""
    raise NotImplementedError


def release_us(segments: Sequence[Segment], seq: int) -> int:
    """Return the first microsecond at which `seq` is released. Raise NotReleased in a pause."""
    raise NotImplementedError
