"""manage.py raise_epoch_floor [--by N] [--reason TEXT]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.enact.epoch_floor import ENOUGH
from scheduling.management.arguments import add_reason, positive_int
from scheduling.management.base import GinkgoCommand


class Command(GinkgoCommand):
    """Rise above a history that was lost."""

    help = (
        "After a restore from backup or a promotion of a replica, before the web process starts: "
        "raise every epoch above any that may have been granted since, take every portfolio from "
        "its node, and let every daemon register again. What should run is then placed anew, from "
        "the checkpoints of this database."
    )

    def arguments(self, parser: CommandParser) -> None:
        """Take by how much, and why."""
        parser.add_argument(
            "--by",
            metavar="N",
            type=positive_int,
            default=ENOUGH,
            help="more than any portfolio was granted since the backup (%(default)s)",
        )
        add_reason(parser)

    def act(self, options: dict[str, Any]) -> None:
        """Raise it and print old and new."""
        by = options["by"]
        raised = operations.raise_epoch_floor(by, actor=self.actor, reason=options["reason"])
        results = [
            {"portfolio": one.portfolio, "epoch_before": one.epoch_before, "epoch": one.epoch}
            for one in raised
        ]
        before = max((one.epoch_before for one in raised), default=0)
        after = min((one.epoch for one in raised), default=0)
        document = {"by": by, "highest_before": before, "lowest_now": after, "results": results}
        self.show(
            document,
            f"{len(raised)} epochs were raised by {by:,}: the highest was {before:,}, the lowest "
            f"is {after:,}. What should run is pending until nodes have registered again.",
        )
