"""manage.py create_portfolio NAME --strategy S [--config JSON] [--symbols A,B] [--weight N] …"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import CommandParser

from portfolios.models import CatchUp
from scheduling import requests
from scheduling.api.portfolios import portfolio_document
from scheduling.management.arguments import add_wait, json_object, label, words
from scheduling.management.base import GinkgoCommand
from scheduling.management.waiting import wait_for_running


class Command(GinkgoCommand):
    """Create a portfolio; the next pass places it."""

    help = "Create a portfolio with its first revision; the balancer places it at once."

    def arguments(self, parser: CommandParser) -> None:
        """Take what a portfolio is made of."""
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("--strategy", metavar="S", required=True)
        parser.add_argument(
            "--config", metavar="JSON", type=json_object, default={}, help="parameters"
        )
        parser.add_argument(
            "--symbols",
            metavar="A,B",
            type=words,
            default=[],
            help="which ones it trades, or '*' for all; a canary takes none",
        )
        parser.add_argument("--limits", metavar="JSON", type=json_object, default={})
        parser.add_argument("--weight", metavar="N", type=int, default=1)
        parser.add_argument(
            "--priority", metavar="N", type=int, default=0, help="higher is placed first"
        )
        parser.add_argument(
            "--selector",
            metavar="K=V",
            type=label,
            action="append",
            default=[],
            help="a label its node must have; may be given several times",
        )
        parser.add_argument("--spread-group", metavar="GROUP", default="")
        parser.add_argument(
            "--spread-hard", action="store_true", help="never two of its group on one node"
        )
        parser.add_argument("--catch-up", choices=CatchUp.values, default=CatchUp.STATE_ONLY.value)
        parser.add_argument("--cash", metavar="AMOUNT", type=_money, default=Decimal("100000"))
        parser.add_argument("--stopped", action="store_true", help="create it, but do not run it")
        parser.add_argument("--note", metavar="TEXT", default="")
        add_wait(parser)

    def act(self, options: dict[str, Any]) -> None:
        """Create it; wait until it commits where asked."""
        new = requests.NewPortfolio(
            name=options["name"],
            strategy=options["strategy"],
            config=options["config"],
            symbols=options["symbols"],
            limits=options["limits"],
            weight=options["weight"],
            priority=options["priority"],
            selector=dict(options["selector"]),
            spread_group=options["spread_group"],
            spread_hard=options["spread_hard"],
            catch_up=options["catch_up"],
            starting_cash=options["cash"],
            desired_state="stopped" if options["stopped"] else "running",
            note=options["note"],
        )
        portfolio = requests.create_portfolio(new, actor=self.actor)
        if options["wait"] and not options["stopped"]:
            wait_for_running(portfolio.name, options["wait"])
        document = portfolio_document(portfolio.name)
        run = document["run"]
        where = f" on {run['node']}" if run["node"] else ""
        self.show(document, f"{portfolio.name} was created: {run['phase']}{where}.")


def _money(text: str) -> Decimal:
    """Return an amount; argparse names the argument for a ValueError."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(text) from None
    if not value.is_finite():
        raise ValueError(text)
    return value
