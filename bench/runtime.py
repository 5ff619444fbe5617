"""Measure events per second of one portfolio process: pipe, decode, strategy, accounting, state.

    bin/bench runtime [EVENTS=100000] [RUNS=5]

In turns with it runs the bare loop of the same strategy: its `on_event` for each decoded event, in
one process, with an account that never trades. Batches are those of a node that catches up: 2,000
events, after each the state, as a commit needs it; and those of a node that follows closely: 100
events, the state after each order and after each twentieth batch. Speeds are those of the wall
clock, and, for a machine that is busy with other things, of the process's own CPU time.
"""

from __future__ import annotations

import multiprocessing
import socket
import time
from collections.abc import Sequence
from decimal import Decimal
from statistics import median
from typing import Any, BinaryIO, NamedTuple

from bench.result_table import given_numbers
from portfolios.feeds import open_feed
from portfolios.feeds.clock import Segment
from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.events import Event, decode_events, encode_events
from portfolios.runtime.messages import HEADER, Batch, Load, Result, decode_reply, encode_message
from portfolios.runtime.money import install_context
from portfolios.runtime.spec import Spec
from portfolios.runtime.worker import serve

SEGMENTS = (Segment(1, 0, 100.0),)
COMMIT_EVENTS = 2_000  #: as many as a commit has while a node catches up
PORTFOLIOS: tuple[tuple[str, list[str]], ...] = (
    ("sma_cross", ["IBM"]),
    ("mean_reversion", ["IBM"]),
    ("buy_and_hold", ["IBM"]),
    ("sma_cross", []),
    ("canary", []),
)


class Speed(NamedTuple):
    """Events per second, by the wall clock and by the CPU time of the process."""

    wall: float
    cpu: float


def main() -> None:
    """Measure portfolios with one symbol and with all symbols, and the canary."""
    count, runs = given_numbers(100_000, 5)
    print(f"{count:,} events a run, {runs} runs of each in turns; median events/s, wall and CPU")
    for strategy, symbols in PORTFOLIOS:
        spec = Spec("bench", "uid", 1, strategy, 1, {}, symbols, Decimal(1_000_000), 1)
        every = 1 if spec.symbol_set() is None else 376  # one event in so many has the symbol
        events = open_feed().read_for(spec.symbol_set(), 1, count * every, SEGMENTS, count)
        ways: dict[str, tuple[Any, ...]] = {
            "bare loop": (bare_loop, spec, events),
            "2,000 a batch": (portfolio_process, spec, events, 2_000),
            "100 a batch": (portfolio_process, spec, events, 100),
        }
        measured: dict[str, list[Speed]] = {way: [] for way in ways}
        for _ in range(runs):
            for way, measure in ways.items():
                measured[way].append(in_child(*measure))
        print(f"{strategy} on {','.join(symbols) or 'every symbol'}")
        bare = median(speed.cpu for speed in measured["bare loop"])
        for way, speeds in measured.items():
            wall, cpu = median(s.wall for s in speeds), median(s.cpu for s in speeds)
            print(f"    {way:14} {wall:>10,.0f} {cpu:>10,.0f}   {cpu / bare:5.2f} of the bare loop")


def in_child(measure: Any, *arguments: Any) -> Speed:
    """Run a measurement in a new process, so that memory of an earlier one does not affect it."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(
        target=lambda: theirs.send(measure(*arguments))
    )
    child.start()
    speed: Speed = ours.recv()
    child.join()
    return speed


def bare_loop(spec: Spec, events: Sequence[Event]) -> Speed:
    """Return the speed of a process that only decodes the events and calls the strategy."""
    install_context()
    encoded = [encode_events(events[at : at + 2_000]) for at in range(0, len(events), 2_000)]
    engine = PortfolioEngine.fresh(spec)
    on_event, context, data = (
        engine._strategy.on_event,
        engine._context,
        engine.state.strategy.data,
    )
    began, cpu_before = time.perf_counter(), time.process_time()
    for batch in encoded:
        for event in decode_events(batch):
            on_event(context, data, event)
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_before
    return Speed(len(events) / wall_s, len(events) / cpu_s)


def portfolio_process(spec: Spec, events: Sequence[Event], size: int) -> Speed:
    """Return the speed of a portfolio process that gets `size` events at once, as from a node."""
    frames, cursor, since_commit = [], 0, 0
    for at in range(0, len(events), size):
        piece = events[at : at + size]
        since_commit += len(piece)
        is_commit_due = since_commit >= COMMIT_EVENTS
        since_commit = 0 if is_commit_due else since_commit
        batch = Batch(cursor, piece[-1].seq, False, encode_events(piece), is_commit_due)
        frames.append(encode_message(batch))
        cursor = piece[-1].seq
    ours, theirs = socket.socketpair()
    child = multiprocessing.get_context("fork").Process(target=_serve, args=(ours, theirs))
    child.start()
    theirs.close()
    with ours, ours.makefile("rb") as replies:
        ours.sendall(encode_message(Load(spec, None, 0)))
        _read(replies)
        began, cpu_before = time.perf_counter(), _cpu_s(child.pid)
        for frame in frames:
            ours.sendall(frame)
            if not isinstance(reply := _read(replies), Result):
                raise RuntimeError(f"the portfolio process answered no Result: {reply}")
        wall_s, cpu_s = time.perf_counter() - began, _cpu_s(child.pid) - cpu_before
    child.join()
    return Speed(len(events) / wall_s, len(events) / cpu_s)


def _cpu_s(pid: int | None) -> float:
    """Return the CPU seconds of a process with one thread, to a microsecond or so."""
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9


def _serve(parents: socket.socket, childs: socket.socket) -> None:
    parents.close()  # while the child has a copy of it open, `serve` would never see end-of-file
    serve(childs)


def _read(replies: BinaryIO) -> Any:
    (size,) = HEADER.unpack(replies.read(HEADER.size))
    return decode_reply(replies.read(size))


if __name__ == "__main__":
    main()
