"""manage.py feed create|add|append|import|record|release|list|check|remove"""

from __future__ import annotations

import sys
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from django.core.management.base import CommandError

from ginkgo_site.deadline import limit_statements
from portfolios.feeds.log import SourceId
from portfolios.json_text import read_json
from portfolios.models import FeedKind
from scheduling.decide.reasons import count
from scheduling.enact.feed_records import KEPT_APPENDS
from scheduling.errors import Invalid, NotFound, Refused
from scheduling.management.base import Failed, GinkgoCommand, unreadable
from scheduling.observe.feeds import FeedView, read_feeds
from scheduling.operations import feed_checks, feed_imports, feed_recorders, feeds
from scheduling.presentation.serializers.feeds import FeedLogDocument
from scheduling.recorded_feeds.stream_appends import MayBeStored

MAX_SKIPPED_SHOWN = 20
#: A recorder whose database is silent for longer repeats its statement over a new connection.
STATEMENT_LIMIT_S = 10.0


class Command(GinkgoCommand):
    help = (
        "Market data of your own: create a recorded feed, add instruments to it, import a CSV file,"
        " append rows, record files that grow or a websocket, list the feeds, check the records of"
        " one against its hash chain, remove one."
    )

    def arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        create = _add_action(actions, "create", "create an empty recorded feed")
        add = _add_action(actions, "add", "add instruments to a recorded feed, also while it grows")
        for parser in (create, add):
            parser.add_argument("name")
            parser.add_argument(
                "--instrument", action="append", default=[], required=parser is add,
                metavar="SYMBOL[:tick=T,lot=L,currency=C]",
                help="may be repeated; by default the tick is 0.0001 and the lot 1",
            )  # fmt: skip
        create.add_argument("--silent-after", type=int, metavar="SECONDS",
                            help="open an alert after so long without a record")  # fmt: skip
        create.add_argument("--keep-days", type=int, metavar="DAYS",
                            help="drop older records once nothing needs them")  # fmt: skip
        create.add_argument("--jetstream", action="store_true", help="keep its records in the NATS"
                            " server of GINKGO_NATS_URL instead of PostgreSQL")  # fmt: skip
        append = _add_action(actions, "append", "append rows, one JSON object a line")
        append.add_argument("name")
        append.add_argument("file", help="a path, or - for standard input")
        append.add_argument("--source", default="", help="name of the source; with --number: a"
                            " repeat writes nothing")  # fmt: skip
        append.add_argument("--number", type=int, default=0, help="number that the source gives the"
                            " first 5,000 lines; the next 5,000 have the next number")  # fmt: skip
        _import_arguments(_add_action(actions, "import", "import a CSV file, all of it or nothing"))
        _record_arguments(
            _add_action(actions, "record", "record files that grow, or a websocket, until SIGTERM")
        )
        _add_action(actions, "list", "list the feeds")
        for name, text in (
            ("release", "let any source append, after a recorder that was killed"),
            ("check", "read every record and compare it with the hash chain"),
            ("remove", "remove a recorded feed that no portfolio needs"),
        ):
            _add_action(actions, name, text).add_argument("name")

    def act(self, options: dict[str, Any]) -> None:
        """Call the method of the action: `_import` for `import`."""
        getattr(self, f"_{options['action']}")(options)

    def _create(self, options: dict[str, Any]) -> None:
        instruments = [_instrument(text) for text in options["instrument"]]
        feeds.create_feed(
            options["name"],
            instruments,
            silent_after_s=options["silent_after"],
            keep_days=options["keep_days"],
            in_stream=options["jetstream"],
            actor=self.actor,
        )
        created = read_feeds(options["name"])
        if not created:  # it was removed in the meantime
            raise NotFound("feed", options["name"])
        self.show(FeedLogDocument(created[0]).data, f"Feed {options['name']} was created.")

    def _add(self, options: dict[str, Any]) -> None:
        instruments = [_instrument(text) for text in options["instrument"]]
        feeds.add_instruments(options["name"], instruments, actor=self.actor)
        listed = [one.symbol for one in instruments]
        self.show({"instruments": listed}, f"Feed {options['name']} has {', '.join(listed)}.")

    def _append(self, options: dict[str, Any]) -> None:
        if bool(options["source"]) != bool(options["number"]):
            raise CommandError("Give --source and --number together, or neither.", returncode=2)
        so_far, done = _SoFar(next_number=options["number"]), None
        try:
            for line, batch in _numbered_batches(options["file"]):
                number = so_far.next_number
                source = SourceId(options["source"], number) if number else None
                done = feeds.append_rows(options["name"], batch, source)
                so_far = so_far.after(len(batch), line)
        except Refused as refused:
            raise _with_stored_rows(refused, so_far) from None
        except BaseException:  # such as a database that went away, or Ctrl-C
            text = f"{so_far.sentence()} {so_far.advice(may_have_more=True)}"
            self.stderr.write(text.lstrip())
            raise
        if done is None:
            raise Failed(
                "empty", f"The input ({options['file']}) has no rows; nothing was appended."
            )
        self.show(
            {"rows": so_far.rows, "to_seq": done.to_seq},
            f"{so_far.rows:,} rows; the head is seq {done.to_seq:,}.",
        )

    def _import(self, options: dict[str, Any]) -> None:
        plan = feed_imports.ImportPlan(
            feed=options["name"],
            path=options["file"],
            columns=feed_imports.read_columns(options["column"]),
            symbol=options["symbol"],
            time_zone=options["time_zone"],
            time_format=options["time_format"],
            time_unit=options["time_unit"],
            tick=options["tick"],
            skip_bad=options["skip_bad"],
            hole_s=options["hole"],
        )
        done = feed_imports.import_csv(plan, actor=self.actor)
        for line in done.skipped[:MAX_SKIPPED_SHOWN]:
            self.stderr.write(f"skipped line {line.row}: {line.message}")
        text = f"{done.rows:,} rows were imported, seq {done.from_seq:,} to {done.to_seq:,}."
        if done.skipped:
            text += f" {len(done.skipped):,} lines were skipped; --json lists all of them."
        self.show(
            {"rows": done.rows, "from_seq": done.from_seq, "to_seq": done.to_seq,
             "skipped": [line._asdict() for line in done.skipped]},
            text,
        )  # fmt: skip

    def _record(self, options: dict[str, Any]) -> None:
        """Record until SIGTERM or SIGINT; RecordingPlan explains the options."""
        limit_statements(STATEMENT_LIMIT_S)
        done = feed_recorders.record(
            feed_recorders.RecordingPlan(
                feed=options["name"],
                files=options["file"],
                pattern=options["pattern"],
                from_start=options["from_start"],
                time_zone=options["time_zone"],
                time_format=options["time_format"],
                websocket=options["websocket"],
                send=options["send"],
                headers=_pairs("header", options["header"]),
                rows=options["rows"],
                only=_pairs("only", options["only"]),
                time_unit=options["time_unit"],
                arrival_times=options["arrival_times"],
                number=options["number"],
                number_per_symbol=options["number_per_symbol"],
                numbers_restart=options["numbers_restart"],
                columns=_pairs("column", options["column"]),
                symbol=options["symbol"],
                skip_bad=options["skip_bad"],
                tick_every_s=options["tick_every"],
                take_over=options["take_over"],
            ),
            actor=self.actor,
        )
        text = f"Ended. {done.rows:,} rows were recorded; the head is seq {done.head:,}."
        if done.left_out:
            text += f" {done.left_out:,} rows were left out."
        self.show(done._asdict(), text)

    def _release(self, options: dict[str, Any]) -> None:
        feed_recorders.release_feed(options["name"], actor=self.actor)
        self.show({"released": options["name"]}, f"Any source may append to {options['name']}.")

    def _list(self, options: dict[str, Any]) -> None:
        found = read_feeds()
        text = "\n".join(map(_feed_line, found)) or "There is no feed."
        self.show({"results": FeedLogDocument(found, many=True).data}, text)

    def _check(self, options: dict[str, Any]) -> None:
        checked = feed_checks.check_feed(options["name"])
        if checked.problem:
            raise Failed("feed_differs", checked.problem, records=checked.records)
        self.show(
            {"records": checked.records, "segments": checked.segments},
            f"{checked.records:,} records of feed {options['name']} are gapless, and"
            f" {checked.segments:,} whole segments have the hash that was recorded.",
        )

    def _remove(self, options: dict[str, Any]) -> None:
        feeds.remove_feed(options["name"], actor=self.actor)
        self.show({"removed": options["name"]}, f"Feed {options['name']} was removed.")


