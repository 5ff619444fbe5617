"""manage.py roll_out ARTIFACT [--portfolios a,b | --strategy NAME] [--at-a-time N]
[--canary NAME] [--canary-seconds S] [--wait [SECONDS]] [--reason TEXT]
manage.py roll_out --stop ID | --back ID | --show ID [--wait [SECONDS]]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic, sleep
from typing import Any

from django.core.management.base import CommandError, CommandParser
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from scheduling import operations
from scheduling.management.arguments import add_reason, not_empty, positive_int, seconds, some_names
from scheduling.management.base import Failed, GinkgoCommand
from scheduling.observe.roll_outs import RollOutView, read_roll_out
from scheduling.operations import NewRollOut
from scheduling.operations.registry import roll_out_actions
from scheduling.presentation.serializers.roll_outs import RollOutDocument, roll_out_sentence

DAY_S = 86_400.0
POLL_S = 0.2  #: each poll makes two indexed reads
#: States of the portfolios that the progress bar names.
_SHOWN = ("changing", "proving", "returning")


class Command(GinkgoCommand):
    help = (
        roll_out_actions.ROLL_OUT.help("an artifact")
        + " Exit code 0: it has begun, or with --wait it is "
        "finished or taken back; 1: refused, stopped, or still under way after --wait."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "artifact", metavar="ARTIFACT", nargs="?", help="its sha256; the beginning is enough"
        )
        which = parser.add_mutually_exclusive_group()
        which.add_argument(
            "--portfolios", metavar="A,B", type=some_names,
            help="portfolios to change; by default all that run another version of it",
        )  # fmt: skip
        which.add_argument(
            "--strategy",
            metavar="NAME",
            type=not_empty,
            help="change only portfolios that run this strategy",
        )
        which.add_argument("--stop", metavar="ID", type=positive_int, help="stop a roll-out")
        which.add_argument("--back", metavar="ID", type=positive_int, help="take a roll-out back")
        which.add_argument("--show", metavar="ID", type=positive_int, help="show a roll-out")
        parser.add_argument(
            "--at-a-time", metavar="N", type=positive_int, default=1,
            help="portfolios that are changed at once after the canary (1)",
        )  # fmt: skip
        parser.add_argument(
            "--canary", metavar="NAME", type=not_empty, help="changed first; default: one that runs"
        )
        parser.add_argument(
            "--canary-seconds", metavar="SECONDS", type=float,
            help="the canary is proven after this time and one event; 0: once it runs. By default "
            "once its revision is good",
        )  # fmt: skip
        parser.add_argument(
            "--wait", metavar="SECONDS", nargs="?", type=seconds, const=DAY_S,
            help="wait for the end, by default up to a day; the roll-out continues in any case",
        )  # fmt: skip
        add_reason(parser)

    def act(self, options: dict[str, Any]) -> None:
        """Begin, stop, take back or show a roll-out, and wait where asked."""
        roll_out = self._begin_or_find(options)
        if options["wait"]:
            roll_out = self._wait(roll_out, options["wait"])
        self.show(RollOutDocument(roll_out).data, partial(draw_roll_out, roll_out))

    def _begin_or_find(self, options: dict[str, Any]) -> RollOutView:
        """Return the roll-out that was begun, stopped, taken back or found, as the options ask."""
        request = {"actor": self.actor, "reason": options["reason"]}
        existing = options["stop"] or options["back"] or options["show"]
        if (options["artifact"] is None) == (existing is None):
            raise CommandError(
                "Give an ARTIFACT to roll out, or one of --stop, --back and --show with the number "
                "of a roll-out.",
                returncode=2,
            )
        if existing is not None:
            action = next(name for name in ("stop", "back", "show") if options[name])
            unused = ("at_a_time", "canary", "canary_seconds")
            self.refuse_unused(f"--{action}", options, *unused)
            if action == "show":
                self.refuse_unused("--show", options, "reason")
        if options["stop"]:
            return operations.stop_roll_out(options["stop"], **request)
        if options["back"]:
            return operations.return_roll_out(options["back"], **request)
        if options["show"]:
            return read_roll_out(options["show"])
        new = NewRollOut(
            artifact=options["artifact"],
            portfolios=options["portfolios"],
            strategy=options["strategy"] or "",
            at_a_time=options["at_a_time"],
            canary=options["canary"] or "",
            canary_seconds=options["canary_seconds"],
        )
        return operations.roll_out(new, **request)

    def _wait(self, roll_out: RollOutView, wait_s: float) -> RollOutView:
        """Return the roll-out once it has ended. Raise Failed if it stopped or takes too long."""
        until = monotonic() + wait_s
        with _progress_bar(roll_out) as report:
            while roll_out.is_open and monotonic() < until:
                sleep(POLL_S)
                roll_out = read_roll_out(roll_out.id)
                report(roll_out)
        document = RollOutDocument(roll_out).data
        if roll_out.is_open:
            sentence = roll_out_sentence(roll_out)
            message = f"{sentence}. It has not ended after {wait_s:g} s, and continues."
            raise Failed("wait_timeout", message, roll_out=document)
        if roll_out.state == "stopped":
            if not self.as_json:
                draw_roll_out(roll_out, self.console())
            raise Failed("roll_out_stopped", f"{roll_out_sentence(roll_out)}.", roll_out=document)
        return roll_out


def draw_roll_out(roll_out: RollOutView, console: Console) -> None:
    """Draw a line for each portfolio, and the command that takes the roll-out back."""
    table = Table(title_justify="left", box=SIMPLE_HEAD)
    for heading in ("portfolio", "state", "revision", "pause", "why"):
        table.add_column(heading, no_wrap=heading != "why", overflow="fold")
    for item in roll_out.items:
        revision = (
            "–" if item.to_revision is None else f"r{item.from_revision} → r{item.to_revision}"
        )
        table.add_row(
            item.portfolio + (" (canary)" if item.canary else ""),
            item.state.replace("_", " "),
            revision,
            "–" if item.pause_ms is None else f"{item.pause_ms:.0f} ms",
            item.reason,
        )
    console.print(table)
    console.print(f"{roll_out_sentence(roll_out)}.")
    if roll_out.may_go_back:
        console.print(f"To take it back: manage.py roll_out --back {roll_out.id}")


@contextmanager
def _progress_bar(roll_out: RollOutView) -> Iterator[Callable[[RollOutView], None]]:
    """Yield a function that reports progress: to a bar on stderr, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda now: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(f"roll-out {roll_out.id}", total=roll_out.total)

        def report(now: RollOutView) -> None:
            at_work = [
                f"{item.portfolio} {item.state}" for item in now.items if item.state in _SHOWN
            ]
            more = f" and {len(at_work) - 3} more" if len(at_work) > 3 else ""
            shown = ", ".join(at_work[:3]) + more or now.state.replace("_", " ")
            bar.update(task, completed=now.ended, description=f"roll-out {now.id}: {shown}")

        report(roll_out)
        yield report
