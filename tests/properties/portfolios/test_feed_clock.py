"""Feed time: an event is released when the head reaches it, not a microsecond earlier or later."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolios.feeds.clock import NotReleased, Segment, head_at, release_us

START_US = 1_700_000_000_000_000
RATES = st.sampled_from([0.0, 0.1, 1.0, 3.0, 100.0, 333.3, 9999.5]) | st.floats(0.001, 50_000)


@st.composite
def histories(draw: st.DrawFn) -> list[Segment]:
    """A feed whose rate was changed some times, each time at the head of that moment."""
    segments = [Segment(1, START_US, draw(RATES))]
    for pause_us in draw(st.lists(st.integers(0, 10_000_000), max_size=4)):
        now = segments[-1].from_time_us + pause_us
        segments.append(Segment(head_at(segments, now), now, draw(RATES)))
    return segments


@given(histories(), st.integers(1, 5000))
def test_an_event_is_released_at_the_first_moment_the_head_has_reached_it(
    segments: list[Segment], seq: int
) -> None:
    try:
        released = release_us(segments, seq)
    except NotReleased:
        assert segments[-1].rate == 0
        assert head_at(segments, START_US + 10**15) < seq
        return
    assert head_at(segments, released) >= seq
    assert head_at(segments, released - 1) < seq


@given(histories(), st.lists(st.integers(-10, 60_000_000), min_size=2))
def test_the_head_never_goes_back(segments: list[Segment], offsets: list[int]) -> None:
    heads = [head_at(segments, START_US + offset) for offset in sorted(offsets)]
    assert heads == sorted(heads)


def test_head_and_release_times_of_a_paused_and_resumed_feed() -> None:
    ten = [Segment(1, 1_000_000, 10.0)]
    assert [head_at(ten, t) for t in (999_999, 1_000_000, 1_099_999, 1_100_000)] == [0, 1, 1, 2]
    assert release_us(ten, 11) == 2_000_000
    # paused at 2 s with 11 released, resumed at 5 s at 2 a second: 12 comes at 5.5 s
    paused = [*ten, Segment(11, 2_000_000, 0.0)]
    assert head_at(paused, 4_000_000) == 11
    resumed = [*paused, Segment(11, 5_000_000, 2.0)]
    assert [release_us(resumed, seq) for seq in (11, 12, 13)] == [2_000_000, 5_500_000, 6_000_000]
    with pytest.raises(NotReleased, match="paused at seq 11, before seq 12"):
        release_us(paused, 12)


def test_the_head_of_a_segment_stops_where_the_next_begins() -> None:
    # the head was read at 4 ms, the segment written at 6.9 ms: two events are still to come
    segments = [Segment(1, 0, 1000.0), Segment(5, 6_900, 1.0)]
    assert [head_at(segments, t) for t in (3_999, 4_000, 6_899, 6_900)] == [4, 5, 5, 5]
    assert [release_us(segments, seq) for seq in (5, 6)] == [4_000, 1_006_900]


def test_head_of_a_feed_without_segments_raises_an_error() -> None:
    with pytest.raises(ValueError, match="the feed has no segment"):
        head_at([], 0)
    with pytest.raises(ValueError, match="the feed has no segment"):
        release_us([], 1)
