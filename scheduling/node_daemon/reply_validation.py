"""Validate the replies of a portfolio process.

A strategy runs in that process and can write anything into its socket: an endless frame, malformed
bytes, numbers that would fill the daemon's memory when written out. Anything other than a valid
reply to the request ends the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from math import isfinite

import msgspec

from portfolios.feeds.history import MAX_WARM_UP
from portfolios.runtime.context import METRIC_NAME
from portfolios.runtime.messages import Batch, Failed, Load, Loaded, Reply, Result, decode_reply
from portfolios.runtime.results import BatchResult
from scheduling.wire.messages import LATEST_US, MAX_INDEX, MAX_REASON, MAX_SYMBOL, MAX_TAG

MAX_DIGITS = 40  #: on each side of the decimal point; the database keeps 20 before and 4 after it
MAX_SYMBOLS = 10_000  #: besides those of the spec; each costs a look-up per batch
MAX_ERROR, MAX_TRACE = 600, 2_000  #: characters of a failure; the rest is cut off


class InvalidReply(Exception):
    """The reply does not answer the request. Its text continues "its process answered …"."""


def validate_reply(request: Load | Batch, body: bytes) -> Loaded | Result | Failed:
    """Return the reply if it is a valid answer to `request`, else raise InvalidReply. Pure.

    The texts of a Failed are cut to MAX_ERROR and MAX_TRACE characters.
    """
    try:
        reply: Reply = decode_reply(body)
    except (msgspec.DecodeError, ValueError, ArithmeticError) as error:
        raise InvalidReply(f"with {len(body)} bytes that cannot be decoded ({error})") from None
    if isinstance(reply, Failed):
        return Failed(reply.stage, reply.seq, reply.error[:MAX_ERROR], reply.trace[:MAX_TRACE])
    if isinstance(request, Load):
        if not isinstance(reply, Loaded):
            raise InvalidReply("with the result of a batch, not with the reply to a load")
        if len(reply.extra_symbols) > MAX_SYMBOLS:
            extra = len(reply.extra_symbols)
            raise InvalidReply(
                f"with {extra} symbols in use that its revision does not list, limit {MAX_SYMBOLS}"
            )
        # A load with the history may not ask for it again: nothing would be loaded.
        most = MAX_WARM_UP if request.history is None else 0
        if not 0 <= reply.needs_history <= most:
            raise InvalidReply(f"with a need for {reply.needs_history} past events, limit {most}")
        return reply
    if not isinstance(reply, Result):
        raise InvalidReply("with the reply to a load, not to a batch")
    violation = next(_violations(request, reply.result), "")
    if violation:
        raise InvalidReply(f"with {violation}")
    return reply


def _violations(request: Batch, result: BatchResult) -> Iterator[str]:
    """Yield each way in which the result contradicts the requested batch, as a noun phrase."""
    expected = (request.from_seq, request.to_seq, request.suppress)
    found = (result.from_seq, result.to_seq, result.suppress)
    ends_early = result.halt and request.from_seq < result.to_seq <= request.to_seq
    to_seq = request.to_seq if ends_early else result.to_seq
    if (result.from_seq, to_seq, result.suppress) != expected:
        yield f"a result whose (from_seq, to_seq, suppress) is {found}, not {expected}"
    for order in result.orders:
        if not request.from_seq < order.seq <= request.to_seq:
            yield f"an order at seq {order.seq}, outside its batch"
        if request.suppress and order.status != "suppressed":
            yield f"an order at seq {order.seq} although the batch is suppressed"
        yield from _number_violations(
            order.seq, order.decided_us, order.index, order.quantity, order.price
        )
        prices = [price for price in (order.limit_price, order.stop_price) if price is not None]
        yield from _number_violations(order.seq, order.decided_us, 0, *prices)
        yield from _symbol_violations(order.symbol)
        yield from _text_violations(order.seq, order.tag, MAX_TAG)
        yield from _text_violations(order.seq, order.reason or "", MAX_REASON)
    for fill in result.fills:
        if not request.from_seq < fill.fill_seq <= request.to_seq:
            yield f"a fill at seq {fill.fill_seq}, outside its batch"
        yield from _number_violations(
            fill.fill_seq, fill.at_us, fill.index, fill.quantity, fill.price, fill.fee
        )
        yield from _symbol_violations(fill.symbol)
    for end in result.ended:
        if not request.from_seq < end.seq <= request.to_seq or end.order_seq > end.seq:
            yield f"the end of an order at seq {end.seq}, outside its batch"
        yield from _number_violations(end.order_seq, 0, end.order_index)
        yield from _text_violations(end.seq, end.reason, MAX_REASON)
    for row in result.metrics:
        if not request.from_seq < row.seq <= request.to_seq:
            yield f"a metric at seq {row.seq}, outside its batch"
        yield from _number_violations(row.seq, row.at_us, 0)
        if not isfinite(row.value) or not METRIC_NAME.fullmatch(row.name):
            yield f"a metric with an invalid name or a value that is not finite at seq {row.seq}"
    if len(result.halt) > MAX_REASON:
        yield f"a reason to halt of {len(result.halt)} characters, limit {MAX_REASON}"
    for point in result.equity:
        if not request.from_seq < point.seq <= request.to_seq:
            yield f"an equity point at seq {point.seq}, outside its batch"
        yield from _number_violations(point.seq, point.at_us, 0, point.equity)


def _number_violations(seq: int, at_us: int, index: int, *amounts: Decimal) -> Iterable[str]:
    if not 0 <= at_us <= LATEST_US:
        yield f"the time {at_us} at seq {seq}, in µs outside the years 1970 to 9999"
    if not 0 <= index <= MAX_INDEX:
        yield f"the index {index} at seq {seq}, outside 0 to {MAX_INDEX}"
    for amount in amounts:
        if not _is_short(amount):
            yield f"an amount that is not finite or has over {MAX_DIGITS} digits at seq {seq}"


def _is_short(amount: Decimal) -> bool:
    """Return whether an amount is finite, with at most MAX_DIGITS digits on each side."""
    exponent = amount.as_tuple().exponent  # "n", "N" or "F": NaN or infinite
    return isinstance(exponent, int) and exponent >= -MAX_DIGITS and amount.adjusted() <= MAX_DIGITS


def _symbol_violations(symbol: str) -> Iterable[str]:
    if len(symbol) > MAX_SYMBOL or not symbol.isprintable():
        yield f"a symbol of {len(symbol)} characters, not at most {MAX_SYMBOL} printable ones"


def _text_violations(seq: int, text: str, most: int) -> Iterable[str]:
    if len(text) > most or not text.isprintable():
        yield f"a text of {len(text)} characters at seq {seq}, not at most {most} printable ones"
