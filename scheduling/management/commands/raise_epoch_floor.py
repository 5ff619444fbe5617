"""manage.py raise_epoch_floor [--by N] [--reason TEXT]"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from scheduling import operations
from scheduling.enact.epoch_floor import DEFAULT_RAISE
from scheduling.management.arguments import add_reason, positive_int
from scheduling.management.base import GinkgoCommand
from scheduling.operations.registry import fleet_actions


class Command(GinkgoCommand):
    help = (
        fleet_actions.RAISE_EPOCH_FLOOR.help()
        + " Run it after a restore from a backup or a promotion "
        "of a replica, before the web process starts."
    )

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--by",
            metavar="N",
            type=positive_int,
            default=DEFAULT_RAISE,
            help="more grants than any portfolio received since the backup (%(default)s)",
        )
        add_reason(parser)

    def act(self, options: dict[str, Any]) -> None:
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
            f"is {after:,}. Portfolios that should run are pending until nodes register again.",
        )
