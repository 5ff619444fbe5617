"""manage.py delete_artifact SHA256"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.management.base import GinkgoCommand
from scheduling.operations.registry import roll_out_actions


class Command(GinkgoCommand):
    help = roll_out_actions.DELETE_ARTIFACT.help("an artifact")

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument("artifact", metavar="SHA256", help="its first 8 digits are enough")

    def act(self, options: dict[str, Any]) -> None:
        artifact = operations.delete_artifact(options["artifact"], actor=self.actor)
        document = {"deleted": artifact.sha256}
        self.show(document, f"{artifact} ({artifact.sha256[:12]}) was deleted.")
