"""A strategy that never returns from `initial`."""

from __future__ import annotations

from typing import Any

from portfolios.strategies.base import Strategy


class Looping(Strategy):
    """Loops before its first event."""

    name = "looping"

    def initial(self) -> dict[str, Any]:
        """Never return."""
        while True:
            pass

    def on_event(self, ctx: Any, state: Any, event: Any) -> None:
        """Never reached."""
