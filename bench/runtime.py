"""Measure events per second of one portfolio process: pipe, decode, strategy, accounting, state.

Run from the project root: `python -m bench.runtime`. Prints one line per strategy.
"""

from __future__ import annotations

import multiprocessing
import socket
import statistics
import time
from decimal import Decimal
from typing import Any, BinaryIO

from portfolios.feeds import open_feed
from portfolios.feeds.clock import Segment
from portfolios.runtime.events import encode_events
from portfolios.runtime.messages import HEADER, Batch, Load, Result, decode_reply, encode_message
from portfolios.runtime.spec import Spec
from portfolios.runtime.worker import serve

BATCH = 100
RUNS = 5
SEGMENTS = (Segment(1, 0, 100.0),)


def main() -> None:
    """Measure portfolios with one symbol and with all symbols, and the canary."""
    for strategy, symbols in (
        ("sma_cross", ["IBM"]),
        ("mean_reversion", ["IBM"]),
        ("buy_and_hold", ["IBM"]),
        ("sma_cross", []),
        ("canary", []),
    ):
        spec = Spec("bench", "uid", 1, strategy, 1, {}, symbols, Decimal(1_000_000), 1)
        rates = [measure(spec) for _ in range(RUNS)]
        name = f"{strategy} on {','.join(symbols) or 'every symbol'}"
        print(
            f"{name:30} {statistics.median(rates):>10,.0f} events/s"
            f" ({min(rates):,.0f} to {max(rates):,.0f}), {BATCH} a batch, state each batch"
        )


def measure(spec: Spec, count: int = 100_000) -> float:
    """Return events/s of one process over `count` events of its symbols."""
    laps = 1 if spec.symbol_set() is None else 376
    events = open_feed().read_for(spec.symbol_set(), 1, count * laps, SEGMENTS, count)
    pieces = [events[at : at + BATCH] for at in range(0, len(events), BATCH)]
    frames, cursor = [], 0
    for piece in pieces:
        frames.append(encode_message(Batch(cursor, piece[-1].seq, False, encode_events(piece))))
        cursor = piece[-1].seq
    ours, theirs = socket.socketpair()
    process = multiprocessing.get_context("fork").Process(target=_child, args=(ours, theirs))
    process.start()
    theirs.close()
    with ours, ours.makefile("rb") as replies:
        ours.sendall(encode_message(Load(spec, None, 0)))
        _read(replies)
        began = time.perf_counter()
        for frame in frames:
            ours.sendall(frame)
            if not isinstance(reply := _read(replies), Result):
                raise RuntimeError(reply)
        took = time.perf_counter() - began
    process.join()
    return len(events) / took


def _child(ours: socket.socket, theirs: socket.socket) -> None:
    ours.close()  # with a forked copy of the other end open, the loop would never see its end
    serve(theirs)


def _read(replies: BinaryIO) -> Any:
    (size,) = HEADER.unpack(replies.read(HEADER.size))
    return decode_reply(replies.read(size))


if __name__ == "__main__":
    main()
