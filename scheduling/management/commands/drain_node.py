"""manage.py drain_node NODE [--plan | --undo] [--make-room] [--until-return]
[--reason TEXT] [--wait SECONDS]"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandParser

from scheduling.decide.reasons import count
from scheduling.management.arguments import seconds
from scheduling.management.handoff_wait import wait_until_empty
from scheduling.management.node_commands import NodeMarkCommand
from scheduling.operations.registry import node_actions
from scheduling.presentation.drain_plan import drain_document


class Command(NodeMarkCommand):
    help = node_actions.DRAIN.help("a node")
    operation = node_actions.DRAIN
    undo_operation = node_actions.UNDRAIN
    not_with_undo = (
        "reason",
        "plan",
        "wait",
        *(option for option, _ in node_actions.DRAIN.options),
    )

    def arguments(self, parser: CommandParser) -> None:
        super().arguments(parser)
        parser.add_argument(
            "--plan", action="store_true", help="show what the drain would do, and change nothing"
        )
        for option, text in node_actions.DRAIN.options:
            parser.add_argument(f"--{option.replace('_', '-')}", action="store_true", help=text)
        parser.add_argument(
            "--wait",
            metavar="SECONDS",
            type=seconds,
            help="wait until the node is empty; after this time exit with 1 and leave it draining",
        )

    def act(self, options: dict[str, Any]) -> None:
        """Show the plan, or begin or end the drain."""
        if options["plan"] and not options["undo"]:  # the base class refuses both together
            document = drain_document(options["node"])
            self.show(document, "\n".join(_plan_lines(document)))
            return
        super().act(options)

    def extra(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options of the drain."""
        return {option: options[option] for option, _ in node_actions.DRAIN.options}

    def wait_for_effect(self, name: str, options: dict[str, Any]) -> None:
        """Wait until the node is empty, if --wait asks for that."""
        if options["wait"]:
            wait_until_empty(name, options["wait"])

    def outcome(self, document: dict[str, Any]) -> str:
        """Return how many portfolios are to be handed off."""
        if not document["portfolios"]:
            return f"{document['name']} is drained: it runs nothing."
        left = count(len(document["portfolios"]), "portfolio")
        return f"{document['name']} is draining: {left} to hand off."


def _plan_lines(plan: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the plan: its sentence, one for each portfolio, and what would help."""
    yield plan["sentence"]
    for move in plan["leave"]:
        pin = "; its pin ends" if move["unpinned"] else ""
        yield f"  {move['portfolio']} → {move['target_node']}: {move['reason']}{pin}"
    for entry in plan["stay"]:
        yield f"  {entry['portfolio']} stays: {entry['reason']}"
    if plan["room"] is not None:
        yield f"{plan['room']['sentence']} (--make-room)"
    for remedy in plan["help"]:
        yield remedy["reason"]
    yield plan["losses_sentence"]