def _feed_line(feed: FeedView) -> str:
    """Return the state of a feed in one line."""
    is_replay = feed.kind == FeedKind.REPLAY
    instruments = "packaged instruments" if is_replay else count(feed.instruments, "instrument")
    return (
        f"{feed.name}: {feed.kind}, head {feed.head:,}, {feed.rate:g}/s, {instruments},"
        f" {count(len(feed.portfolios), 'portfolio')}"
        + (", in JetStream" if feed.in_stream else "")
        + (f", silent for {feed.silent_s:.0f} s" if feed.is_silent else "")
    )


def _add_action(actions: Any, name: str, text: str) -> ArgumentParser:
    parser: ArgumentParser = actions.add_parser(name, help=text, description=text)
    # `--json` may stand before or after the action; a default here would undo the one before.
    parser.add_argument("--json", action="store_true", default=SUPPRESS, help="print JSON")
    return parser


def _import_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name")
    parser.add_argument("file")
    parser.add_argument("--symbol", default="", help="symbol of all rows, whatever a column states")
    parser.add_argument(
        "--column", action="append", default=[], metavar="FIELD=HEADER",
        help="such as time=Date or close='Adj Close'; may be repeated. By default a header that"
        " is the field's name, in any case",
    )  # fmt: skip
    parser.add_argument(
        "--time-zone", default="", metavar="ZONE",
        help="zone of times that state none, such as UTC or America/New_York",
    )  # fmt: skip
    _time_format_argument(parser)
    parser.add_argument("--time-unit", default="", metavar="UNIT", help="unit of times that are"
                        " numbers since 1970: s, ms, us, ns")  # fmt: skip
    parser.add_argument("--tick", default="", help="for new symbols; by default from their prices")
    parser.add_argument("--hole", type=int, metavar="SECONDS", default=None,
                        help="refuse a longer time between two rows of a symbol")  # fmt: skip
    parser.add_argument("--skip-bad", action="store_true", help="import the other lines, and say"
                        " which were skipped")  # fmt: skip


