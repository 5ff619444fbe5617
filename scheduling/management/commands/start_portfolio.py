"""manage.py start_portfolio NAME [--reason TEXT] [--wait SECONDS]"""

from __future__ import annotations

from scheduling.management.handoff_commands import HandoffCommand
from scheduling.operations.registry import portfolio_actions


class Command(HandoffCommand):
    help = portfolio_actions.START.help("a portfolio")
    operation = portfolio_actions.START
