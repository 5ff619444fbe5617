"""The shape of commands that begin a handoff of a portfolio and may wait for its end."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from django.core.management.base import CommandParser

from scheduling.management.arguments import add_reason, add_wait
from scheduling.management.base import GinkgoCommand
from scheduling.management.handoff_wait import wait_for, wait_for_running
from scheduling.models import Handoff
from scheduling.presentation.sentences import handoff_sentence, pending_sentence
from scheduling.presentation.serializers.history import HandoffDocument


class HandoffCommand(GinkgoCommand):
    """Request a handoff, wait for its end with --wait, and show it."""

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="the portfolio")
        add_reason(parser)
        add_wait(parser)

    @abstractmethod
    def request(self, options: dict[str, Any], *, actor: str, reason: str) -> Handoff | None:
        """Begin the handoff. Return None if the portfolio is pending instead."""

    def act(self, options: dict[str, Any]) -> None:
        """Request the handoff, wait where asked, and show the newest state."""
        name, wait_s = options["name"], options["wait"]
        handoff = self.request(options, actor=self.actor, reason=options["reason"])
        if wait_s:
            handoff = wait_for(handoff, wait_s) if handoff else wait_for_running(name, wait_s)
        if handoff is None:
            self.show({"portfolio": name, "handoff": None}, pending_sentence(name))
        else:
            self.show(HandoffDocument(handoff).data, handoff_sentence(handoff))
