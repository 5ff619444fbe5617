"""Feed time: the release time of each event. Pure integer arithmetic, equal on every machine.

A feed's segments are append-only. In a segment the head at time t is
from_seq + floor((t - from_time) * rate); a change of rate appends a segment at the current head.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

import msgspec

SECOND_US = 1_000_000


class Segment(msgspec.Struct, frozen=True):
    """From `from_time_us` on, with `from_seq` just released, `rate` events a second follow."""

    from_seq: int
    from_time_us: int
    rate: float  #: events a second; 0 is a pause


class NotReleased(LookupError):
    """The event is beyond the head of a paused feed: it has no release time yet."""


def head_at(segments: Sequence[Segment], now_us: int) -> int:
    """Return the newest seq released at `now_us`; before the first segment its from_seq - 1."""
    if not segments:
        raise ValueError("the feed has no segment, and so no head: call ensure_feed first")
    following: Segment | None = None
    for segment in reversed(segments):
        if segment.from_time_us <= now_us:
            p, q = segment.rate.as_integer_ratio()  # the rate is p / q, exactly
            head = segment.from_seq + (now_us - segment.from_time_us) * p // (q * SECOND_US)
            # Until the following segment begins, the head must not pass its first seq.
            return head if following is None else min(head, following.from_seq)
        following = segment
    return segments[0].from_seq - 1


def release_us(segments: Sequence[Segment], seq: int) -> int:
    """Return when `seq` is released, in µs since the epoch. Raise NotReleased in a pause."""
    return release_clock(segments)(seq)


def release_clock(segments: Sequence[Segment]) -> Callable[[int], int]:
    """Return `release_us` for these segments, prepared once for many calls."""
    if not segments:
        raise ValueError("the feed has no segment, and so releases nothing: call ensure_feed first")
    # The event at a segment's from_seq was released by the segment before it (or is the first one),
    # so an event belongs to the last segment that begins before it.
    begins = [segment.from_seq for segment in segments]
    ratios = [segment.rate.as_integer_ratio() for segment in segments]  # (p, q): the rate is p / q

    def release(seq: int) -> int:
        """See `release_us`."""
        number = max(bisect_left(begins, seq) - 1, 0)
        segment, (p, q) = segments[number], ratios[number]
        ahead = seq - segment.from_seq
        ends = segments[number + 1].from_time_us if number + 1 < len(segments) else None
        if ahead <= 0:
            return segment.from_time_us
        if p == 0:
            if ends is None:
                raise NotReleased(f"the feed is paused at seq {segment.from_seq}, before seq {seq}")
            return ends
        at = segment.from_time_us - (-ahead * q * SECOND_US // p)  # rounded up
        return at if ends is None else min(at, ends)

    return release
