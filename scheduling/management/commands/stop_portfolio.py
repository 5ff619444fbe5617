"""manage.py stop_portfolio NAME [--reason TEXT] [--wait SECONDS]"""

from __future__ import annotations

from typing import Any

from scheduling import operations
from scheduling.management.handoff_commands import HandoffCommand
from scheduling.models import Handoff
from scheduling.operations.registry import portfolio_actions


class Command(HandoffCommand):
    help = portfolio_actions.STOP.help("a portfolio")

    def request(self, options: dict[str, Any], *, actor: str, reason: str) -> Handoff:
        return operations.stop(options["name"], actor=actor, reason=reason)