def _time_format_argument(parser: ArgumentParser) -> None:
    # argparse reads a single % as the beginning of a placeholder.
    parser.add_argument("--time-format", default="", metavar="FORM", help="form of times of a file"
                        " that are not ISO 8601, such as '%%d.%%m.%%Y %%H:%%M'")  # fmt: skip


def _record_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("name")
    add("--file", default="", metavar="PATH", help="a CSV or JSON-lines (.jsonl) file, read as"
        " it grows; a complete .parquet file; or a folder, whose files are read in order of"
        " name")  # fmt: skip
    add("--pattern", default="*", help="form of the names in a folder, such as '*.csv'")
    add("--from-start", action="store_true", help="begin at the first line of a file that was"
        " replaced or cut since it was recorded, instead of refusing it")  # fmt: skip
    add("--time-zone", default="", metavar="ZONE", help="zone of times of a file that state none")
    _time_format_argument(parser)
    add("--websocket", default="", metavar="URL", help="a websocket whose messages are JSON")
    add("--send", action="append", default=[], metavar="TEXT", help="a text to send first, such as"
        " a subscription; may be repeated. {last_number} becomes the newest recorded number,"
        " {secret:NAME} a secret")  # fmt: skip
    add("--header", action="append", default=[], metavar="NAME=TEXT", help="header of the"
        " request; may have {secret:NAME}")  # fmt: skip
    add("--rows", default="", metavar="PATH", help="path of the list of rows in a message, such"
        " as data.trades; by default the message is a row or a list of rows")  # fmt: skip
    add("--only", action="append", default=[], metavar="PATH=VALUE", help="record only messages"
        " that have this value at this path; may be repeated")  # fmt: skip
    add("--column", action="append", default=[], metavar="FIELD=NAME", help="column of a file, or"
        " path in a row of a message, from which a field is taken, such as price=p")  # fmt: skip
    add("--symbol", default="", help="symbol of all rows, whatever they state")
    add("--time-unit", default="", metavar="UNIT", help="unit of numeric times: s, ms, us, ns")
    add("--arrival-times", action="store_true", help="the rows state no time: record the time at"
        " which each arrives")  # fmt: skip
    add("--number", default="", metavar="PATH", help="path of the sequence number that the source"
        " gives a row: repeated ones are left out, missing ones recorded as a gap")  # fmt: skip
    add("--number-per-symbol", action="store_true", help="the numbers count each symbol's rows")
    add(
        "--numbers-restart", action="store_true", help="the numbers begin anew with each connection"
    )
    add("--tick-every", type=float, metavar="SECONDS", help="while nothing comes, record the time"
        " every SECONDS, for strategies with timers")  # fmt: skip
    add("--skip-bad", action="store_true", help="leave out wrong rows of a file instead of ending;"
        " those of a websocket are always left out")  # fmt: skip
    add("--take-over", action="store_true", help="begin although another recorder seems to run,"
        " which can then record nothing more")  # fmt: skip


