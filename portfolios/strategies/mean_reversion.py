"""Buy what has fallen unusually far, sell when the price has recovered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from math import sqrt
from operator import mul
from typing import Annotated

import msgspec

from portfolios.strategies.base import (
    Context,
    FieldError,
    Held,
    OrderIntent,
    quantity_errors,
    smaller_errors,
)
from portfolios.strategies.recent_closes import RecentClosesStrategy


class MeanReversionParameters(msgspec.Struct, frozen=True):
    """Distances are standard deviations below the mean of the last `lookback` closes."""

    lookback: Annotated[int, msgspec.Meta(ge=2, le=1000, description="bars of the mean")] = 20
    entry_z: Annotated[float, msgspec.Meta(gt=0, le=20, description="deviations to buy at")] = 1.5
    exit_z: Annotated[float, msgspec.Meta(ge=0, le=20, description="deviations to sell at")] = 0.5
    quantity: Held = Decimal(10)


class MeanReversion(RecentClosesStrategy):
    """Buys when a close is at least `entry_z` deviations below the mean of the last closes.

    Sells everything when a close is less than `exit_z` deviations below the mean.
    """

    name = "mean_reversion"
    parameters_type = MeanReversionParameters

    @classmethod
    def check(
        cls, parameters: MeanReversionParameters, symbols: Sequence[str]
    ) -> Iterable[FieldError]:
        yield from smaller_errors("exit_z", parameters.exit_z, "entry_z", parameters.entry_z)
        yield from quantity_errors("quantity", parameters.quantity)

    @property
    def window(self) -> int:
        lookback: int = self.parameters.lookback
        return lookback

    def decide(self, ctx: Context, symbol: str, closes: list[int]) -> Iterable[OrderIntent] | None:
        z = _z_score(closes)
        held = ctx.held(symbol)
        if not held and z <= -self.parameters.entry_z:
            return [OrderIntent(symbol, "buy", self.parameters.quantity)]
        if held > 0 and z > -self.parameters.exit_z:
            return [OrderIntent(symbol, "sell", held)]
        return None


def _z_score(closes: list[int]) -> float:
    """Return how many deviations the last close is from the mean; 0 if all closes are equal.

    (n x - sum) / sqrt(n * sum of squares - sum²): integers up to the last two steps, which
    IEEE 754 rounds correctly, so that every machine gets the same bits.
    """
    size, total = len(closes), sum(closes)
    spread = size * sum(map(mul, closes, closes)) - total * total
    return (size * closes[-1] - total) / sqrt(spread) if spread else 0.0
