"""The sentences and figures of a backtest, for the terminal and the page."""

from __future__ import annotations

from decimal import Decimal

from portfolios.backtest.document import BacktestDocument, Order


def heading(document: BacktestDocument) -> str:
    """Return what was run, in a line."""
    given = document.input
    symbols = "all symbols"
    if given.symbols and "*" not in given.symbols:
        listed = ", ".join(given.symbols[:5])
        symbols = f"{listed} and {len(given.symbols) - 5} more" if given.symbols[5:] else listed
    return (
        f"{given.strategy} {given.strategy_version} on {given.feed}, seq {given.from_seq:,} to"
        f" {given.to_seq:,}, {symbols}"
    )


def facts(document: BacktestDocument) -> list[tuple[str, str, str]]:
    """Return (name, value, remark) of each figure, in the order to show them."""
    f, given = document.figures, document.input
    fell = _span(f.drawdown_from, f.drawdown_to)
    again = f"and {f.refused_again:,} times again" if f.refused_again else ""
    others = [(f.cancelled, "cancelled"), (f.expired, "expired"), (f.open_orders, "still open")]
    ended = ", ".join(f"{number:,} {what}" for number, what in others if number)
    return [
        ("Return", f"{f.return_:+.2%}", f"{_money(given.starting_cash)} → {_money(f.equity)}"),
        ("Realised profit", _money(f.realised), ""),
        ("Unrealised profit", _money(f.unrealised), ""),
        (
            "Max drawdown",
            f"{f.max_drawdown:.2%}",
            f"{_money(f.max_drawdown_amount)} {fell}".strip(),
        ),
        ("Turnover", _money(f.turnover), f"{f.turnover_ratio:.2f} × the average equity"),
        ("Exposure", f"{f.average_exposure:.1%}", f"on average, {f.max_exposure:.1%} at most"),
        ("Orders", f"{f.orders:,}", ended),
        ("Fills", f"{f.fills:,}", f"{_money(f.fees)} of fees" if Decimal(f.fees) else ""),
        ("Refused", f"{f.refused:,}", again),
        ("Events", f"{f.events:,}", _span(f.first_at, f.last_at)),
        *(
            (name, f"{metric.last:,.6g}", f"{metric.low:,.6g} to {metric.high:,.6g}")
            for name, metric in document.metrics.items()
        ),
    ]


def halt_sentence(document: BacktestDocument) -> str:
    """Return where a limit ended the run and why; empty if none did."""
    figures = document.figures
    if figures.halted is None:
        return ""
    return f"A limit halted it after seq {figures.halted_at_seq:,}: {figures.halted}."


def _span(first: str | None, last: str | None) -> str:
    return "" if first is None else f"from {short_time(first)} to {short_time(last)}"


def short_time(at: str | None) -> str:
    """Return a time to the second, without its offset; a midnight as its date, None as ""."""
    text = (at or "")[:19].replace("T", " ")
    return text.removesuffix(" 00:00:00")


def _money(text: str) -> str:
    return f"{Decimal(text):,.2f}"


def plain_quantity(quantity: str) -> str:
    """Return a quantity, which has decimal places, without needless zeros: 10, 0.5."""
    return quantity.rstrip("0").rstrip(".")


def kind_text(order: Order) -> str:
    """Return the kind of an order with its price: market, limit 12.5000, stop 9.0000 ioc."""
    price = order.limit_price or order.stop_price or ""
    time_in_force = "" if order.time_in_force == "gtc" else order.time_in_force
    return " ".join(filter(None, [order.kind, price, time_in_force]))
