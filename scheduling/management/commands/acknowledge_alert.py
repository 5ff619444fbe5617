"""manage.py acknowledge_alert ID [--reason TEXT]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling.management.arguments import add_reason, positive_int
from scheduling.management.base import GinkgoCommand
from scheduling.operations.registry import alert_actions


class Command(GinkgoCommand):
    help = f"{alert_actions.ACKNOWLEDGE_ALERT.help('ID')} --reason is the note."

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("alert", metavar="ID", type=positive_int)
        add_reason(parser)

    def act(self, options: dict[str, Any]) -> None:
        number = options["alert"]
        alert_actions.ACKNOWLEDGE_ALERT.call(number, actor=self.actor, reason=options["reason"])
        self.show({"alert": number}, alert_actions.ACKNOWLEDGE_ALERT.outcome(number))
