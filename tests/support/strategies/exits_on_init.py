"""A strategy that ends its process in `initial`."""

from __future__ import annotations

import os
from typing import Any

from portfolios.strategies.base import Strategy


class Leaving(Strategy):
    """Exits before its first event."""

    name = "leaving"

    def initial(self) -> dict[str, Any]:
        """End the process."""
        os._exit(3)

    def on_event(self, ctx: Any, state: Any, event: Any) -> None:
        """Never reached."""
