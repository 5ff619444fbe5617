"""manage.py halt_all [--reason TEXT] [--expect N] [--yes] [--undo [HALT]]"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from django.core.management.base import CommandParser
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from scheduling import operations
from scheduling.decide.halted import Halted
from scheduling.decide.reasons import count
from scheduling.management.arguments import add_reason, positive_int
from scheduling.management.base import Failed, GinkgoCommand
from scheduling.models import Run
from scheduling.operations.registry import fleet_actions
from scheduling.presentation.serializers.fleet import HaltedDocument

NEWEST = -1  #: stands for `--undo` without a number


class Command(GinkgoCommand):
    help = (
        fleet_actions.HALT_ALL.help()
        + " The command needs the database only: the web process may be "
        "down and the fleet frozen."
    )

    def arguments(self, parser: CommandParser) -> None:
        add_reason(parser)
        parser.add_argument(
            "--expect",
            metavar="N",
            type=int,
            help="stop nothing if the number of running portfolios is not N",
        )
        parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
        parser.add_argument(
            "--undo",
            metavar="HALT",
            nargs="?",
            type=positive_int,
            const=NEWEST,
            help="start what this halt stopped, by default the newest halt",
        )

    def act(self, options: dict[str, Any]) -> None:
        """Stop everything and show each portfolio, or undo a halt."""
        if options["undo"] is not None:
            self.refuse_unused("--undo", options, "expect")
            number = None if options["undo"] == NEWEST else options["undo"]
            halt, started = operations.undo_halt(number, actor=self.actor, reason=options["reason"])
            document = {"halt": halt, "started": started}
            starting = count(len(started), "portfolio starts", "portfolios start")
            self.show(document, f"Halt {halt} is undone: {starting} again.")
            return
        expect = options["expect"]
        if sys.stdin.isatty() and not options["yes"]:
            expect = self._confirm(expect)
        halted = operations.halt_all(
            actor=self.actor, reason=options["reason"], expect_running=expect
        )
        self.show(HaltedDocument(halted).data, partial(draw_halted, halted))

    def _confirm(self, expect: int | None) -> int:
        """Return the number of running portfolios, once the operator has typed it.

        `expect`: the number that the command was given, or None to count them.
        """
        owned = Run.objects.filter(node__isnull=False, portfolio__archived_at__isnull=True)
        running = owned.count() if expect is None else expect
        self.stderr.write(
            f"{count(running, 'portfolio is', 'portfolios are')} running. "
            f"{fleet_actions.HALT_ALL.consequence} Type: halt {running}"
        )
        if sys.stdin.readline().strip() != f"halt {running}":
            message = f"Nothing was stopped: `halt {running}` was not typed."
            raise Failed("not_confirmed", message)
        return running


def draw_halted(halted: Halted, console: Console) -> None:
    """Draw a line for each portfolio, and the command that undoes the halt."""
    if halted.halt is None:
        console.print("Nothing was stopped: no portfolio was running or pending.")
        return
    table = Table(title_justify="left", box=SIMPLE_HEAD)
    for heading in ("portfolio", "was", "on", "handoff", "epoch", "last seq"):
        table.add_column(heading, no_wrap=True)
    for line in halted.results:
        table.add_row(
            line.portfolio,
            line.phase,
            line.node or "–",
            line.handoff or "–",
            f"{line.epoch_before} → {line.epoch}",
            f"{line.last_seq:,}",
        )
    console.print(table)
    console.print(
        f"{count(len(halted.results), 'portfolio was', 'portfolios were')} stopped, "
        f"{halted.running} of them running. "
        f"To start them all again: manage.py halt_all --undo {halted.halt}"
    )
