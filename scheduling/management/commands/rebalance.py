"""manage.py rebalance [--dry-run] [--lose NODE]"""

from __future__ import annotations

from functools import partial
from typing import Any

from django.core.management.base import CommandParser
from rich.console import Console
from rich.table import Table

from scheduling.api.schedule import dry_run, rebalance_now
from scheduling.management.base import GinkgoCommand


class Command(GinkgoCommand):
    """Run a balance pass now, or show what one would do."""

    help = "Run a balance pass now instead of in up to 30 s, or show what one would do."

    def arguments(self, parser: CommandParser) -> None:
        """Take whether to only look."""
        parser.add_argument("--dry-run", action="store_true", help="show the plan, change nothing")
        parser.add_argument(
            "--lose",
            metavar="NODE",
            action="append",
            default=[],
            help="with --dry-run: as if this node were lost",
        )

    def act(self, options: dict[str, Any]) -> None:
        """Show the plan, or carry one out."""
        if options["dry_run"] or options["lose"]:
            document = dry_run(options["lose"])
            self.show(document, partial(draw_plan, document))
            return
        document = rebalance_now(self.actor)
        begun, refused = len(document["requested"]), document["rejected"]
        told = [f"Began {begun} handoffs." if begun else "Nothing to move."]
        told += [f"{one['portfolio']}: {one['reason']}" for one in refused]
        told += [f"{one['portfolio']}: {one['reason']}" for one in document["pending"]]
        self.show(document, "\n".join(told))


def draw_plan(document: dict[str, Any], console: Console) -> None:
    """Draw the plan's document as tables."""
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
    else:
        console.print("Nothing to do: what runs is what is wanted.")
    loads = Table(title="Load", title_justify="left")
    for heading in ("node", "status", "now", "after", "capacity"):
        loads.add_column(heading, justify="left" if heading in ("node", "status") else "right")
    for load in document["load"]:
        figures = (f"{load[name]:g}" for name in ("before", "after", "capacity"))
        loads.add_row(load["node"], load["status"], *figures)
    console.print(loads)
