"""The loop of a portfolio process, spoken to over a real socket pair."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from chaos.harness.installation import SLOW_MACHINE_S
from portfolios.feeds import open_feed
from portfolios.runtime.events import encode_events
from portfolios.runtime.messages import (
    HEADER,
    Batch,
    Failed,
    Load,
    Loaded,
    Reply,
    Request,
    Result,
    Stop,
    decode_reply,
    encode_message,
)
from portfolios.runtime.state import decode_state, strategy_view
from portfolios.runtime.worker import LossyStream, PortfolioWorker, serve
from tests.support.market_factories import spec


class Peer:
    """The daemon's end."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def ask(self, request: Request) -> Reply:
        self.sock.sendall(encode_message(request))
        return decode_reply(self._exactly(HEADER.unpack(self._exactly(HEADER.size))[0]))

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.sock.recv(size - len(data))
            assert piece, "the process closed its end"
            data += piece
        return data


def forked(ours: socket.socket, theirs: socket.socket) -> None:
    ours.close()
    serve(theirs)
    os._exit(0)


@pytest.fixture
def process() -> Iterator[tuple[Peer, Any]]:
    ours, theirs = socket.socketpair()
    child = multiprocessing.get_context("fork").Process(target=forked, args=(ours, theirs))
    child.start()
    theirs.close()
    ours.settimeout(SLOW_MACHINE_S)
    yield Peer(ours), child
    ours.close()
    child.join(SLOW_MACHINE_S)
    assert child.exitcode is not None, "it outlived its socket"


def batch(first: int, last: int, suppress: bool = False) -> Batch:
    """Return a batch of every event of the feed from `first` to `last`."""
    events = open_feed("replay").read(first, last - first + 1)
    return Batch(first - 1, last, suppress, encode_events(events))


def test_the_worker_loads_runs_and_stops(process: tuple[Peer, Any]) -> None:
    peer, child = process
    assert peer.ask(Load(spec("canary", first_seq=11), None, 0)) == Loaded(10, False)
    reply = peer.ask(batch(11, 110))
    assert isinstance(reply, Result)
    assert (reply.result.from_seq, reply.result.to_seq) == (10, 110)
    assert reply.result.state is not None
    assert strategy_view(decode_state(reply.result.state))["events"] == 100
    peer.sock.sendall(encode_message(Stop()))
    child.join(SLOW_MACHINE_S)
    assert child.exitcode == 0


@pytest.mark.parametrize("begun", [b"", HEADER.pack(1000) + b"half"], ids=["idle", "in a frame"])
def test_the_worker_ends_when_its_socket_closes(process: tuple[Peer, Any], begun: bytes) -> None:
    peer, child = process
    peer.ask(Load(spec("canary"), None, 0))
    peer.sock.sendall(begun)
    peer.sock.close()
    child.join(SLOW_MACHINE_S)
    assert child.exitcode == 0


def test_a_trial_load_may_be_followed_by_a_load_of_the_newest_state(
    process: tuple[Peer, Any],
) -> None:
    peer, _ = process
    peer.ask(Load(spec("canary"), None, 0))
    first = peer.ask(batch(1, 50))
    second = peer.ask(batch(51, 80))
    assert isinstance(first, Result)
    assert isinstance(second, Result)
    assert peer.ask(Load(spec("canary"), first.result.state, 50, trial=True)) == Loaded(50, True)
    assert peer.ask(Load(spec("canary"), second.result.state, 80)) == Loaded(80, False)
    third = peer.ask(batch(81, 100))
    assert isinstance(third, Result)
    assert third.result.state is not None
    assert strategy_view(decode_state(third.result.state))["gaps"] == 0


def test_a_failure_at_an_event_discards_the_portfolio_until_it_is_loaded_again(
    process: tuple[Peer, Any],
) -> None:
    peer, _ = process
    peer.ask(Load(spec("canary"), None, 0))
    assert isinstance(peer.ask(batch(5, 9)), Failed)
    again = peer.ask(batch(1, 9))
    assert isinstance(again, Failed)
    assert again.error == (
        "SeqMismatch: a batch up to seq 9 came, and no portfolio is loaded: a defect to report"
    )
    peer.ask(Load(spec("canary"), None, 0))
    assert isinstance(peer.ask(batch(1, 9)), Result)


@pytest.mark.parametrize(
    ("name", "parameters", "stage", "seq", "error"),
    [
        ("raise_at", {"at_event": 3}, "event", 3, "KeyError: ABC in raise_at at seq 3"),
        ("raise_on_load", {}, "load", None,
         "RuntimeError: this strategy cannot be loaded in raise_on_load while loading"),
    ],
)  # fmt: skip
def test_failure_of_a_strategy_is_answered_with_seq_and_trace(
    monkeypatch: pytest.MonkeyPatch, name: str, parameters: dict[str, int], stage: str,
    seq: int | None, error: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("GINKGO_STRATEGIES", "chaos.faults.faulty_strategies")
    worker = PortfolioWorker()
    reply = worker.answer(Load(spec(name, parameters=parameters), None, 0))
    if isinstance(reply, Loaded):
        reply = worker.answer(batch(1, 10))
    assert isinstance(reply, Failed)
    assert (reply.stage, reply.seq, reply.error) == (stage, seq, error)
    assert "faulty_strategies.py" in reply.trace
    assert len(reply.trace) <= 2000


def test_output_lost_to_a_full_pipe_is_reported_by_the_next_write() -> None:
    reader, writer = os.pipe()
    stream = LossyStream(os.fdopen(writer, "w"))
    stream.write("x" * 100_000)
    stream.write("y" * 7)
    kept = len(os.read(reader, 200_000))
    assert 0 < kept < 100_000
    stream.write("after\n")
    lost = 100_000 - kept + 7
    assert os.read(reader, 1_000).decode() == f"\n({lost:,} characters were lost here)\nafter\n"


def test_a_closed_output_does_not_fail_the_worker() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = LossyStream(os.fdopen(writer, "w"))
    print("into nothing", file=stream)
    print("again", file=stream)
    print("without any", file=LossyStream(None))
