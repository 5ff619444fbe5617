"""manage.py delete_portfolio NAME [--reason TEXT] [--yes] [--wait SECONDS]"""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.management.arguments import add_reason, add_wait
from scheduling.management.base import Failed, GinkgoCommand
from scheduling.management.handoff_wait import wait_for
from scheduling.models.handoff import HandoffState
from scheduling.operations.registry import portfolio_actions
from scheduling.presentation.sentences import handoff_sentence
from scheduling.presentation.serializers.history import HandoffDocument


class Command(GinkgoCommand):
    help = portfolio_actions.DELETE.help("a portfolio")

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="the portfolio")
        add_reason(parser)
        parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
        add_wait(parser)

    def act(self, options: dict[str, Any]) -> None:
        """Delete the portfolio; with --wait, return once it is released."""
        name = options["name"]
        if sys.stdin.isatty() and not options["yes"]:
            self._confirm(name)
        handoff = operations.delete_portfolio(name, actor=self.actor, reason=options["reason"])
        if options["wait"]:
            handoff = wait_for(handoff, options["wait"])
        still_releasing = ""
        if handoff.state != HandoffState.DONE:
            still_releasing = f" Its node is still releasing it: {handoff_sentence(handoff)}"
        document = {"portfolio": name, "deleted": True, "handoff": HandoffDocument(handoff).data}
        self.show(document, f"{name} is deleted.{still_releasing}")

    def _confirm(self, name: str) -> None:
        """Return once the operator has typed the name. Raise Failed for anything else."""
        self.stderr.write(
            f"{portfolio_actions.DELETE.consequence} Type {name} to confirm: ", ending=""
        )
        self.stderr.flush()
        if sys.stdin.readline().strip() != name:
            raise Failed("not_confirmed", f"Nothing was deleted: `{name}` was not typed.")
