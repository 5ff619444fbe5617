"""File sources: each appended row is read once, from the cursor on."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from portfolios.feeds.columns import TimeForm
from scheduling.recorded_feeds.sources import files, parquet
from scheduling.recorded_feeds.sources.base import FileLayout, Item, SourceLost
from scheduling.recorded_feeds.sources.files import FileSource

LAYOUT = FileLayout(symbol="EURUSD", times=TimeForm(ZoneInfo("UTC")))
HEADER = "time,price,quantity\n"


class Reading:
    """A source being read."""

    def __init__(self, source: FileSource, cursor: str = "") -> None:
        self.source = source
        self._items = source.items(cursor)
        self.read: list[Item] = []

    async def rows(self, count: int) -> list[Any]:
        """Return the prices of the next `count` rows."""
        async with asyncio.timeout(20):
            while len(self.read) < count:
                self.read += await anext(self._items)
        found, self.read = self.read[:count], self.read[count:]
        self.cursor = self.source.cursor_after(found)
        return [item.row.get("price") if isinstance(item.row, dict) else item.row for item in found]

    async def lost(self) -> str:
        """Return why the source cannot go on."""
        with pytest.raises(SourceLost) as lost:
            async with asyncio.timeout(20):
                await anext(self._items)
        return str(lost.value)

    async def end(self) -> None:
        await self._items.aclose()  # type: ignore[attr-defined]


@asynccontextmanager
async def reading(path: Path, cursor: str = "", **options: Any) -> AsyncIterator[Reading]:
    one = Reading(FileSource(path, LAYOUT, **options), cursor)
    yield one
    await one.end()


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def lines(*prices: int) -> str:
    return "".join(f"2026-11-02T10:{price % 60:02}:00,{price},1\n" for price in prices)


async def test_rows_are_read_as_they_are_appended_but_not_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "fx.csv"
    async with reading(path) as one:
        coming = asyncio.create_task(one.rows(2))
        await asyncio.sleep(0)  # the file does not exist yet
        add(path, "time,pri")
        add(path, "ce,quantity\n" + lines(1) + "2026-11-02T10:02:00,")
        add(path, "2,1\n")
        assert await coming == ["1", "2"]
        add(path, "\n" + lines(3))
        assert await one.rows(1) == ["3"]
        assert json.loads(one.cursor)["line"] == 5


async def test_row_has_the_configured_symbol_and_zone_and_its_line(tmp_path: Path) -> None:
    path = tmp_path / "fx.csv"
    path.write_text(HEADER + lines(1))
    source = FileSource(path, LAYOUT)
    [item] = await anext(source.items(""))
    assert item.row == {
        "time": "2026-11-02T10:01:00+00:00", "price": "1", "quantity": "1", "symbol": "EURUSD",
    }  # fmt: skip
    assert item.origin == "fx.csv, line 2"


async def test_file_source_continues_after_its_cursor(tmp_path: Path) -> None:
    path = tmp_path / "fx.csv"
    path.write_text(HEADER + lines(1, 2, 3))
    async with reading(path) as one:
        await one.rows(2)
    add(path, lines(4))
    async with reading(path, one.cursor) as two:
        assert await two.rows(2) == ["3", "4"]


async def test_a_file_that_is_rotated_is_read_to_its_end_first(tmp_path: Path) -> None:
    path = tmp_path / "fx.csv"
    path.write_text(HEADER + lines(1))
    async with reading(path) as one:
        assert await one.rows(1) == ["1"]
        path.rename(tmp_path / "fx.csv.1")
        add(tmp_path / "fx.csv.1", lines(2))
        path.touch()
        assert await one.rows(1) == ["2"]
        add(path, HEADER + lines(3))
        assert await one.rows(1) == ["3"]


async def test_a_file_that_was_cut_or_replaced_is_refused_and_can_be_begun_anew(
    tmp_path: Path,
) -> None:
    path = tmp_path / "fx.csv"
    path.write_text(HEADER + lines(1, 2))
    async with reading(path) as one:
        await one.rows(2)
        path.write_text(HEADER)
        assert "was cut to 20 bytes after" in await one.lost()
    path.write_text(HEADER + lines(7, 8, 9))
    async with reading(path, one.cursor) as two:
        said = await two.lost()
        assert "is not the file that was recorded up to byte" in said
        assert "--from-start" in said
    async with reading(path, one.cursor, from_start=True) as three:
        assert await three.rows(3) == ["7", "8", "9"]


async def test_files_of_a_folder_are_read_in_the_order_of_their_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "notes.txt").write_text("not this one")
    (tmp_path / "02.csv").write_text(HEADER + lines(1, 2).removesuffix("\n"))
    async with reading(tmp_path, pattern="*.csv") as one:
        assert await one.rows(1) == ["1"]
        (tmp_path / "03.csv").write_text(HEADER + lines(3))
        assert await one.rows(2) == ["2", "3"]  # the last line of a file that has ended counts
        with caplog.at_level(logging.WARNING):
            (tmp_path / "01.csv").write_text(HEADER + lines(0))
            (tmp_path / "04.csv").write_text(HEADER + lines(4))
            assert await one.rows(1) == ["4"]
        assert (
            "01.csv is not recorded: it appeared after 03.csv, whose name is later, had been begun"
            in caplog.text
        )
    add(tmp_path / "04.csv", lines(5))
    async with reading(tmp_path, one.cursor, pattern="*.csv") as two:
        assert await two.rows(1) == ["5"]
    (tmp_path / "04.csv").unlink()
    async with reading(tmp_path, one.cursor, pattern="*.csv") as three:
        assert "no longer has the file '04.csv'" in await three.lost()


async def test_a_file_that_is_removed_after_it_was_listed_does_not_end_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduling.recorded_feeds.sources.files.LOOK_S", 0.0)
    add(tmp_path / "a.csv", HEADER + lines(1))
    async with reading(tmp_path) as source:
        assert await source.rows(1) == ["1"]
        listed = iter([["a.csv", "b.csv"]])  # and b.csv is not there any more
        names = source.source._names
        monkeypatch.setattr(source.source, "_names", lambda: next(listed, None) or names())
        add(tmp_path / "c.csv", HEADER + lines(3))
        assert await source.rows(1) == ["3"]


async def test_lines_that_are_not_rows_are_passed_on_to_be_refused(tmp_path: Path) -> None:
    path = tmp_path / "fx.jsonl"
    path.write_bytes(b'{"price": 1.10}\nnonsense\n\xff\n[]\n{"price": 2}\n')
    async with reading(path) as one:
        assert [str(row) for row in await one.rows(5)] == [
            "1.10", "b'nonsense'", "b'\\xff'", "b'[]'", "2",
        ]  # fmt: skip
    path = tmp_path / "fx.csv"
    path.write_text(f'time,price,quantity\n"x,1,1\n{lines(2)}')
    async with reading(path) as one:
        assert [str(row) for row in await one.rows(2)] == ["b'\"x,1,1'", "2"]


async def test_json_lines_are_read_by_the_stated_names_symbol_and_zone(tmp_path: Path) -> None:
    path = tmp_path / "fx.jsonl"
    layout = FileLayout({"price": "p"}, "EURUSD", TimeForm(ZoneInfo("Asia/Shanghai")))
    add(path, '{"time": "2026-11-02T10:00", "p": 1.1, "quantity": 1, "symbol": "EUR"}\n')
    add(path, '{"kind": "tick", "time": " 2026-11-02T10:01 "}\n{"time": [1], "p": 2}\n')
    one = Reading(FileSource(path, layout))
    one.read += await anext(one._items)
    await one.end()
    assert [item.row for item in one.read] == [
        {"time": "2026-11-02T10:00:00+08:00", "price": Decimal("1.1"), "quantity": 1,
         "symbol": "EURUSD"},
        {"kind": "tick", "time": "2026-11-02T10:01:00+08:00"},
        {"time": [1], "price": 2, "symbol": "EURUSD"},
    ]  # fmt: skip


async def test_json_lines_may_state_their_times_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "fx.ndjson"
    add(path, '{"time": 1793613600.5, "price": 1, "quantity": 1, "symbol": "EURUSD"}\n')
    one = Reading(FileSource(path, FileLayout(times=TimeForm(unit="s"))))
    one.read += await anext(one._items)
    await one.end()
    assert one.read[0].row["time"] == "2026-11-02T10:00:00.500000Z"


async def test_a_file_that_is_not_text_or_lacks_a_column_is_refused_with_a_sentence(
    tmp_path: Path,
) -> None:
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\x00" * 300_000)
    async with reading(binary) as one:
        assert "over 65,536 bytes without an end of line" in await one.lost()
    headless = tmp_path / "headless.csv"
    headless.write_text(lines(1, 2))
    async with reading(headless) as two:
        assert "has no column for time: name it with --column time=HEADER" in await two.lost()
    foreign = tmp_path / "foreign.csv"
    for encoding in ("gbk", "utf-16"):
        foreign.write_text("时间,price,quantity\n" + lines(1, 2), encoding=encoding)
        async with reading(foreign) as other:
            assert "foreign.csv, line 1: the header is not text in UTF-8" in await other.lost()
    async with reading(headless, '{"numbers": {}, "heard_us": 1}') as three:
        assert "was recorded from another source" in await three.lost()


def write_parquet(path: Path, *prices: float | Decimal, kind: Any = None, **columns: Any) -> None:
    """Write trades of these prices, two rows in a group."""
    minutes = [datetime(2026, 11, 2, 10, minute + 1, tzinfo=UTC) for minute in range(len(prices))]
    facts = {"time": pa.array(minutes, pa.timestamp("ns", "UTC")), "venue": ["x"] * len(prices),
             "price": pa.array(prices, kind), "quantity": [1] * len(prices), **columns}  # fmt: skip
    pq.write_table(pa.table(facts), path, row_group_size=2)


async def test_rows_of_a_parquet_file_have_the_same_texts_as_those_of_a_csv_file(
    tmp_path: Path,
) -> None:
    write_parquet(tmp_path / "1.parquet", 1.07083, kind=pa.float32())
    write_parquet(tmp_path / "2.parquet", Decimal("1.07080"), kind=pa.decimal128(9, 5))
    write_parquet(tmp_path / "3.parquet", 1.1, quantity=pa.array([None], pa.int64()))
    items = FileSource(tmp_path, LAYOUT).items("")
    [first], [second], [third] = [await anext(items) for _ in range(3)]
    assert first.row == {
        "time": "2026-11-02 10:01:00.000000Z", "price": "1.07083", "quantity": "1",
        "symbol": "EURUSD",
    }  # fmt: skip
    assert first.origin == "1.parquet, row 1"
    assert (second.row["price"], third.row["quantity"]) == ("1.07080", "")


async def test_date_and_time_columns_of_a_parquet_file_are_one_time(tmp_path: Path) -> None:
    clock = pa.array([time(9, 30)], pa.time64("us"))
    write_parquet(tmp_path / "1.parquet", 1.1, time=clock, date=pa.array([date(2026, 11, 2)]))
    [item] = await anext(FileSource(tmp_path, LAYOUT).items(""))
    assert item.row["time"] == "2026-11-02T09:30:00+00:00"


async def test_a_parquet_file_is_read_once_it_is_whole_and_from_the_cursor_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "AT_ONCE", 2)
    path = tmp_path / "1.parquet"
    write_parquet(tmp_path / "whole", 1, 2, 3, 4, 5)
    whole = (tmp_path / "whole").read_bytes()
    path.write_bytes(whole[:-7])
    async with reading(tmp_path, pattern="*.parquet") as one:
        coming = asyncio.create_task(one.rows(3))
        await asyncio.sleep(0)  # it is being written
        path.write_bytes(whole)
        assert await coming == ["1", "2", "3"]
    async with reading(tmp_path, one.cursor, pattern="*.parquet") as two:
        assert await two.rows(2) == ["4", "5"]
        write_parquet(tmp_path / "2.parquet", 6)
        assert await two.rows(1) == ["6"]
    write_parquet(path, 7, 8, 9, 10)
    async with reading(tmp_path, one.cursor, pattern="*.parquet") as three:
        assert "is not the file of which 3 rows were recorded" in await three.lost()


def test_a_parquet_file_that_was_moved_away_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "1.parquet"
    path.write_bytes(b"PAR1 being written")
    opened = parquet.ParquetFile(path, LAYOUT)
    path.unlink()
    assert opened.read() == []
    write_parquet(path, 1, 2)
    assert [item.row["price"] for item in opened.read()] == ["1", "2"]


@pytest.mark.parametrize("again", [False, True], ids=["moved away", "written again"])
def test_parquet_file_that_was_not_whole_and_went_away_is_passed_over(
    tmp_path: Path, again: bool
) -> None:
    path = tmp_path / "1.parquet"
    path.write_bytes(b"PAR1 being written")
    opened = parquet.ParquetFile(path, LAYOUT)
    if again:
        (tmp_path / "other").write_bytes(b"PAR1 begun again")
        (tmp_path / "other").rename(path)
    else:
        path.unlink()
    assert opened.read(is_complete=True) == []


async def test_parquet_file_that_is_written_again_is_recorded_though_another_follows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOOK_S", 0)
    path = tmp_path / "1.parquet"
    path.write_bytes(b"PAR1 being written")
    write_parquet(tmp_path / "2.parquet", 2)

    class BegunAgain(parquet.ParquetFile):
        """At the first look of `is_complete` another file has the name, and is being written."""

        def read(self, *, is_complete: bool = False) -> list[Item]:
            if is_complete and not (tmp_path / "old").exists():
                path.rename(tmp_path / "old")
                path.write_bytes(b"PAR1 begun again")
                found = super().read(is_complete=True)
                write_parquet(path, 1)
                return found
            return super().read(is_complete=is_complete)

    monkeypatch.setattr(parquet, "ParquetFile", BegunAgain)
    async with reading(tmp_path, pattern="*.parquet") as one:
        assert await one.rows(2) == ["1", "2"]


def test_a_parquet_file_that_cannot_be_opened_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "1.parquet"
    path.write_bytes(b"PAR1 being written")
    opened = parquet.ParquetFile(path, LAYOUT)
    path.unlink()
    path.mkdir()
    with pytest.raises(SourceLost, match=r"1\.parquet cannot be opened: Is a directory\."):
        opened.read()


async def test_a_parquet_file_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    (tmp_path / "1.parquet").write_bytes(b"PAR1 no footer")
    (tmp_path / "2.parquet").write_bytes(b"PAR1 garbage PAR1")
    async with reading(tmp_path) as one:
        assert "1.parquet is not a whole Parquet file, though a later" in await one.lost()
    (tmp_path / "1.parquet").unlink()
    async with reading(tmp_path) as two:
        assert "2.parquet cannot be read as Parquet after row 0: " in await two.lost()
    pq.write_table(pa.table({"price": [1.0]}), tmp_path / "2.parquet")
    async with reading(tmp_path) as three:
        assert "2.parquet has no column for time: name it with" in await three.lost()


async def test_a_folder_that_cannot_be_listed_is_reported_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files.os, "scandir", denied)
    async with reading(tmp_path) as one:
        told = await one.lost()
    assert told == f"{tmp_path} cannot be read: Permission denied. Let the recorder's user read it."
