"""Buy what has fallen unusually far, sell when it is back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from math import sqrt
from operator import mul
from typing import Annotated, Any

import msgspec

from portfolios.runtime.events import Event
from portfolios.runtime.state import StrategyPart
from portfolios.strategies.base import Context, FieldError, OrderIntent, Strategy, quantity_errors


class MeanReversionParameters(msgspec.Struct, frozen=True):
    """Distances are standard deviations below the mean of the last `lookback` closes."""

    lookback: Annotated[int, msgspec.Meta(ge=2, le=1000)] = 20
    entry_z: Annotated[float, msgspec.Meta(gt=0, le=20)] = 1.5
    exit_z: Annotated[float, msgspec.Meta(ge=0, le=20)] = 0.5
    quantity: Decimal = Decimal(10)


class MeanReversion(Strategy):
    """Buys when a close lies `entry_z` deviations under the mean, and sells all when one lies less
    than `exit_z` under it. State: the last closes of each symbol, in units of 0.0001."""

    name = "mean_reversion"
    parameters_type = MeanReversionParameters

    @classmethod
    def check(
        cls, parameters: MeanReversionParameters, symbols: Sequence[str]
    ) -> Iterable[FieldError]:
        if parameters.exit_z >= parameters.entry_z:
            yield FieldError(
                "exit_z",
                "conflict",
                f"exit_z ({parameters.exit_z}) must be smaller than entry_z"
                f" ({parameters.entry_z}).",
            )
        yield from quantity_errors("quantity", parameters.quantity)

    def initial(self) -> dict[str, Any]:
        return {"closes": {}}

    def adapt(self, old: StrategyPart) -> dict[str, Any] | None:
        """Keep the newest closes that the new lookback can use."""
        kept = super().adapt(old)
        if kept is None:
            return None
        size = self.parameters.lookback
        return {"closes": {symbol: closes[-size:] for symbol, closes in kept["closes"].items()}}

    def on_event(
        self, ctx: Context, state: dict[str, Any], event: Event
    ) -> Iterable[OrderIntent] | None:
        size = self.parameters.lookback
        closes = state["closes"].setdefault(event.symbol, [])
        closes.append(event.close_e4)
        if len(closes) > size:
            del closes[0]
        if len(closes) < size or ctx.has_open_order(event.symbol):
            return None
        z = _z_score(closes)
        held = ctx.held(event.symbol)
        if not held and z <= -self.parameters.entry_z:
            return [OrderIntent(event.symbol, "buy", self.parameters.quantity)]
        if held > 0 and z > -self.parameters.exit_z:
            return [OrderIntent(event.symbol, "sell", held)]
        return None


def _z_score(closes: list[int]) -> float:
    """Return how many deviations the last close lies from the mean; 0 if all are equal.

    (n x - sum) / sqrt(n * sum of squares - sum²): whole numbers up to the last two steps, which
    IEEE 754 rounds correctly, so every machine gets the same bits.
    """
    size, total = len(closes), sum(closes)
    spread = size * sum(map(mul, closes, closes)) - total * total
    return (size * closes[-1] - total) / sqrt(spread) if spread else 0.0
