"""A strategy that prints at every event, and buys at every fifth."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Any

from portfolios.strategies.base import OrderIntent, Strategy


class Talking(Strategy):
    """Prints the symbol and how many events it has seen."""

    name = "talking"

    def on_event(self, ctx: Any, state: Any, event: Any) -> Any:
        """Print a line to stdout, and the begin of one to stderr."""
        state["seen"] = state.get("seen", 0) + 1
        print(f"{event.symbol} is number {state['seen']}")
        print("unended", end="", file=sys.stderr)
        if state["seen"] % 5:
            return None
        return [OrderIntent(event.symbol, "buy", Decimal(1))]
