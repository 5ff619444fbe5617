"""Which events of a feed a range means: `--from` and `--to` as a seq or a time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise

from portfolios.feeds.base import Feed
from portfolios.feeds.log import SEGMENT_SEQS
from portfolios.feeds.rows import EPOCH, MICROSECOND
from portfolios.text import quoted

#: A recorded feed up to this length is read whole to see whether its times go back; a longer one by
#: the first record of each segment.
READ_WHOLE = 200_000
PAGE = 5_000  #: records that are read at once


class WrongRange(ValueError):
    """`--from` or `--to` means no event, or the range is empty. The text is a sentence."""


@dataclass(frozen=True, slots=True)
class FeedRange:
    """The events with seqs from `first` to `last` and times from `begin_us` to `end_us`, inclusive.

    The times matter only in a feed whose times go back, such as one into which two files were
    imported one after the other: events of other times lie between. In other feeds they are None.
    """

    first: int
    last: int
    begin_us: int | None = None  #: in µs since the epoch
    end_us: int | None = None

    def has_time(self, time_us: int) -> bool:
        """Return whether an event of this time, in µs since the epoch, may be part of the range."""
        is_late_enough = self.begin_us is None or time_us >= self.begin_us
        return is_late_enough and (self.end_us is None or time_us <= self.end_us)


def read_range(feed: Feed, first: str | None, last: str | None) -> FeedRange:
    """Return the range that two texts mean; without them the whole log, or one lap of a replay.

    A text is a seq, or a time in ISO 8601: UTC unless it has an offset, and a date alone means the
    whole day. Raise WrongRange for any other text, and if the feed has no event of the range.
    """
    begin_us = _time_of("--from", first, is_end=False)
    end_us = _time_of("--to", last, is_end=True)
    # Without times in the texts, the order of times does not matter.
    is_ordered = (begin_us is None and end_us is None) or not _times_go_back(feed)
    first_seq, last_seq = _first_seq(feed), feed.length
    if first is not None:
        first_seq = _seq_of(feed, "--from", first, is_end=False, is_ordered=is_ordered)
    if last is not None:
        last_seq = _seq_of(feed, "--to", last, is_end=True, is_ordered=is_ordered)
    found = FeedRange(first_seq, last_seq)
    if not is_ordered:
        found = FeedRange(first_seq, last_seq, begin_us, end_us)
    if found.last < found.first:
        raise WrongRange(
            f"The range is empty: it begins at seq {found.first:,} and ends at seq {found.last:,}."
            f" {_extent(feed)}"
        )
    return found


def _first_seq(feed: Feed) -> int:
    """Return the first seq that can be read: a recorded feed may have dropped older ones."""
    return getattr(feed, "first_seq", 1)


def _times_go_back(feed: Feed) -> bool:
    """Return whether an event of a recorded feed is earlier than one before it.

    Of a feed of over READ_WHOLE records, only the first record of each segment is read.
    """
    if not hasattr(feed, "first_seq"):  # a replay, whose times only grow
        return False
    if feed.length - _first_seq(feed) < READ_WHOLE:
        times = _times(feed)
    else:
        seqs = range(1, feed.length + 1, SEGMENT_SEQS)
        times = (feed.read(seq, 1)[0].time for seq in seqs if seq >= _first_seq(feed))
    return any(earlier > later for earlier, later in pairwise(times))


def _times(feed: Feed) -> Iterator[int]:
    """Yield the time of each event, in µs since the epoch."""
    for seq in range(_first_seq(feed), feed.length + 1, PAGE):
        yield from (event.time for event in feed.read(seq, min(PAGE, feed.length - seq + 1)))


def _seq_at(feed: Feed, at_us: int, *, is_end: bool, is_ordered: bool) -> int:
    """Return the first seq at or after a time; with `is_end`, the last seq at or before it.

    Without such an event, return the seq after the last one; with `is_end`, before the first one.
    `is_ordered`: no event is earlier than one before it, so few events have to be read.
    """
    begin = _first_seq(feed)
    seqs = range(begin, feed.length + 1)
    if is_ordered:
        if is_end:
            return begin - 1 + bisect_right(seqs, at_us, key=lambda seq: feed.read(seq, 1)[0].time)
        return begin + bisect_left(seqs, at_us, key=lambda seq: feed.read(seq, 1)[0].time)
    numbered = zip(seqs, _times(feed), strict=True)
    if is_end:
        return max((seq for seq, time_us in numbered if time_us <= at_us), default=begin - 1)
    return next((seq for seq, time_us in numbered if time_us >= at_us), feed.length + 1)


def _seq_of(feed: Feed, option: str, text: str, *, is_end: bool, is_ordered: bool) -> int:
    """Return the seq that the text of an option states.

    A time means the first event at or after it, with `is_end` the last one at or before it. Raise
    WrongRange if the text is neither seq nor time, or the feed has no such event.
    """
    if _is_seq(text):
        seq = int(text)
        if seq < 1:
            raise WrongRange(f"{option} is {text}: the events of a feed are numbered from 1.")
        if seq < _first_seq(feed):
            raise WrongRange(f"{option} is {text}: that event is no longer kept. {_extent(feed)}")
        if not feed.read(seq, 1):
            raise WrongRange(f"{option} is {text}, after the end of {feed.name}. {_extent(feed)}")
        return seq
    at_us = _read_time(option, text, is_end=is_end)
    seq = _seq_at(feed, at_us, is_end=is_end, is_ordered=is_ordered)
    if is_end and seq < _first_seq(feed):
        raise WrongRange(f"{option} {text} is before the first event. {_extent(feed)}")
    if not is_end and seq > feed.length:
        raise WrongRange(f"{option} {text} is after the last event. {_extent(feed)}")
    return seq


def _is_seq(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _time_of(option: str, text: str | None, *, is_end: bool) -> int | None:
    """Return the time that an option states, in µs since the epoch; None for a seq or no text.

    Raise WrongRange if the text is neither a seq nor a time.
    """
    if text is None or _is_seq(text):
        return None
    return _read_time(option, text, is_end=is_end)


def _read_time(option: str, text: str, *, is_end: bool) -> int:
    """Return the time that the text of an option states, in µs since the epoch.

    A date means its first microsecond, with `is_end` its last. Raise WrongRange for any other text.
    """
    try:
        if len(text) <= len("2010-01-31"):
            day = datetime.combine(date.fromisoformat(text), time(), UTC)
            at = day + timedelta(days=1) - MICROSECOND if is_end else day
        else:
            at = datetime.fromisoformat(text)
            at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return (at - EPOCH) // MICROSECOND
    except (ValueError, OverflowError):
        raise WrongRange(
            f"{option} is {quoted(text)}: give a seq such as 1200, a date such as 2010-01-31, or a"
            " time such as 2010-01-31T14:30:00+00:00."
        ) from None


def _extent(feed: Feed) -> str:
    """Return the range of events that the feed has, as a sentence."""
    if not feed.length:
        return f"{feed.name} has no events yet."
    begin = _first_seq(feed)
    first, last = feed.read(begin, 1)[0].time, feed.read(feed.length, 1)[0].time
    return (
        f"{feed.name} has seq {begin:,} to {feed.length:,}, from {moment(first)} to {moment(last)}."
    )


def moment(at_us: int) -> str:
    """Return a time in µs since the epoch as text in UTC: at midnight the date alone."""
    at = EPOCH + timedelta(microseconds=at_us)
    if at.time() == time():
        return at.date().isoformat()
    return at.strftime("%Y-%m-%d %H:%M:%S") + (f".{at.microsecond:06d}" if at.microsecond else "")
