"""An equity curve of bounded size, however many points it is given."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

MAX_POINTS = 4_000  #: of one curve


class CurvePoint(msgspec.Struct):
    """The equity over one interval: one recorded point, or several that were joined."""

    seq: int  #: of the last recorded point
    at_us: int  #: of the last recorded point
    equity: float  #: of the last recorded point
    low: float  #: lowest and highest equity of all joined points
    high: float
    drawdown: float  #: the deepest fall below the highest equity so far, as a fraction of that
    exposure: float  #: gross value of the positions at the last point, as a fraction of the equity


class Curve:
    """Collects points. If they get too many, each two neighbours are joined: low and high stay."""

    def __init__(self, limit: int = MAX_POINTS) -> None:
        """Keep at most `limit` points."""
        self._limit = limit
        self._step, self._in_last = 1, 0  # recorded points in each joined one, and in the newest
        self._points: list[CurvePoint] = []

    @property
    def points(self) -> Sequence[CurvePoint]:
        """Return the points, oldest first."""
        return self._points

    def add(self, point: CurvePoint) -> None:
        """Append the next recorded point, or join it to the newest one."""
        if self._points and self._in_last < self._step:
            self._points[-1] = _merge(self._points[-1], point)
            self._in_last += 1
            return
        if len(self._points) == self._limit:
            pairs = zip(self._points[::2], self._points[1::2], strict=False)
            odd = self._points[-1:] if self._limit % 2 else []  # a last one without a neighbour
            self._points = [_merge(first, second) for first, second in pairs] + odd
            self._step *= 2
        self._points.append(point)
        self._in_last = 1


def _merge(first: CurvePoint, second: CurvePoint) -> CurvePoint:
    """Return the point of two neighbours: values of the second, extremes of both."""
    return CurvePoint(
        second.seq, second.at_us, second.equity, min(first.low, second.low),
        max(first.high, second.high), max(first.drawdown, second.drawdown), second.exposure,
    )  # fmt: skip
