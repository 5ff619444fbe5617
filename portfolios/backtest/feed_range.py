"""Which events of a feed a range means: `--from` and `--to` as a seq or a time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from portfolios.feeds.base import Feed
from portfolios.feeds.rows import EPOCH, MICROSECOND
from portfolios.text import quoted


class WrongRange(ValueError):
    """`--from` or `--to` means no event, or the range is empty. The text is a sentence."""


@dataclass(frozen=True, slots=True)
class FeedRange:
    """The seqs from `first` to `last`, both included."""

    first: int
    last: int


def read_range(feed: Feed, first: str | None, last: str | None) -> FeedRange:
    """Return the range that two texts mean; without them the whole log, or one lap of a replay.

    A text is a seq, or a time in ISO 8601: UTC unless it has an offset, and a date alone means the
    whole day. Raise WrongRange for any other text, and if the feed has no event of the range.
    """
    found = FeedRange(
        _first_seq(feed) if first is None else _seq_of(feed, "--from", first, is_end=False),
        feed.length if last is None else _seq_of(feed, "--to", last, is_end=True),
    )
    if found.last < found.first:
        raise WrongRange(
            f"The range is empty: it begins at seq {found.first:,} and ends at seq {found.last:,}."
            f" {_extent(feed)}"
        )
    return found


def _first_seq(feed: Feed) -> int:
    """Return the first seq that can be read; a recorded feed keeps its newest records."""
    return getattr(feed, "first_seq", 1)


def _seq_of(feed: Feed, option: str, text: str, *, is_end: bool) -> int:
    """Return the seq that the text of an option states.

    A time means the first event at or after it, with `is_end` the last one at or before it. Raise
    WrongRange if the text is neither, or the feed has no such event.
    """
    if text.isascii() and text.isdigit():
        seq = int(text)
        if seq < 1:
            raise WrongRange(f"{option} is {text}: the events of a feed are numbered from 1.")
        if seq < _first_seq(feed):
            raise WrongRange(f"{option} is {text}, which is no longer kept. {_extent(feed)}")
        if not feed.read(seq, 1):
            raise WrongRange(f"{option} is {text}, after the end of {feed.name}. {_extent(feed)}")
        return seq
    at = _microseconds(option, text, is_end=is_end)
    begin = _first_seq(feed)
    seqs = range(begin, feed.length + 1)
    if is_end:
        seq = begin - 1 + bisect_right(seqs, at, key=lambda seq: feed.read(seq, 1)[0].time)
        if seq < begin:
            raise WrongRange(f"{option} {text} is before the first event. {_extent(feed)}")
        return seq
    seq = begin + bisect_left(seqs, at, key=lambda seq: feed.read(seq, 1)[0].time)
    if seq > feed.length:
        raise WrongRange(f"{option} {text} is after the last event. {_extent(feed)}")
    return seq


def _microseconds(option: str, text: str, *, is_end: bool) -> int:
    """Return a time in µs since the epoch: of a date the first, with `is_end` the last.

    Raise WrongRange if the text is neither a date nor a time.
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
