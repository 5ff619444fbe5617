"""The result of a backtest as one HTML file that needs nothing else: no script, no network."""

from __future__ import annotations

from typing import Any

from django.template.loader import render_to_string
from django.utils.safestring import mark_safe

from portfolios.backtest.document import BacktestDocument, Order
from portfolios.backtest.plot import draw
from portfolios.backtest.run import BacktestResult
from portfolios.backtest.summary import (
    facts,
    halt_sentence,
    heading,
    kind_text,
    plain_quantity,
    short_time,
)

#: Orders in the table, the newest ones; the JSON document has more.
MAX_ROWS = 500


def html_of(result: BacktestResult, document: BacktestDocument) -> str:
    """Return the result as an HTML page."""
    figures = document.figures
    context: dict[str, Any] = {
        "heading": heading(document),
        "document": document,
        "facts": facts(document),
        "halt": halt_sentence(document),
        # The drawing escapes its texts itself.
        "drawing": mark_safe(  # nosec B308, B703
            draw(result.tally.curve.points, result.tally.orders)
        ),
        "orders": [_order_cells(order) for order in document.orders[-MAX_ROWS:]],
        "orders_total": f"{figures.orders + figures.refused:,}",
        "left_out": figures.orders + figures.refused > MAX_ROWS,
        "parameters": ", ".join(
            f"{name} = {value}" for name, value in sorted(document.input.parameters.items())
        ),
    }
    return render_to_string("backtest/page.html", context)


def _order_cells(order: Order) -> dict[str, Any]:
    return {
        "seq": f"{order.seq:,}",
        "at": short_time(order.at),
        "symbol": order.symbol,
        "side": order.side,
        "kind": kind_text(order),
        "quantity": plain_quantity(order.quantity),
        "price": order.price,
        "fill_price": order.fill_price or "–",
        "status": order.status,
        "reason": order.reason or "",
    }
