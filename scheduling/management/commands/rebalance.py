"""manage.py rebalance [--dry-run] [--lose NODE] [--drain NODE] [--add CAPACITY]"""

from __future__ import annotations

from functools import partial
from typing import Any

from django.core.management.base import CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from scheduling import operations
from scheduling.decide.what_if.hypothetical import InvalidScenario, Scenario
from scheduling.management.base import GinkgoCommand
from scheduling.presentation.plan import SCENARIO_PARAMETERS, balance_document, dry_run


class Command(GinkgoCommand):
    """Run a balance pass now, or show what one would do."""

    help = "Run a balance pass now instead of in up to 30 s, or show what one would do."

    def arguments(self, parser: CommandParser) -> None:
        """Take whether to only look, and as if what were so."""
        parser.add_argument("--dry-run", action="store_true", help="show the plan, change nothing")
        for name, metavar, words in (
            ("lose", "NODE", "as if this node were lost"),
            ("drain", "NODE", "as if this node were drained"),
            ("add", "CAPACITY[:K=V,…]", "as if there were one node more"),
        ):
            parser.add_argument(
                f"--{name}",
                metavar=metavar,
                action="append",
                default=[],
                help=f"with --dry-run, which it implies: {words}; may be repeated",
            )

    def act(self, options: dict[str, Any]) -> None:
        """Show the plan, or carry one out."""
        try:
            question = Scenario.of(*(options[name] for name in SCENARIO_PARAMETERS))
        except InvalidScenario as bad:
            raise CommandError(f"argument --{bad.field}: {bad.message}", returncode=2) from None
        if options["dry_run"] or question:
            document = dry_run(question)
            self.show(document, partial(draw_plan, document))
            return
        document = balance_document(operations.rebalance(actor=self.actor))
        begun, refused = len(document["requested"]), document["rejected"]
        told = [f"Began {begun} handoffs." if begun else "Nothing to move."]
        told += [f"{one['portfolio']}: {one['reason']}" for one in refused]
        told += [f"{one['portfolio']}: {one['reason']}" for one in document["pending"]]
        self.show(document, "\n".join(told))


def draw_plan(document: dict[str, Any], console: Console) -> None:
    """Draw the plan's document: the verdict, then tables."""
    verdict = document["verdict"]
    console.print(verdict["sentence"])
    for note in verdict["notes"]:
        console.print(note)
    budget = verdict["without_owner"]
    if budget is not None:
        console.print(
            f"Without an owner: at most {budget['by_silence_s']:g} s, "
            f"{budget['by_kill_s']:g} s if only a process dies."
        )
    steps = Table(title="Plan", title_justify="left")
    for heading in ("portfolio", "from", "to", "why"):
        steps.add_column(heading)
    for step in document["place"]:
        steps.add_row(step["portfolio"], "–", step["target_node"], step["reason"])
    for step in document["move"]:
        steps.add_row(
            step["portfolio"], step["source_node"] or "–", step["target_node"], step["reason"]
        )
    for left in (*document["pending"], *document["stuck"]):
        steps.add_row(left["portfolio"], "–", "–", left["reason"])
    if steps.row_count:
        console.print(steps)
    for one in document["help"]:
        console.print(one["reason"])
    loads = Table(title="Load", title_justify="left")
    for heading in ("node", "status", "now", "after", "capacity"):
        loads.add_column(heading, justify="left" if heading in ("node", "status") else "right")
    for load in document["load"]:
        figures = (f"{load[name]:g}" for name in ("before", "after", "capacity"))
        loads.add_row(load["node"], load["status"], *figures)
    console.print(loads)
