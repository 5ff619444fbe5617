"""manage.py rebalance [--dry-run] [--lose NODE] [--drain NODE] [--add CAPACITY]"""

from __future__ import annotations

from functools import partial
from typing import Any

from django.core.management.base import CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from scheduling import operations
from scheduling.decide.reasons import count
from scheduling.decide.what_if.hypothetical import InvalidScenario, Scenario
from scheduling.management.arguments import not_empty
from scheduling.management.base import GinkgoCommand
from scheduling.operations.registry import fleet_actions
from scheduling.presentation.plan import SCENARIO_PARAMETERS, balance_document, dry_run


class Command(GinkgoCommand):
    help = fleet_actions.REBALANCE.help() + " With --dry-run, show the plan and change nothing."

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="show the plan, change nothing")
        for name, metavar, assumption in (
            ("lose", "NODE", "assume that this node is lost"),
            ("drain", "NODE", "assume that this node is drained"),
            ("add", "CAPACITY[:K=V,…]", "assume one more node"),
        ):
            parser.add_argument(
                f"--{name}",
                metavar=metavar,
                type=not_empty,
                action="append",
                default=[],
                help=f"{assumption}; implies --dry-run; may be repeated",
            )

    def act(self, options: dict[str, Any]) -> None:
        try:
            scenario = Scenario.of(*(options[name] for name in SCENARIO_PARAMETERS))
        except InvalidScenario as error:
            raise CommandError(f"argument --{error.field}: {error.message}", returncode=2) from None
        if options["dry_run"] or scenario:
            document = dry_run(scenario)
            self.show(document, partial(draw_plan, document))
            return
        document = balance_document(operations.rebalance(actor=self.actor))
        begun, remaining = len(document["requested"]), document["rejected"] + document["pending"]
        lines = [f"Began {count(begun, 'handoff')}." if begun else "Nothing to move."]
        lines += [f"{one['portfolio']}: {one['reason']}" for one in remaining]
        self.show(document, "\n".join(lines))


def draw_plan(document: dict[str, Any], console: Console) -> None:
    """Draw the plan: the summary, then tables."""
    verdict = document["verdict"]
    console.print(verdict["sentence"])
    for note in verdict["notes"]:
        console.print(note)
    budget = verdict["without_owner"]
    if budget is not None:
        console.print(
            f"Time without an owner: at most {budget['by_silence_s']:g} s, "
            f"{budget['by_kill_s']:g} s if only the node's daemon exits."
        )
    steps = Table(title="Plan", title_justify="left")
    for heading in ("portfolio", "from", "to", "why"):
        steps.add_column(heading)
    for step in (*document["place"], *document["move"]):
        source = step.get("source_node") or "–"
        steps.add_row(step["portfolio"], source, step["target_node"], step["reason"])
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
        values = (f"{load[name]:g}" for name in ("before", "after", "capacity"))
        loads.add_row(load["node"], load["status"], *values)
    console.print(loads)
