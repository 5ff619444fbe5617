"""Recorded feeds through the API and the command: what is refused, and that nothing is lost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.utils import timezone

from chaos.harness.nats_server import NatsServer
from portfolios.models import FeedRecord, FeedRow, FeedWriter, Instrument, Portfolio
from portfolios.strategies.base import FieldError
from portfolios.strategies.buy_and_hold import BuyAndHold
from scheduling.db.transaction import execute
from scheduling.enact import feed_records
from scheduling.enact.alerts import update_alerts
from scheduling.enact.feed_records import retention
from scheduling.errors import Invalid
from scheduling.models import Alert, Event
from scheduling.operations import feeds
from scheduling.operations.feed_checks import check_feed
from scheduling.operations.feeds import NewInstrument, append_rows, create_feed, read_instrument
from scheduling.operations.portfolios import NewPortfolio, create_portfolio
from scheduling.permissions import Role
from scheduling.recorded_feeds.jetstream.jetstream_log import JetStreamLog
from scheduling.recorded_feeds.jetstream.stream import Stream, connected
from scheduling.recorded_feeds.reads import delete_stream, nats_url
from scheduling.retention import delete_rows
from scheduling.timing import timing
from tests.support.api_client import ApiClient, make_user, problem
from tests.support.commands import told

pytestmark = pytest.mark.django_db


def bar(minute: int, symbol: str = "EURUSD", **changes: Any) -> dict[str, Any]:
    at = f"2026-11-02T10:{minute:02}:00Z"
    prices = {"open": "1.07083", "high": "1.07090", "low": "1.07001", "close": "1.07050"}
    return {"symbol": symbol, "time": at, **prices, "volume": 3} | changes


@pytest.fixture
def fx(operator: ApiClient) -> ApiClient:
    """Return a client of a feed whose tick is 0.00001."""
    create_feed("fx", [NewInstrument("EURUSD", Decimal("0.00001")), NewInstrument("KO")], actor="t")
    return operator


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    one = NatsServer(tmp_path_factory.mktemp("nats"))
    one.start()
    yield one
    one.kill()


@pytest.fixture(params=["postgresql", "jetstream"])
def either(
    request: pytest.FixtureRequest, operator: ApiClient, settings: Any
) -> Iterator[ApiClient]:
    """Return a client of the feed fx of the fixture above, in the database or in a stream."""
    in_stream = request.param == "jetstream"
    if in_stream:
        url = request.getfixturevalue("nats_server").url
        settings.GINKGO = replace(settings.GINKGO, nats_url=url)
    instruments = [NewInstrument("EURUSD", Decimal("0.00001")), NewInstrument("KO")]
    create_feed("fx", instruments, in_stream=in_stream, actor="t")
    yield operator
    if in_stream:
        delete_stream("fx")


def append(client: ApiClient, *rows: Any, **source: Any) -> Any:
    return client.post("feeds/fx/append/", {"rows": rows, **source})


def need_feed() -> None:
    given = NewPortfolio("euro", "buy_and_hold", symbols=["EURUSD"], feed="fx")
    create_portfolio(given, actor="test")


#: Row → the code of its error and part of the message.
WRONG_ROWS = [
    (bar(1), "duplicate_time", "EURUSD already has a record at 2026-11-02T10:01:00Z."),
    (bar(0), "time_goes_back", "EURUSD at 2026-11-02T10:00:00Z is earlier than 2026-11-02T10:01"),
    (bar(2, open="1.070835"), "off_tick", "open 1.070835 is not a multiple of the tick 0.0000"),
    (bar(2, "GBPUSD"), "unknown_symbol", "'GBPUSD' is not an instrument of the feed, which"),
    (bar(2, time="2026-11-02T10:02:00"), "time_zone_missing", "no time zone: end it with Z"),
    (bar(2, time="yesterday"), "wrong_type", "give ISO 8601, such as 2026-01-31T14:30:00Z."),
    (bar(2, low="1.08"), "outside_range", "must lie from low 1.08 to high 1.07090."),
    (bar(2, close=None), "required", "close is missing."),
    (bar(2, close="NaN"), "wrong_type", "close is 'NaN'; give a decimal number."),
    (bar(2, close="1.07_05"), "wrong_type", "close is '1.07_05'; give a decimal number."),
    (bar(2, close="-1"), "out_of_range", "close is -1; it must be over 0."),
    (bar(2, volume="0.5"), "off_lot", "volume 0.5 is not a multiple of the lot 1."),
    (bar(2, adjusted=1), "unknown_field", "a bar has no adjusted; it has close, high"),
    ({"kind": "book"}, "unknown_kind", "kind is 'book'; use one of bar, trade, quote"),
    ({"symbol": "KO", "time": "2026-11-02T10:02:00Z", "bid": 2, "ask": 1}, "crossed", "above"),
    ("EURUSD", "wrong_type", "is not an object"),
]


def test_append_with_a_wrong_row_names_the_number_of_that_row_and_writes_nothing(
    either: ApiClient,
) -> None:
    assert append(either, bar(1)).status_code == 200
    for row, code, words in WRONG_ROWS:
        answer = append(either, bar(5, "KO", open="7", high="9", low="6", close="8"), row)
        (found,) = problem(answer, 400, "invalid")["errors"]
        assert (found["field"], found["code"]) == ("rows.2", code)
        assert found["message"].startswith("row 2: ")
        assert words in found["message"]
    assert check_feed("fx").records == FeedWriter.objects.get().head == 1


def test_bars_trades_and_quotes_are_stored_with_their_exact_prices(either: ApiClient) -> None:
    at = "2026-11-02T10:02:00+07:00"
    answer = append(
        either, bar(1), {"symbol": "KO", "time": at, "price": 68.25, "quantity": 10},
        {"symbol": "EURUSD", "time": "2026-11-02T10:03:00Z", "bid": "1.07083", "ask": "1.07091"},
        {"kind": "tick", "time": at},
    )  # fmt: skip
    assert answer.json() == {"from_seq": 1, "to_seq": 4, "repeated": False, "missing": None}
    events = either.get("feed/", feed="fx").json()["results"]
    assert [(e["seq"], e["symbol"], e["close"]) for e in events[:3]] == [
        (1, "EURUSD", "1.07050"), (2, "KO", "68.2500"), (3, "EURUSD", "1.07087"),
    ]  # fmt: skip
    problem(either.get("feed/", feed="none"), 404, "not_found")
    document = either.get("feeds/fx/").json()
    assert (document["head"], document["kind"], document["portfolios"]) == (4, "recorded", [])


def test_a_repeated_append_answers_as_before_and_missing_numbers_are_named(
    either: ApiClient,
) -> None:
    first = append(either, bar(1), source="ib", number=1)
    again = append(either, bar(1), source="ib", number=1)
    assert again.json() == {**first.json(), "repeated": True}
    other = append(either, bar(2), source="ib", number=1)
    assert "give each a name of its own" in problem(other, 409, "source_conflict")["detail"]
    assert append(either, bar(3), source="ib", number=4).json()["missing"] == [2, 3]
    assert check_feed("fx").records == 2


def test_a_feed_with_a_recorder_takes_no_other_appends(either: ApiClient) -> None:
    _claim("fx", "recorder-1")
    found = problem(append(either, bar(1)), 409, "recorded_elsewhere")
    assert "recorded by recorder-1 (epoch 1)" in found["detail"]


def _claim(feed: str, writer: str) -> None:
    if not FeedWriter.objects.get().in_stream:
        execute(feed_records.claim(feed, writer))
        return

    async def claim() -> None:
        async with connected(nats_url()) as client:
            await JetStreamLog(Stream(client, feed)).claim(writer)

    asyncio.run(claim())


def test_removal_of_a_feed_in_use_is_refused_and_names_who_needs_it(fx: ApiClient) -> None:
    need_feed()
    found = problem(fx.delete("feeds/fx/"), 409, "feed_in_use")
    assert found["detail"].endswith("portfolios, also of deleted ones, needs it: euro.")
    Portfolio.objects.update(archived_at=timezone.now())
    again = problem(fx.delete("feeds/fx/"), 409, "feed_in_use")
    assert "euro (deleted)" in again["detail"]


def test_removal_of_a_feed_that_a_concurrent_new_portfolio_needs_drops_nothing(
    fx: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(fx, bar(1), bar(2))
    audit = feeds.audit

    def meanwhile(*given: Any, **named: Any) -> Any:
        need_feed()
        return audit(*given, **named)

    monkeypatch.setattr(feeds, "audit", meanwhile)
    found = problem(fx.delete("feeds/fx/"), 409, "feed_in_use")
    assert "a portfolio was just created on it" in found["detail"]
    assert (FeedRow.objects.filter(name="fx").count(), FeedRecord.objects.count()) == (1, 2)


def test_records_that_an_interrupted_removal_left_are_dropped_by_the_next_pass(
    fx: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "DROP_AT_ONCE", 1)
    append(fx, bar(1), bar(2))
    create_feed("kept", [NewInstrument("EURUSD", Decimal("0.00001"))], actor="t")
    append_rows("kept", [bar(1)])
    FeedRow.objects.get(name="fx").delete()
    assert FeedRecord.objects.count() == 3
    delete_rows(time.monotonic() + 60)
    assert [record.feed.name for record in FeedRecord.objects.select_related("feed")] == ["kept"]


def test_a_feed_that_nobody_needs_is_removed_with_its_records(fx: ApiClient) -> None:
    append(fx, bar(1))
    assert fx.delete("feeds/fx/").status_code == 204
    assert FeedRecord.objects.count() == 0
    problem(fx.get("feeds/fx/"), 404, "not_found")


def test_a_portfolio_may_use_symbols_of_its_own_feed_only(
    operator: ApiClient, fx: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    none_given = [FieldError("symbols", "required", "none given")]
    monkeypatch.setattr(BuyAndHold, "check", lambda _, symbols: [] if symbols else none_given)
    body = {"name": "e", "strategy": "buy_and_hold", "symbols": ["EURUSD"], "feed": "fx"}
    assert operator.post("portfolios/", body).json()["feed"] == "fx"
    wrong = operator.post("portfolios/", {**body, "name": "i", "symbols": ["IBM"]})
    assert problem(wrong, 400, "invalid")["errors"][0]["code"] == "unknown_symbol"
    none = operator.post("portfolios/", {**body, "name": "i", "feed": "fy"})
    errors = problem(none, 400, "invalid")["errors"]
    assert [error["code"] for error in errors] == ["unknown_feed"]
    default = operator.post("portfolios/", {**body, "name": "k", "symbols": ["KO"], "feed": ""})
    assert default.json()["feed"] == "replay"


def test_records_are_dropped_only_below_every_cursor_and_never_silently(
    fx: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "WARM_UP_SPAN", 0)
    append(fx, *(bar(minute) for minute in range(10)))
    FeedRow.objects.filter(name="fx").update(keep_days=1)
    day_ago = int((timezone.now() - timedelta(days=2)).timestamp() * 1e6)
    FeedRecord.objects.filter(seq__lte=8).update(released_us=day_ago)
    need_feed()
    Portfolio.objects.update(first_seq=5)
    assert execute(feed_records.drop_due()) == {"fx": 4}
    assert execute(feed_records.drop_due()) == {}
    assert execute(feed_records.drop_records(FeedRow.objects.get(name="fx").pk, 6)) is None
    assert FeedWriter.objects.get().first_seq == 5
    assert sorted(FeedRecord.objects.values_list("seq", flat=True)) == [5, 6, 7, 8, 9, 10]
    line = Event.objects.get(kind="feed_records_dropped")
    assert line.data == {"feed": "fx", "records": 4, "first_seq": 5}


def test_records_of_one_feed_are_dropped_in_a_transaction(fx: ApiClient) -> None:
    create_feed("fy", [NewInstrument("EURUSD", Decimal("0.00001"))], actor="test")
    for name in ("fx", "fy"):
        append_rows(name, [bar(1), bar(2)])
    FeedRow.objects.filter(name__in=("fx", "fy")).update(keep_days=1)
    FeedRecord.objects.update(released_us=1)
    first, second = execute(feed_records.drop_due()), execute(feed_records.drop_due())
    assert sorted([*first.items(), *second.items()]) == [("fx", 1), ("fy", 1)]
    assert len(first) == len(second) == 1


def test_retention_keeps_the_newest_record_for_a_portfolio_that_begins_there(fx: ApiClient) -> None:
    append(fx, *(bar(minute) for minute in range(3)))
    FeedRow.objects.filter(name="fx").update(keep_days=1)
    FeedRecord.objects.update(released_us=1)  # the feed is silent, and nobody uses it
    assert execute(feed_records.drop_due()) == {"fx": 2}
    assert execute(feed_records.drop_due()) == {}
    assert execute(feed_records.drop_records(FeedRow.objects.get(name="fx").pk, 4)) is None
    need_feed()
    assert Portfolio.objects.get().first_seq >= FeedWriter.objects.get().first_seq
    assert FeedRecord.objects.filter(seq=Portfolio.objects.get().first_seq).exists()


def test_a_silent_feed_that_a_portfolio_needs_is_an_alert_until_the_next_record(
    fx: ApiClient,
) -> None:
    FeedRow.objects.filter(name="fx").update(silent_after_s=60)
    FeedWriter.objects.update(released_at=timezone.now() - timedelta(seconds=90))
    execute(update_alerts(timing()))
    assert not Alert.objects.filter(kind="feed_silent").exists()  # nobody needs it
    need_feed()
    execute(update_alerts(timing()))
    alert = Alert.objects.get(kind="feed_silent")
    assert alert.reason.endswith(", limit 60 s; portfolios that need it: euro")
    append(fx, bar(1))
    execute(update_alerts(timing()))
    alert.refresh_from_db()
    assert alert.closed_at is not None


HEADER = "Date,Open,High,Low,Close,Volume\n"
GOOD = "2026-11-02 10:00,1.07083,1.07090,1.07001,1.07050,1\n"
LATER = "2026-11-02 11:00,1.07083,1.07090,1.07001,1.07050,1\n"


def run(*arguments: str) -> dict[str, Any]:
    return dict(told("feed", *arguments))


def test_imports_and_appends_add_to_one_feed_in_turn(either: ApiClient, tmp_path: Path) -> None:
    assert append(either, bar(1)).status_code == 200
    path = tmp_path / "eur.csv"
    path.write_text(HEADER + LATER + LATER + LATER.replace("11:00", "12:00"))
    zone = ("--symbol", "EURUSD", "--time-zone", "UTC")
    with pytest.raises(CommandError, match=r"line 3.*already has a record"):
        run("import", "fx", str(path), *zone)
    assert check_feed("fx").records == 1
    done = run("import", "fx", str(path), *zone, "--skip-bad")
    assert (done["rows"], done["from_seq"], done["to_seq"]) == (2, 2, 3)
    assert [line["row"] for line in done["skipped"]] == [3]
    rows = tmp_path / "rows.jsonl"
    row = json.dumps(bar(1, "KO", open="7", high="9", low="6", close="8"))
    rows.write_text(row, encoding="utf-8-sig")  # with a byte order mark, as PowerShell writes
    given = ("append", "fx", str(rows), "--source", "file", "--number", "1")
    assert run(*given) == run(*given) == {"rows": 1, "to_seq": 4}
    assert check_feed("fx").records == 4


def test_import_with_skip_bad_leaves_out_and_names_rows_after_a_time_hole(tmp_path: Path) -> None:
    path = tmp_path / "eur.csv"
    path.write_text(HEADER + GOOD + LATER + LATER.replace("11:00", "11:01"))
    given = ("import", "eur", str(path), "--symbol", "E", "--time-zone", "UTC", "--hole", "60")
    done = run(*given, "--skip-bad")
    assert (done["rows"], done["to_seq"]) == (1, 1)
    assert [line["row"] for line in done["skipped"]] == [3, 4]
    assert FeedRecord.objects.count() == 1


def test_import_with_skip_bad_leaves_out_lines_with_an_invalid_symbol(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    rows = ("A,1,1", "BRK B,2,1", "C,3,1,4", "*,5,1", "A,6,1")
    lines = (f"2026-11-02T10:0{minute}Z,{row}\n" for minute, row in enumerate(rows))
    path.write_text("time,symbol,price,quantity\n" + "".join(lines))
    with pytest.raises(
        CommandError, match=r"line 3: 'BRK B' is not a symbol: .*; line 4: the line"
    ):
        run("import", "all", str(path))
    done = run("import", "all", str(path), "--skip-bad")
    assert (done["rows"], [line["row"] for line in done["skipped"]]) == (2, [3, 4, 5])
    assert list(Instrument.objects.values_list("symbol", flat=True)) == ["A"]


def test_an_instrument_is_added_by_command_while_a_recorder_writes(fx: ApiClient) -> None:
    FeedWriter.objects.update(writer="h:1")
    assert run("add", "fx", "--instrument", "SOL:tick=0.01") == {"instruments": ["SOL"]}
    assert Instrument.objects.get(symbol="SOL").tick_size == Decimal("0.01")
    with pytest.raises(CommandError, match=r"SOL of feed fx has tick 0\.01"):
        run("add", "fx", "--instrument", "SOL")
    with pytest.raises(CommandError, match="--instrument"):
        run("add", "fx")


def test_append_of_a_file_with_a_bad_line_says_what_was_stored(
    either: ApiClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "MAX_ROWS", 2)
    path = tmp_path / "rows.jsonl"
    good = [json.dumps(bar(minute)) for minute in range(1, 5)]
    given = ("append", "fx", str(path))

    path.write_text("\n".join([good[0], "{"]))
    with pytest.raises(CommandError, match=r"line 2: this is not JSON .* No row of the file was"):
        run(*given)
    path.write_text("\n".join([json.dumps(bar(1, close="NaN")), *good]))
    with pytest.raises(CommandError, match=r"row 1: close is 'NaN'.* No row of the file was"):
        run(*given)
    assert check_feed("fx").records == 0

    path.write_text("\n".join([good[0], "", good[1], good[2], "{"]))
    stored = r"The 2 rows up to line 3 are stored\. Append only the rows after line 3"
    with pytest.raises(CommandError, match=rf"line 5: this is not JSON .* {stored}"):
        run(*given)
    assert check_feed("fx").records == 2


def test_numbered_append_that_met_a_bad_row_goes_on_with_the_corrected_file(
    either: ApiClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "MAX_ROWS", 2)
    path = tmp_path / "rows.jsonl"
    good = [json.dumps(bar(minute)) for minute in range(1, 5)]
    given = ("append", "fx", str(path), "--source", "file", "--number", "1")
    path.write_text("\n".join([*good[:2], "", good[2], json.dumps(bar(4, close="NaN"))]))
    out = StringIO()
    with pytest.raises(CommandError, match=r"row 2: .* after line 2\. .* Repeat the command"):
        call_command("feed", *given, "--json", stdout=out)
    document = json.loads(out.getvalue())
    assert (document["code"], document["rows"], document["line"]) == ("invalid", 2, 2)
    path.write_text("\n".join(good))
    assert run(*given) == {"rows": 4, "to_seq": 4}
    assert check_feed("fx").records == 4


def test_a_refused_import_leaves_no_symbols(either: ApiClient, tmp_path: Path) -> None:
    _claim("fx", "recorder-1")
    path = tmp_path / "new.csv"
    path.write_text(HEADER + GOOD)
    with pytest.raises(CommandError, match=r"recorded by recorder-1"):
        run("import", "fx", str(path), "--symbol", "NEW", "--time-zone", "UTC")
    assert not Instrument.objects.filter(symbol="NEW").exists()
    assert not Event.objects.filter(kind="feed_instruments").exists()


def test_import_without_a_time_zone_is_refused_and_imported_records_pass_the_check(
    tmp_path: Path,
) -> None:
    path = tmp_path / "eur.csv"
    path.write_text(HEADER + GOOD + LATER)
    with pytest.raises(CommandError, match="has no time zone"):
        run("import", "eur", str(path), "--symbol", "EURUSD")
    done = run("import", "eur", str(path), "--symbol", "EURUSD", "--time-zone", "America/New_York")
    assert done == {"rows": 2, "from_seq": 1, "to_seq": 2, "skipped": []}
    record = FeedRecord.objects.get(seq=1)
    assert record.time_us == 1_793_631_600_000_000  # 10:00 in New York is 15:00 UTC in November
    assert run("check", "eur") == {"records": 2, "segments": 0}
    assert [feed["name"] for feed in run("list")["results"]] == ["eur"]


def test_list_of_feeds_names_a_feed_without_instruments(capsys: pytest.CaptureFixture[str]) -> None:
    run("create", "empty")
    call_command("feed", "list")
    assert "0 instruments" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "arguments", "where", "words"),
    [
        (HEADER + GOOD + GOOD, [], "line 3", "already has a record"),
        (HEADER + GOOD + LATER, ["--hole", "60"], "line 3", "has a hole of 3,600 s"),
        (HEADER.replace("Close,", "") + GOOD, [], "column", "has no column for close: name it"),
        (
            HEADER + GOOD.replace("1.07050", "1.070501"),
            ["--tick", "0.00001"],
            "line 2",
            "not a multi",
        ),
        (HEADER + GOOD.replace("1.07050", ""), [], "line 2", "close is missing"),
        (HEADER, [], "file", "has no rows below its header"),
        ("", [], "file", "is empty"),
        (HEADER + GOOD + '"' + LATER, [], "file", "is a quote not closed?"),
        (HEADER + GOOD, ["--time-format", "%H:%M"], "time_format", "a form with the year"),
        (HEADER + GOOD, ["--time-unit", "h"], "time_unit", "give one of s, ms, us, ns"),
        (HEADER + (GOOD + LATER).replace("1.07050", "x") * 9, [], "line 2", "… and 13 more."),
    ],
)
def test_refusal_of_a_wrong_file_says_where_and_nothing_is_imported(
    tmp_path: Path, text: str, arguments: list[str], where: str, words: str
) -> None:
    path = tmp_path / "eur.csv"
    path.write_text(text)
    given = ("--symbol", "E", "--time-zone", "UTC", *arguments)
    with pytest.raises(CommandError) as refused:
        call_command("feed", "import", "eur", str(path), *given)
    assert where in str(refused.value)
    assert words in str(refused.value)
    assert not FeedRow.objects.filter(name="eur").exists()


def test_a_source_number_too_far_ahead_is_refused(either: ApiClient) -> None:
    found = problem(append(either, bar(1), source="ib", number=2**62 - 1), 400, "invalid")
    assert "source ib has sent 0 last: at most 1,000,000 may be left out" in found["detail"]
    assert append(either, bar(1), source="ib", number=1_000_001).status_code == 200
    problem(append(either, bar(2), source="ib", number=2_000_003), 400, "invalid")
    assert append(either, bar(2), source="ib", number=1_000_002).status_code == 200


def test_changed_records_are_found_by_the_check(fx: ApiClient) -> None:
    append(fx, bar(1), bar(2))
    FeedRecord.objects.filter(seq=2).update(event=b"other")
    with pytest.raises(CommandError, match="their hash differs from the chain"):
        call_command("feed", "check", "fx")


def test_the_page_of_a_feed_shows_head_silence_gaps_and_prices(
    fx: ApiClient, client: Client
) -> None:
    at = "2026-11-02T10:05:00Z"
    gap = {"kind": "gap", "symbol": "KO", "time": at, "from": "2026-11-02T10:00:00Z", "to": at}
    append(fx, bar(1), gap)
    FeedRow.objects.filter(name="fx").update(silent_after_s=60)
    FeedWriter.objects.update(released_at=timezone.now() - timedelta(seconds=90))
    client.force_login(make_user("vera", Role.VIEWER))
    page = client.get("/feeds/fx/").content.decode()
    assert "1.07050" in page
    assert "Gaps that a source reported" in page
    assert "silent" in page
    assert "/feeds/fx/" in client.get("/feeds/").content.decode()
    assert client.get("/feeds/none/").status_code == 404


def test_instruments_given_again_count_once_towards_the_limit_of_a_feed(
    fx: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "MAX_INSTRUMENTS", 2)
    assert fx.post("feeds/fx/instruments/", {"instruments": {"KO": {}}}).status_code == 200
    answer = fx.post("feeds/fx/instruments/", {"instruments": {"KO": {}, "GE": {}}})
    said = problem(answer, 400, "invalid")["detail"]
    assert "Feed fx would have 3 instruments; 2 are allowed." in said


@pytest.mark.parametrize(
    "given", [{"scale": [1]}, {"scale": {}}, {"lot": "1e-400000000"}, {"tick": "1e999999999"}]
)
def test_invalid_scale_lot_or_tick_of_an_instrument_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        create_feed("odd", [read_instrument("ODD", given)], actor="test")