def _pairs(option: str, given: list[str]) -> dict[str, str]:
    """Return NAME → VALUE of texts like NAME=VALUE. Raise Invalid, which names the option."""
    found: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key or not value:
            message = f"--{option} is {text!r}; give it as NAME=VALUE."
            raise Invalid([{"field": option, "code": "invalid", "message": message}])
        if key in found:
            message = f"--{option} gives {key} twice; give it once."
            raise Invalid([{"field": option, "code": "invalid", "message": message}])
        found[key] = value
    return found


def _instrument(text: str) -> feeds.NewInstrument:
    """Return the instrument of a text like SYMBOL:tick=0.01,lot=1. Raise Invalid for others."""
    symbol, _, facts = text.partition(":")
    given: dict[str, str] = {}
    for piece in filter(None, facts.split(",")):
        key, equals, value = piece.partition("=")
        if not equals:
            message = f"--instrument {text!r}: {piece!r} is not KEY=VALUE."
            raise Invalid([{"field": "instrument", "code": "invalid", "message": message}])
        if key in given:
            message = f"--instrument {text!r} gives {key} twice; give it once."
            raise Invalid([{"field": "instrument", "code": "invalid", "message": message}])
        given[key] = value
    return feeds.read_instrument(symbol, given)


@dataclass(frozen=True, slots=True)
class _SoFar:
    """How many rows of a file this command has stored, or has found stored by an earlier run."""

    rows: int = 0
    line: int = 0  #: of the last of these rows
    appends: int = 0
    next_number: int = 0  #: of the next append; 0: the appends have no numbers

    def after(self, rows: int, line: int) -> _SoFar:
        """Return the state after one more append of `rows` rows, the last of them at `line`."""
        next_number = self.next_number + 1 if self.next_number else 0  # 0: without numbers
        return _SoFar(self.rows + rows, line, self.appends + 1, next_number)

    def advice(self, *, may_have_more: bool) -> str:
        """Return how the user goes on. `may_have_more`: rows after `line` may be stored too."""
        if not self.next_number and may_have_more:
            return "Compare the head of the feed with the file before you go on."
        if not self.next_number:
            return f"Append only the rows after line {self.line:,} when you repeat it."
        if self.appends < KEPT_APPENDS:
            return "Repeat the command with the same --source and --number: no row is stored twice."
        # The content of the first numbers is no longer known: their repeat would be refused.
        return (
            f"Append only the rows after line {self.line:,}, with the same --source and"
            f" --number {self.next_number}."
        )

    def sentence(self) -> str:
        """Return the sentence about the rows of the file that are stored; "" if none is."""
        return f"The {self.rows:,} rows up to line {self.line:,} are stored." if self.rows else ""


def _with_stored_rows(refused: Refused, so_far: _SoFar) -> Refused:
    """Return the refusal with sentences on which rows of the file are stored, and how to go on."""
    may_be_stored = isinstance(refused, MayBeStored)
    texts = [refused.message]
    if so_far.rows and "errors" in refused.extra:
        texts.append(f"Row 1 is the first row after line {so_far.line:,}.")
    texts.append(so_far.sentence())
    if may_be_stored:
        texts.append(so_far.advice(may_have_more=True))
    elif refused.code != "source_conflict" and so_far.rows:  # its message says how to go on
        texts.append(so_far.advice(may_have_more=False))
    elif not so_far.next_number:  # with numbers, an earlier run may have stored rows
        texts.append("No row of the file was stored.")
    extra = dict(refused.extra)
    # Left out if rows after `line` may be stored: without numbers, a repeat stores them twice.
    if so_far.next_number or not may_be_stored:
        extra |= {"rows": so_far.rows, "line": so_far.line}
    return Refused(refused.code, " ".join(filter(None, texts)), status=refused.status, **extra)


def _numbered_batches(path: str) -> Iterator[tuple[int, list[Any]]]:
    """Yield (number of the last line read, rows) for each MAX_ROWS rows of a file of JSON lines.

    Raise Failed for a line that is not JSON and for a file that cannot be read.
    """
    batch: list[Any] = []
    try:
        with nullcontext(sys.stdin) if path == "-" else open(path, encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    batch.append(read_json(line))
                except ValueError as error:
                    raise Failed(
                        "invalid", f"{path}, line {number}: this is not JSON ({error})."
                    ) from None
                if len(batch) == feeds.MAX_ROWS:
                    yield number, batch
                    batch = []
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None
    if batch:
        yield number, batch
