"""manage.py seed_demo [--nodes N]"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from portfolios.feed_registration import ensure_feed
from portfolios.models import FeedKind, FeedRow, Portfolio
from scheduling.errors import Refused
from scheduling.management.arguments import positive_int
from scheduling.management.base import GinkgoCommand
from scheduling.operations import NewPortfolio, create_portfolio

#: Six traders on real symbols: name, strategy, symbols, parameters. At 100 events a second each
#: symbol has a bar every 3.8 s, so short windows make them trade within the first minutes.
_TRADERS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("tech-hold", "buy_and_hold", "AMD EMC HPQ IBM TXN XRX", {"quantity": "20"}),
    ("retail-hold", "buy_and_hold", "BBY HD LOW TGT WMT", {"quantity": "25"}),
    ("ibm-sma", "sma_cross", "IBM", {"fast": 3, "slow": 8, "quantity": "100"}),
    ("ge-sma", "sma_cross", "GE", {"fast": 2, "slow": 5, "quantity": "500"}),
    ("energy-revert", "mean_reversion", "COP CVX HAL SLB XOM",
     {"lookback": 8, "entry_z": 1.2, "exit_z": 0.3, "quantity": "100"}),
    ("bank-revert", "mean_reversion", "BAC C GS JPM MS WFC",
     {"lookback": 6, "entry_z": 1.1, "exit_z": 0.2, "quantity": "150"}),
)  # fmt: skip
TRADERS = tuple(
    NewPortfolio(name, strategy, config, symbols.split(), note="demo")
    for name, strategy, symbols, config in _TRADERS
)


def canary(number: int) -> NewPortfolio:
    """Return one canary. Its spread group puts one on each node while there are enough nodes."""
    return NewPortfolio(
        name=f"canary-{number}", strategy="canary", spread_group="canary", priority=10, note="demo"
    )


class Command(GinkgoCommand):
    help = "Start the feed and create the demo portfolios: a canary per node and six traders."

    def arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--nodes",
            metavar="N",
            type=positive_int,
            default=3,
            help="a canary for each (%(default)s)",
        )

    def act(self, options: dict[str, Any]) -> None:
        """Create the demo portfolios and the feed that are missing; change none that exists."""
        if not FeedRow.objects.filter(kind=FeedKind.REPLAY).exists():
            ensure_feed(settings.GINKGO.feed_rate)
        wanted = [canary(number) for number in range(1, options["nodes"] + 1)]
        wanted += TRADERS
        created = [new.name for new in wanted if self._create(new)]
        kept = [new.name for new in wanted if new.name not in created]
        text = f"Created {', '.join(created)}." if created else "All demo portfolios exist already."
        self.show({"created": created, "kept": kept}, text)

    def _create(self, new: NewPortfolio) -> bool:
        """Create the portfolio. Return False if it exists already."""
        if Portfolio.objects.present().filter(name=new.name).exists():
            return False
        try:
            create_portfolio(new, actor=self.actor)
        except Refused as refused:
            if refused.code == "name_taken":  # concurrent writer: another start of the installation
                return False
            raise
        return True
