"""manage.py feed create|append|import|list|check|remove"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

from portfolios.feeds.log import SourceId
from scheduling.errors import Invalid, NotFound
from scheduling.management.base import Failed, GinkgoCommand
from scheduling.observe.feeds import read_feeds
from scheduling.operations import feed_checks, feed_imports, feeds
from scheduling.presentation.serializers import FeedLogDocument


class Command(GinkgoCommand):
    help = (
        "Market data of your own: create a recorded feed, import a CSV file, append rows, list the"
        " feeds, check the records of one against its hash chain, remove one."
    )

    def arguments(self, parser: ArgumentParser) -> None:
        """Add a parser for each action."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        create = _action(actions, "create", "create an empty recorded feed")
        create.add_argument("name")
        create.add_argument(
            "--instrument", action="append", default=[], metavar="SYMBOL[:tick=T,lot=L,currency=C]",
            help="may be repeated; by default the tick is 0.0001 and the lot 1",
        )  # fmt: skip
        create.add_argument("--silent-after", type=int, metavar="SECONDS",
                            help="open an alert after so long without a record")  # fmt: skip
        create.add_argument("--keep-days", type=int, metavar="DAYS",
                            help="drop older records once nothing needs them")  # fmt: skip
        append = _action(actions, "append", "append rows, one JSON object a line")
        append.add_argument("name")
        append.add_argument("file", help="a path, or - for standard input")
        append.add_argument("--source", default="", help="with --number: a repeat writes nothing")
        append.add_argument("--number", type=int, default=0, help="of the first 5,000 lines")
        _import_arguments(_action(actions, "import", "import a CSV file, all of it or nothing"))
        _action(actions, "list", "list the feeds")
        for name, text in (
            ("check", "read every record and compare it with the hash chain"),
            ("remove", "remove a recorded feed that no portfolio needs"),
        ):
            _action(actions, name, text).add_argument("name")

    def act(self, options: dict[str, Any]) -> None:
        """Do the action."""
        getattr(self, f"_{options['action']}")(options)

    def _create(self, options: dict[str, Any]) -> None:
        instruments = [_instrument(text) for text in options["instrument"]]
        feeds.create_feed(
            options["name"],
            instruments,
            silent_after_s=options["silent_after"],
            keep_days=options["keep_days"],
            actor=self.actor,
        )
        self._show_feed(options["name"], f"Feed {options['name']} was created.")

    def _append(self, options: dict[str, Any]) -> None:
        if bool(options["source"]) != bool(options["number"]):
            raise Failed("invalid", "Give --source and --number together, or neither.")
        number, rows, done = options["number"], 0, None
        for batch in _batches(options["file"]):
            source = SourceId(options["source"], number) if number else None
            done = feeds.append_rows(options["name"], batch, source)
            rows, number = rows + len(batch), number and number + 1
        if done is None:
            raise Failed("empty", f"{options['file']} has no rows; nothing was appended.")
        self.show(
            {"rows": rows, "to_seq": done.to_seq},
            f"{rows:,} rows; the head is seq {done.to_seq:,}.",
        )

    def _import(self, options: dict[str, Any]) -> None:
        plan = feed_imports.ImportPlan(
            feed=options["name"],
            path=options["file"],
            columns=feed_imports.read_columns(options["column"]),
            symbol=options["symbol"],
            time_zone=options["time_zone"],
            tick=options["tick"],
            skip_bad=options["skip_bad"],
            hole_s=options["hole"],
        )
        done = feed_imports.import_csv(plan, actor=self.actor)
        for line in done.skipped:
            self.stderr.write(f"skipped line {line.row}: {line.message}")
        text = f"{done.rows:,} rows were imported, seq {done.from_seq:,} to {done.to_seq:,}."
        if done.skipped:
            text += f" {len(done.skipped):,} lines were skipped."
        self.show(
            {"rows": done.rows, "from_seq": done.from_seq, "to_seq": done.to_seq,
             "skipped": [line._asdict() for line in done.skipped]},
            text,
        )  # fmt: skip

    def _list(self, options: dict[str, Any]) -> None:
        found = read_feeds()
        lines = [
            f"{feed.name}: {feed.kind}, head {feed.head:,}, {feed.rate:g}/s,"
            f" {feed.instruments or 'packaged'} instruments, {len(feed.portfolios)} portfolios"
            + (f", silent for {feed.silent_s:.0f} s" if feed.is_silent else "")
            for feed in found
        ]
        self.show({"results": FeedLogDocument(found, many=True).data}, "\n".join(lines) or "None.")

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

    def _show_feed(self, name: str, text: str) -> None:
        found = read_feeds(name)
        if not found:
            raise NotFound("feed", name)
        self.show(FeedLogDocument(found[0]).data, text)


def _action(actions: Any, name: str, text: str) -> ArgumentParser:
    parser: ArgumentParser = actions.add_parser(name, help=text, description=text)
    # After the action too: `feed list --json`.
    parser.add_argument("--json", action="store_true", default=False, help="print JSON")
    return parser


def _import_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name")
    parser.add_argument("file")
    parser.add_argument("--symbol", default="", help="of all rows, if no column has it")
    parser.add_argument(
        "--column", action="append", default=[], metavar="FIELD=HEADER",
        help="such as time=Date or close='Adj Close'; may be repeated. By default a header that"
        " is the field's name, in any case",
    )  # fmt: skip
    parser.add_argument(
        "--time-zone", default="", metavar="ZONE",
        help="of times that have none, such as UTC or America/New_York",
    )  # fmt: skip
    parser.add_argument("--tick", default="", help="of new symbols; by default from their prices")
    parser.add_argument("--hole", type=int, metavar="SECONDS", default=None,
                        help="refuse a longer time between two rows of a symbol")  # fmt: skip
    parser.add_argument("--skip-bad", action="store_true", help="import the other lines, and say"
                        " which were skipped")  # fmt: skip


def _instrument(text: str) -> feeds.NewInstrument:
    symbol, _, facts = text.partition(":")
    given: dict[str, str] = {}
    for piece in filter(None, facts.split(",")):
        key, equals, value = piece.partition("=")
        if not equals:
            message = f"--instrument {text!r}: {piece!r} is not KEY=VALUE."
            raise Invalid([{"field": "instrument", "code": "invalid", "message": message}])
        given[key] = value
    return feeds.read_instrument(symbol, given)


def _batches(path: str) -> Iterator[list[Any]]:
    """Yield the rows of a file of JSON lines, MAX_ROWS at a time."""
    batch: list[Any] = []
    try:
        with nullcontext(sys.stdin) if path == "-" else open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    batch.append(json.loads(line))
                except ValueError as error:
                    raise Failed(
                        "invalid", f"{path}, line {number}: this is not JSON ({error})."
                    ) from None
                if len(batch) == feeds.MAX_ROWS:
                    yield batch
                    batch = []
    except (OSError, UnicodeDecodeError) as error:
        raise Failed("unreadable", f"{path} cannot be read: {error}.") from None
    if batch:
        yield batch
