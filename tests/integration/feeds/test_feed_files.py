"""What `feed append` says about stored rows after a failure; imports beside other appends."""

from __future__ import annotations

import json
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError

from portfolios.feeds.log import HeadMoved
from portfolios.models import FeedRecord, FeedWriter
from scheduling.errors import Refused
from scheduling.management.commands import feed as feed_command
from scheduling.operations import feed_imports, feeds
from scheduling.operations.feeds import NewInstrument, create_feed
from scheduling.recorded_feeds.stream_appends import MayBeStored
from tests.support.patches import note_calls, raising

pytestmark = pytest.mark.django_db


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file of four rows, after a blank line, that is appended in two parts to feed fx."""
    create_feed("fx", [NewInstrument("EURUSD", Decimal("0.00001"))], actor="t")
    monkeypatch.setattr(feeds, "MAX_ROWS", 2)
    path = tmp_path / "rows.jsonl"
    path.write_text("\n" + "\n".join(map(row, range(1, 5))))
    return path


def row(minute: int) -> str:
    at = f"2026-11-02T10:{minute:02}:00Z"
    prices = dict.fromkeys(("open", "high", "low", "close"), "1.10000")
    return json.dumps({"symbol": "EURUSD", "time": at, **prices, "volume": 1})


def numbered(number: int) -> tuple[str, ...]:
    return "--source", "file", "--number", str(number)


def refusal(path: Path, *options: str) -> dict[str, Any]:
    """Return the document of a refused `feed append`."""
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("feed", "append", "fx", str(path), *options, "--json", stdout=out)
    return dict(json.loads(out.getvalue()))


def fail_at(monkeypatch: pytest.MonkeyPatch, part: int, error: BaseException) -> None:
    """Let the append of a part of the file, from 1 on, raise an error instead."""
    append, parts = feeds.append_rows, iter(range(1, 100))

    def instead(*arguments: Any) -> Any:
        if next(parts) == part:
            raise error
        return append(*arguments)

    monkeypatch.setattr(feeds, "append_rows", instead)


@pytest.mark.parametrize("part", [1, 2])
def test_failed_append_that_may_be_stored_says_to_compare_the_feed_head_with_the_file(
    rows: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    fail_at(monkeypatch, part, MayBeStored("feed_unavailable", "It was stored.", status=503))
    found = refusal(rows)
    stored = "The 2 rows up to line 3 are stored. " if part == 2 else ""
    compare = "Compare the head of the feed with the file before you go on."
    assert found == {"code": "feed_unavailable", "message": f"It was stored. {stored}{compare}"}


def test_failed_numbered_append_that_may_be_stored_says_to_repeat_the_command(
    rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(monkeypatch, 2, MayBeStored("feed_unavailable", "It was stored.", status=503))
    found = refusal(rows, *numbered(1))
    assert "Repeat the command with the same --source and --number" in found["message"]
    assert (found["rows"], found["line"]) == (2, 3)


def test_failed_append_that_stored_nothing_says_after_which_line_to_go_on(
    rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(monkeypatch, 2, Refused("feed_unavailable", "Nothing was appended.", status=503))
    found = refusal(rows)
    assert found["message"].endswith("Append only the rows after line 3 when you repeat it.")
    assert (found["rows"], found["line"]) == (2, 3)


def test_refused_repeat_of_a_file_that_grew_says_which_rows_are_stored(rows: Path) -> None:
    whole = rows.read_text()
    rows.write_text("\n".join(whole.splitlines()[:4]))
    call_command("feed", "append", "fx", str(rows), *numbered(1), stdout=StringIO())
    rows.write_text(whole)
    found = refusal(rows, *numbered(1))
    assert found["code"] == "source_conflict"
    assert found["message"].endswith("under a number over 2. The 2 rows up to line 3 are stored.")
    assert FeedRecord.objects.count() == 3


def test_refused_append_under_a_forgotten_number_claims_no_stored_rows(rows: Path) -> None:
    call_command("feed", "append", "fx", str(rows), *numbered(5), stdout=StringIO())
    found = refusal(rows, *numbered(3))
    assert found["code"] == "source_conflict"
    assert found["message"].endswith("send them under a number over 6.")
    assert found["rows"] == 0


def test_append_that_fails_after_many_others_says_to_go_on_with_the_next_number(
    rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_command, "KEPT_APPENDS", 2)
    rows.write_text(f"{rows.read_text()}\n" + "{")
    message = refusal(rows, *numbered(1))["message"]
    assert "Append only the rows after line 5, with the same --source and --number 3." in message
    assert "Repeat" not in message


@pytest.mark.parametrize(
    ("error", "code"),
    [(OperationalError("gone"), "unavailable"), (KeyboardInterrupt(), "interrupted")],
)
def test_interrupted_append_says_what_is_stored(
    rows: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: str
) -> None:
    fail_at(monkeypatch, 2, error)
    out, told = StringIO(), StringIO()
    with pytest.raises(CommandError):
        call_command("feed", "append", "fx", str(rows), "--json", stdout=out, stderr=told)
    assert json.loads(out.getvalue())["code"] == code
    assert told.getvalue().startswith("The 2 rows up to line 3 are stored. Compare the head")


@pytest.fixture
def plan(tmp_path: Path) -> feed_imports.ImportPlan:
    path = tmp_path / "new.csv"
    path.write_text("symbol,time,price,quantity\nKO,2026-11-02T10:00:00Z,10.5,1\n")
    return feed_imports.ImportPlan("new", str(path))


def test_import_into_a_feed_that_was_just_created_in_a_stream_is_refused(
    plan: feed_imports.ImportPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = feed_imports._accepted

    def after_creation(*arguments: Any) -> Any:
        create_feed("new", [], actor="somebody")
        FeedWriter.objects.update(in_stream=True)
        return accepted(*arguments)

    monkeypatch.setattr(feed_imports, "_accepted", after_creation)
    with pytest.raises(Refused, match="has just created feed new") as refused:
        feed_imports.import_csv(plan, actor="t")
    assert refused.value.code == "feed_busy"
    assert not FeedRecord.objects.exists()


def test_import_prepares_its_rows_once_for_each_of_its_tries(
    plan: feed_imports.ImportPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = note_calls(monkeypatch, feed_imports, "_prepare_and_undo")
    late = HeadMoved("Another append came first.")
    monkeypatch.setattr(feed_imports, "_append_all", raising(late))
    with pytest.raises(Refused, match="got other rows during each of 3 tries"):
        feed_imports.import_csv(plan, actor="t")
    assert len(prepared) == 3


@pytest.mark.parametrize("content", ["时间,price,quantity\n".encode("gbk"), b"PAR1\x15\x84"])
def test_import_of_a_file_that_is_not_utf_8_says_what_helps(
    plan: feed_imports.ImportPlan, content: bytes
) -> None:
    Path(plan.path).write_bytes(content)
    helps = (
        r"is not text in UTF-8\. Convert it, .* a Parquet file is read by `manage.py feed record`"
    )
    with pytest.raises(Refused, match=helps):
        feed_imports.import_csv(plan, actor="t")
