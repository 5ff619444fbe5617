"""Headers and times as exported files have them."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from portfolios.feeds.columns import MissingColumn, TimeForm, find_columns, separator_of
from portfolios.feeds.rows import WrongMessage, WrongTime

UTC = TimeForm(ZoneInfo("UTC"))


@pytest.mark.parametrize(
    ("header", "separator"),
    [
        ("time,bid,ask", ","),
        ("XDATE;DELAY;CONTRIBUTOR;BID;ASK;FLAG", ";"),
        ("<DATE>\t<TIME>\t<OPEN>", "\t"),
        ("time", ","),
    ],
)
def test_separator_of_a_csv_file_is_found_from_its_header(header: str, separator: str) -> None:
    assert separator_of(header) == separator


def test_first_csv_column_without_a_name_is_the_time() -> None:
    columns = find_columns("f", ["", "Open", "High", "Low", "Close"], {}, "E", UTC)
    row = columns.row(["2017-04-19 09:00:00", "1.0716", "1.0722", "1.07083", "1.07219"])
    assert row == {
        "time": "2017-04-19T09:00:00+00:00", "open": "1.0716", "high": "1.0722",
        "low": "1.07083", "close": "1.07219", "symbol": "E",
    }  # fmt: skip
    named = find_columns("f", ["", "Date", "Bid", "Ask"], {}, "E", UTC)
    assert named.row(["17", "2017-04-19", "1", "2"])["time"] == "2017-04-19T00:00:00+00:00"


@pytest.mark.parametrize("header", [["Date", "Time"], ["<TIME>", "<DATE>"]])
def test_a_date_column_and_a_time_column_are_joined_into_one_time(header: list[str]) -> None:
    columns = find_columns("f", [*header, "Bid", "Ask"], {}, "E", UTC)
    day, time = "2017-04-19", "09:30"
    cells = [day, time] if header[0] == "Date" else [time, day]
    assert columns.row([*cells, "1", "2"])["time"] == "2017-04-19T09:30:00+00:00"


def test_a_line_with_more_cells_than_the_header_is_refused() -> None:
    columns = find_columns("f", ["time", "open", "high", "low", "close"], {}, "E", UTC)
    at = "2017-04-19 09:00:00"
    # Prices of 1.0000, 1.0722, 1.0000 and 1.0716, with commas: without them, a bar from 1 to 722.
    assert columns.row([at, "1", "0722", "1", "0716", "1", "0708", "1", "0721"]) == WrongMessage(
        "the line has 9 cells, and the header 5. Does a number have commas, as 1,071.60 has? Write"
        " it as 1071.60."
    )
    assert columns.row([at, "1", "3", "1", "2", "", " "])["close"] == "2"


def test_a_column_that_the_file_lacks_is_named_once() -> None:
    with pytest.raises(MissingColumn) as missing:
        find_columns("f", ["", "Bid", "Ask"], {"time": "At"}, "E")
    assert missing.value.args == ("f has no column 'At' for time; it has (no name), Bid, Ask.",)


@pytest.mark.parametrize(
    ("times", "text", "read"),
    [
        (UTC._replace(form="%y%m%d%H%M"), "9706011928", "1997-06-01T19:28:00+00:00"),
        (UTC._replace(form="%d.%m.%Y %H:%M"), "31.1.2026 14:30", "2026-01-31T14:30:00+00:00"),
        (TimeForm(form="%Y%m%d%H%M%S%z"), "20260131143000-0500", "2026-01-31T14:30:00-05:00"),
        (TimeForm(unit="ms"), "1492592400500", "2017-04-19T09:00:00.500000Z"),
        (UTC, "20170419 090000", "2017-04-19T09:00:00+00:00"),
        (UTC, "2026-03-08 02:31-05:00", "2026-03-08 02:31-05:00"),  # its own offset counts
        (UTC, "", ""),
    ],
)
def test_times_of_a_file_are_read_in_the_form_that_is_stated(
    times: TimeForm, text: str, read: str
) -> None:
    assert times.read(text) == read


@pytest.mark.parametrize(
    ("times", "text", "code", "words"),
    [
        (UTC, "9706011928", "wrong_type", "or state another form with --time-format"),
        (UTC._replace(form="%y%m%d"), "noon", "wrong_type", "'%y%m%d', as --time-format says."),
        (TimeForm(unit="ms"), "noon", "wrong_type", "'noon'; give a number of ms since 1970"),
        (TimeForm(unit="s"), "1e9999999", "wrong_type", "give a number of s since 1970, of a time"),
        (TimeForm(), "2017-04-19 09:00", "time_zone_missing", "with --time-zone, such as UTC"),
        (TimeForm(ZoneInfo("America/New_York")), "2026-03-08 02:30", "no_such_time",
         "does not exist in America/New_York"),
        (TimeForm(ZoneInfo("America/New_York")), "2025-11-02 01:30", "ambiguous_time",
         "came twice in America/New_York: the clock was put back then. Give it with its offset,"
         " such as 2025-11-02T01:30:00-04:00, or in UTC."),
    ],
)  # fmt: skip
def test_error_about_a_time_that_cannot_be_read_says_what_helps(
    times: TimeForm, text: str, code: str, words: str
) -> None:
    found = times.read(text)
    assert isinstance(found, WrongTime)
    assert found.code == code
    assert words in found.message
