"""The equity curve and its drawdown as one SVG drawing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from portfolios.backtest.curve import CurvePoint
from portfolios.backtest.feed_range import moment
from portfolios.backtest.figures import OrderLine

WIDTH, HEIGHT = 1040, 420  #: of the drawing, in pixels, as all numbers up to MARK_WIDTH
LEFT, RIGHT, TOP = 88, 16, 12
CURVE_HEIGHT, GAP, FALL_HEIGHT = 268, 34, 72
MARK_WIDTH = 6  #: fills closer than this share a mark, or they would hide the curve
TITLE_LINES = 8  #: fills listed in the title of a mark
THREE_DAYS_US = 3 * 86_400_000_000  #: labels of a shorter curve have the time of day


@dataclass(frozen=True, slots=True)
class _Scale:
    """Maps values to pixels of one axis."""

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low or 1.0  # low == high: any span maps this value to `begin`
        return round(self.begin + (value - self.low) / span * (self.end - self.begin), 1)


def draw(points: Sequence[CurvePoint], orders: Iterable[OrderLine]) -> str:
    """Return an SVG, whose classes the page's style sheet colours; "" without points."""
    if not points:
        return ""
    at = _Scale(points[0].at_us, points[-1].at_us, LEFT, WIDTH - RIGHT)
    lowest, highest = min(p.low for p in points), max(p.high for p in points)
    # A flat curve has no extent to take a margin from: then take it from the equity.
    margin = (highest - lowest) * 0.06 or abs(highest) * 0.01 or 1.0
    equity = _Scale(lowest - margin, highest + margin, TOP + CURVE_HEIGHT, TOP)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Equity and drawdown">',
        *_equity_grid(equity),
        *_time_labels(points, at),
        f'<polyline class="curve" points="{_line(points, at, equity)}"/>',
        *_marks(points, orders, at, equity),
        *_drawdown_area(points, at),
        "</svg>",
    ]
    return "\n".join(parts)


def _line(points: Sequence[CurvePoint], at: _Scale, equity: _Scale) -> str:
    """Return the corners of the curve; a joined point is a stroke from its high to its low."""
    pairs: list[str] = []
    for point in points:
        x = at(point.at_us)
        if point.low != point.high:
            pairs += [f"{x},{equity(point.high)}", f"{x},{equity(point.low)}"]
        pairs.append(f"{x},{equity(point.equity)}")
    return " ".join(pairs)


def _equity_grid(equity: _Scale) -> Iterable[str]:
    for value in _ticks(equity.low, equity.high, 5):
        y = equity(value)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{_short_number(value)}</text>'


def _time_labels(points: Sequence[CurvePoint], at: _Scale) -> Iterable[str]:
    """Yield labels at the beginning, the middle and the end; one if all points are of one time."""
    first, last = points[0].at_us, points[-1].at_us
    anchors = {0: "start", 2: "middle", 4: "end"}  # by quarter of the width
    for quarter, anchor in anchors.items():
        time_us = first + (last - first) * quarter // 4
        text = moment(time_us) if last - first < THREE_DAYS_US else moment(time_us)[:10]
        y = TOP + CURVE_HEIGHT + 20
        yield f'<text x="{at(time_us)}" y="{y}" text-anchor="{anchor}">{text}</text>'
        if first == last:
            return


def _marks(
    points: Sequence[CurvePoint], orders: Iterable[OrderLine], at: _Scale, equity: _Scale
) -> Iterable[str]:
    """Yield triangles on the curve, up for purchases, down for sales; close ones share one."""
    #: (column of MARK_WIDTH pixels, side) → x and y of its first fill, and all of its fills
    marks: dict[tuple[int, str], tuple[float, float, list[tuple[int, OrderLine]]]] = {}
    newest = 0  # index of the newest point before the fill
    filled = [(line.filled_us, line) for line in orders if line.filled_us is not None]
    for filled_us, line in sorted(filled, key=lambda pair: pair[0]):
        while newest + 1 < len(points) and points[newest + 1].at_us <= filled_us:
            newest += 1
        x = at(filled_us)
        key = (int(x / MARK_WIDTH), line.row.side)
        _, _, fills = marks.setdefault(key, (x, equity(points[newest].equity), []))
        fills.append((filled_us, line))
    for (_, side), (x, y, fills) in marks.items():
        shape = f"M{x},{y} l-4,9 h8 z" if side == "buy" else f"M{x},{y} l-4,-9 h8 z"
        texts = [_describe(*fill) for fill in fills[:TITLE_LINES]]
        if fills[TITLE_LINES:]:
            texts.append(f"and {len(fills) - TITLE_LINES:,} more")
        title = escape("\n".join(texts))
        yield f'<path class="{side}" d="{shape}"><title>{title}</title></path>'


def _describe(filled_us: int, line: OrderLine) -> str:
    """Return a filled order in words."""
    row = line.row
    what = f"{row.side} {row.quantity.normalize():f} {row.symbol}"
    return f"{what} at {line.fill_price}, {moment(filled_us)}"


def _drawdown_area(points: Sequence[CurvePoint], at: _Scale) -> Iterable[str]:
    top = TOP + CURVE_HEIGHT + GAP
    deepest = max(point.drawdown for point in points)
    fall = _Scale(0.0, deepest or 1.0, top, top + FALL_HEIGHT)  # a curve that never falls: any
    corners = " ".join(f"{at(point.at_us)},{fall(point.drawdown)}" for point in points)
    first, last = at(points[0].at_us), at(points[-1].at_us)
    yield f'<polygon class="fall" points="{first},{top} {corners} {last},{top}"/>'
    yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{top}" y2="{top}"/>'
    yield f'<text x="{LEFT - 8}" y="{top + 4}" text-anchor="end">0 %</text>'
    if deepest:
        y = top + FALL_HEIGHT + 4
        yield f'<text x="{LEFT - 8}" y="{y}" text-anchor="end">−{deepest:.1%}</text>'


def _ticks(low: float, high: float, wanted: int) -> Iterable[float]:
    """Yield about `wanted` multiples of 1, 2 or 5 times a power of ten between low and high."""
    raw = (high - low) / wanted
    power = 1.0
    while power * 10 <= raw:
        power *= 10
    while power > raw:
        power /= 10
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    value = -(-low // step) * step  # the first multiple that is not below `low`
    while value <= high:
        yield value
        value += step


def _short_number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.2f}"
