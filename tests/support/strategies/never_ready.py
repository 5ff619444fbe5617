"""Strategies that never return from `initial`: one loops, one ends its process."""

from __future__ import annotations

import os
from typing import Any

from portfolios.strategies.base import Strategy


class Looping(Strategy):
    """Loops before its first event."""

    name = "looping"

    def initial(self) -> dict[str, Any]:
        while True:
            pass

    def on_event(self, ctx: Any, state: Any, event: Any) -> None:
        """Never reached."""


class Leaving(Looping):
    """Exits before its first event."""

    name = "leaving"

    def initial(self) -> dict[str, Any]:
        os._exit(3)
