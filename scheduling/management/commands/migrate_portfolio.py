"""manage.py migrate_portfolio NAME… [--to NODE] [--reason TEXT] [--wait SECONDS]"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.management.base import Failed
from scheduling.management.handoff_commands import HandoffCommand
from scheduling.management.handoff_wait import wait_for
from scheduling.models import Handoff
from scheduling.operations.registry import portfolio_actions
from scheduling.presentation.documents import moved_document
from scheduling.presentation.sentences import handoff_sentence


class Command(HandoffCommand):
    help = portfolio_actions.MIGRATE.help("a portfolio")

    def arguments(self, parser: CommandParser) -> None:
        """Add `--to` and further portfolios."""
        super().arguments(parser)
        parser.add_argument(
            "more", metavar="NAME", nargs="*", help="more portfolios, in one request"
        )
        parser.add_argument(
            "--to", metavar="NODE", help="the target, by default chosen by the balancer"
        )

    def act(self, options: dict[str, Any]) -> None:
        """Move one portfolio, or several; with several, fail at the end if one did not move."""
        if not options["more"]:
            super().act(options)
            return
        names = [options["name"], *options["more"]]
        outcomes = operations.migrate_several(
            names, options["to"], actor=self.actor, reason=options["reason"]
        )
        if options["wait"]:
            outcomes = [
                replace(each, handoff=wait_for(each.handoff, options["wait"]))
                if each.handoff
                else each
                for each in outcomes
            ]
        lines = [
            handoff_sentence(each.handoff) if each.handoff else str(each.refused)
            for each in outcomes
        ]
        stayed = [each.portfolio for each in outcomes if each.handoff is None]
        if not stayed:
            self.show(moved_document(outcomes), "\n".join(lines))
            return
        summary = f"{len(stayed)} of {len(names)} did not move: {', '.join(stayed)}."
        if not self.as_json:
            self.show(None, "\n".join(lines))
        raise Failed("not_moved", summary, **moved_document(outcomes))

    def request(self, options: dict[str, Any], *, actor: str, reason: str) -> Handoff:
        """Begin the move."""
        return operations.migrate(options["name"], options["to"], actor=actor, reason=reason)
