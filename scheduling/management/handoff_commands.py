"""The shape of commands that begin a handoff of a portfolio and may wait for its end."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling.management.arguments import add_reason, add_wait
from scheduling.management.base import GinkgoCommand
from scheduling.management.handoff_wait import wait_for, wait_for_running
from scheduling.models import Handoff
from scheduling.operations.registry.operation import Operation
from scheduling.presentation.sentences import handoff_sentence, pending_sentence
from scheduling.presentation.serializers.history import HandoffDocument


class HandoffCommand(GinkgoCommand):
    """Perform `operation` on a portfolio. With --wait, return once its handoff has ended."""

    operation: Operation

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="the portfolio")
        add_reason(parser)
        add_wait(parser)

    def extra(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return further arguments of the operation."""
        return {}

    def act(self, options: dict[str, Any]) -> None:
        """Begin the handoff, wait for it with --wait, and show it, or why it waits to begin."""
        name, wait_s, given = options["name"], options["wait"], self.extra(options)
        handoff: Handoff | None = self.operation.call(
            name, actor=self.actor, reason=options["reason"], **given
        )
        if wait_s:
            handoff = wait_for(handoff, wait_s) if handoff else wait_for_running(name, wait_s)
        if handoff is None:
            self.show({"portfolio": name, "handoff": None}, pending_sentence(name))
        else:
            self.show(HandoffDocument(handoff).data, handoff_sentence(handoff))
