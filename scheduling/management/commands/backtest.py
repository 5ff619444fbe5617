"""manage.py backtest STRATEGY [--config K=V …] [--symbols A,B] [--from SEQ|TIME] [--to …] …"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from django.core.management.base import CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from portfolios.backtest.document import BacktestDocument, Order, document_of
from portfolios.backtest.page import html_of
from portfolios.backtest.run import BacktestResult
from portfolios.backtest.summary import (
    facts,
    halt_sentence,
    heading,
    kind_text,
    plain_quantity,
    short_time,
)
from portfolios.json_text import read_json
from portfolios.text import escape_json, quoted
from scheduling.decide.reasons import count
from scheduling.errors import Refused
from scheduling.management.arguments import EachOnce, amount, comma_list, json_object, parameter
from scheduling.management.base import Failed, GinkgoCommand, read_text
from scheduling.management.progress_bar import progress_bar
from scheduling.operations.backtests import NewBacktest, run_new_backtest

SHOWN_ORDERS = 10
#: Events from which their rate is shown: fewer take less time than the start of the process.
RATE_FROM = 10_000


class Command(GinkgoCommand):
    help = (
        "Run a strategy over a range of a feed, by the engine that runs it on a node, and show "
        "what came of it. Needs no running installation. The strategy runs in a sandboxed process."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the arguments. `--json` takes a file here."""
        self.arguments(parser)
        parser.add_argument(
            "--json",
            metavar="FILE",
            nargs="?",
            const=True,
            default=False,
            help="write the result as JSON, to standard output without a FILE",
        )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("strategy", metavar="STRATEGY")
        parser.add_argument(
            "--artifact",
            metavar="WHEEL|SHA256",
            help="the file of a wheel, or the hash of an added artifact; by default STRATEGY is "
            "one that is installed",
        )
        parser.add_argument(
            "--lock", metavar="FILE", help="the dependencies of that wheel, with their hashes"
        )
        parser.add_argument(
            "--config",
            metavar="K=V",
            nargs="+",
            type=parameter,
            action=EachOnce,
            default={},
            help="parameters, such as fast=5 slow=20",
        )
        parser.add_argument(
            "--config-file",
            metavar="FILE",
            help="a JSON object of parameters; --config takes precedence",
        )
        parser.add_argument(
            "--symbols",
            metavar="A,B",
            type=comma_list,
            default=[],
            help="the symbols it trades, or '*' for all",
        )
        parser.add_argument("--limits", metavar="JSON", type=json_object, default={})
        parser.add_argument("--feed", metavar="NAME", help="by default the installation's feed")
        parser.add_argument(
            "--from",
            metavar="SEQ|TIME",
            dest="first",
            help="first event, by default that of the feed",
        )
        parser.add_argument(
            "--to", metavar="SEQ|TIME", dest="last", help="last event, by default the newest"
        )
        parser.add_argument("--cash", metavar="AMOUNT", type=amount, default=Decimal(100_000))
        parser.add_argument("--html", metavar="FILE", help="write a page with the equity curve")

    def act(self, options: dict[str, Any]) -> None:
        """Run the backtest, show its figures, and write the requested files."""
        json_file = None if isinstance(options["json"], bool) else Path(options["json"])
        html_file = None if options["html"] is None else Path(options["html"])
        self.as_json = options["json"] is True  # --json without a FILE
        for file in filter(None, (json_file, html_file)):
            _refuse_unwritable(file)  # before the work, not after it
        if html_file and json_file and html_file.resolve() == json_file.resolve():
            message = f"--html and --json name one file, {html_file}: give each its own."
            raise CommandError(message, returncode=2)
        new = NewBacktest(
            strategy=options["strategy"],
            config=_read_parameters(options["config_file"]) | options["config"],
            symbols=options["symbols"],
            limits=options["limits"],
            starting_cash=options["cash"],
            feed=options["feed"],
            first=options["first"],
            last=options["last"],
            artifact=options["artifact"],
            lock=read_text(options["lock"]) if options["lock"] else "",
        )
        try:
            with progress_bar(new.strategy) as report:
                result = run_new_backtest(new, report)
        except Refused as refused:
            trace = refused.extra.get("trace")
            if trace and not self.as_json:
                self.stderr.write(str(trace))
            raise
        document = document_of(result)
        if json_file is not None:
            text = msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
            _write(json_file, escape_json(text) + "\n")
        if html_file is not None:
            _write(html_file, html_of(result, document))
        self.show(msgspec.to_builtins(document), lambda console: _draw(console, result, document))
        for file in filter(None, (json_file, html_file)):
            if not self.as_json:
                self.stdout.write(f"Written: {file}")


def _draw(console: Console, result: BacktestResult, document: BacktestDocument) -> None:
    """Print heading, figures and the newest orders."""
    console.print(heading(document), style="bold", soft_wrap=True)
    figures = Table.grid(padding=(0, 2))
    figures.add_column()
    figures.add_column(justify="right", style="bold")
    figures.add_column(style="dim")
    for name, value, remark in facts(document):
        figures.add_row(name, value, remark)
    console.print(figures)
    if document.figures.halted is not None:
        console.print(halt_sentence(document), style="bold")
    _draw_orders(console, document)
    events, took = document.figures.events, result.elapsed_s
    rate = f", {events / took:,.0f} a second" if events >= RATE_FROM else ""
    console.print(f"{count(events, 'event')} in {took:.1f} s{rate}.", style="dim")


def _draw_orders(console: Console, document: BacktestDocument) -> None:
    total = document.figures.orders + document.figures.refused
    if not total:
        console.print("\nThe strategy placed no order.")
        return
    shown = document.orders[-SHOWN_ORDERS:]
    text = "All orders" if len(shown) == total else f"The newest {len(shown)} of {total:,} orders"
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title=f"\n{text}")
    table.title_justify = "left"
    for name in (
        "seq", "decided at", "symbol", "side", "kind", "quantity", "price", "filled", "status",
    ):  # fmt: skip
        right = name in ("seq", "quantity", "price", "filled")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for order in shown:
        table.add_row(*_cells(order))
    console.print(table)


def _cells(order: Order) -> tuple[str, ...]:
    status = order.status if order.reason is None else f"{order.status}: {order.reason}"
    return (
        f"{order.seq:,}",
        short_time(order.at),
        order.symbol,
        order.side,
        kind_text(order),
        plain_quantity(order.quantity),
        order.price,
        order.fill_price or "–",
        status,
    )


def _read_parameters(path: str | None) -> dict[str, Any]:
    """Return the JSON object in a file, or {} for None. Raise Failed for any other content."""
    if path is None:
        return {}
    try:
        value = read_json(read_text(path))
    except ValueError as error:
        raise Failed("malformed", f"{path} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        shown = quoted(json.dumps(value), 40)
        raise Failed("malformed", f"{path} holds {shown}; give a JSON object of parameters.")
    return value


def _refuse_unwritable(file: Path) -> None:
    """Raise CommandError if `file` is a folder, or would be in a folder that does not exist."""
    if file.is_dir():
        raise CommandError(f"{file} is a folder: give the name of a file.", returncode=2)
    if not file.absolute().parent.is_dir():
        folder = file.absolute().parent
        raise CommandError(f"There is no folder {folder} for {file.name}: make it.", returncode=2)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failed("unwritable", f"{file} cannot be written: {error.strerror}.") from None
