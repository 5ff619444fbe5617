"""manage.py create_portfolio NAME --strategy S [--config JSON] [--symbols A,B] [--weight N] …

manage.py create_portfolio --file PATH: create many, a thousand in each transaction.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from decimal import Decimal
from typing import Any

from django.core.management.base import CommandError, CommandParser
from rest_framework.exceptions import ValidationError

from portfolios.json_text import read_json
from portfolios.models import CatchUp, FeedKind
from scheduling import operations
from scheduling.decide.reasons import count
from scheduling.errors import Invalid, Refused
from scheduling.management.arguments import (
    EachOnce,
    add_wait,
    amount,
    comma_list,
    json_object,
    label,
)
from scheduling.management.base import GinkgoCommand, unreadable
from scheduling.management.handoff_wait import wait_for_running
from scheduling.operations.registry import portfolio_actions
from scheduling.presentation.documents import portfolio_document
from scheduling.presentation.portfolio_body import PortfolioBody, read_bodies
from scheduling.presentation.problems import field_errors

#: Options of one portfolio: each line of a file states its own.
NOT_WITH_FILE = (
    "artifact", "config", "symbols", "limits", "weight", "priority", "selector", "spread_group",
    "spread_hard", "catch_up", "feed", "cash", "stopped", "note", "wait",
)  # fmt: skip


class Command(GinkgoCommand):
    help = (
        portfolio_actions.CREATE.help("a portfolio")
        + " With --file, create one for each line of a file of "
        "JSON objects, as in POST /api/portfolios/."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", nargs="?")
        parser.add_argument("--strategy", metavar="S")
        parser.add_argument(
            "--artifact",
            metavar="SHA256",
            help="hash of the artifact that has the strategy; its first 8 digits are enough",
        )
        parser.add_argument(
            "--file",
            metavar="PATH",
            help="one JSON object per line, each a portfolio; - reads standard input",
        )
        parser.add_argument(
            "--config", metavar="JSON", type=json_object, default={}, help="parameters"
        )
        parser.add_argument(
            "--symbols",
            metavar="A,B",
            type=comma_list,
            default=[],
            help="the symbols it trades, or '*' for all; a canary takes none",
        )
        parser.add_argument("--limits", metavar="JSON", type=json_object, default={})
        parser.add_argument("--weight", metavar="N", type=int, default=1)
        parser.add_argument(
            "--priority", metavar="N", type=int, default=0, help="higher is placed first"
        )
        parser.add_argument(
            "--selector",
            metavar="K=V",
            type=label,
            action=EachOnce,
            default={},
            help="a label that its node must have; may be repeated",
        )
        parser.add_argument("--spread-group", metavar="GROUP", default="")
        parser.add_argument(
            "--spread-hard", action="store_true", help="never place two of its group on one node"
        )
        parser.add_argument("--catch-up", choices=CatchUp.values, default=CatchUp.STATE_ONLY.value)
        parser.add_argument(
            "--feed", metavar="NAME", default="", help="feed to trade; by default the packaged bars"
        )
        parser.add_argument("--cash", metavar="AMOUNT", type=amount, default=Decimal("100000"))
        parser.add_argument("--stopped", action="store_true", help="create it without running it")
        parser.add_argument("--note", metavar="TEXT", default="")
        add_wait(parser)

    def act(self, options: dict[str, Any]) -> None:
        """Create one portfolio, or those of a file; with --wait, return once it has committed."""
        if options["file"]:
            if options["name"] or options["strategy"]:
                raise CommandError(
                    "Give --file PATH, or NAME and --strategy, not both.", returncode=2
                )
            self.refuse_unused("--file", options, *NOT_WITH_FILE)
            self._create_from(options["file"])
            return
        if not options["name"] or not options["strategy"]:
            raise CommandError("Give NAME and --strategy, or --file PATH.", returncode=2)
        new = operations.NewPortfolio(
            name=options["name"],
            strategy=options["strategy"],
            config=options["config"],
            symbols=options["symbols"],
            limits=options["limits"],
            artifact=options["artifact"],
            weight=options["weight"],
            priority=options["priority"],
            selector=options["selector"],
            spread_group=options["spread_group"],
            spread_hard=options["spread_hard"],
            catch_up=options["catch_up"],
            feed=options["feed"],
            starting_cash=options["cash"],
            desired_state="stopped" if options["stopped"] else "running",
            note=options["note"],
        )
        portfolio = operations.create_portfolio(new, actor=self.actor)
        if options["wait"] and not options["stopped"]:
            wait_for_running(portfolio.name, options["wait"])
        document = portfolio_document(portfolio.name)
        run = document["run"]
        node = f" on {run['node']}" if run["node"] else ""
        text = f"{portfolio.name} was created: {run['phase']}{node}."
        if portfolio.feed.kind == FeedKind.RECORDED:
            text += (
                f" It trades what feed {portfolio.feed.name} gets from now on; manage.py backtest"
                " runs a strategy over what it has."
            )
        self.show(document, text)

    def _create_from(self, path: str) -> None:
        """Create a thousand portfolios per transaction, and print the progress."""
        created = 0
        try:
            with (
                nullcontext(sys.stdin) if path == "-" else open(path, encoding="utf-8-sig") as lines
            ):
                for batch in _batches(lines):
                    numbers, new = [number for number, _ in batch], [one for _, one in batch]
                    prefixes = [f"line {number}" for number in numbers]
                    operations.create_portfolios(new, actor=self.actor, prefixes=prefixes)
                    created += len(batch)
                    if not self.as_json:
                        self.stderr.write(f"created {created:,}, up to line {numbers[-1]:,}")
        except (OSError, UnicodeDecodeError, Refused) as error:
            refused = error if isinstance(error, Refused) else unreadable(path, error)
            raise Refused(
                refused.code,
                f"{refused.message} Portfolios created from earlier lines: {created:,}.",
                status=refused.status,
                **{**refused.extra, "created": created},
            ) from None
        made = count(created, "portfolio was", "portfolios were")
        self.show({"created": created}, f"{made} created.")


def _batches(lines: Iterable[str]) -> Iterator[list[tuple[int, operations.NewPortfolio]]]:
    """Yield lists of at most MAX_AT_ONCE (line number, portfolio). Raise Invalid for a bad line."""
    batch: list[tuple[int, operations.NewPortfolio]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        batch.append((number, _parse(number, line)))
        if len(batch) == operations.MAX_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _parse(number: int, line: str) -> operations.NewPortfolio:
    """Return the portfolio of one line of a file. Raise Invalid, which names the line."""
    try:
        given = read_json(line)
        return operations.NewPortfolio(**read_bodies([given], PortfolioBody)[0])
    except ValueError as error:
        text, code = f"is not JSON: {error}", "malformed"
    except ValidationError as error:
        errors = list(field_errors(error.get_full_details()))
        # `read_bodies` names fields `0.name`, since this is the first and only entry of its list.
        text = "; ".join(
            f"{each['field'].partition('.')[2]}: {each['message']}".removeprefix(": ")
            for each in errors
        )
        code = "invalid"
    raise Invalid([{"field": f"line {number}", "code": code, "message": text}])
