"""Frames of a portfolio process: each answers a request, and their size is limited."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from portfolios.runtime.messages import HEADER, MAX_REPLY_BYTES
from scheduling.node_daemon.child import _FrameProtocol


class Wire(asyncio.Transport):
    """A transport that discards requests."""

    aborted = False

    def write(self, data: Any) -> None:
        """Take it."""

    def abort(self) -> None:
        self.aborted = True


def frame(body: bytes) -> bytes:
    return HEADER.pack(len(body)) + body


async def frames() -> tuple[_FrameProtocol, Wire]:
    protocol, wire = _FrameProtocol(), Wire()
    protocol.connection_made(wire)
    return protocol, wire


async def test_replies_match_requests_in_order_however_frames_are_split() -> None:
    protocol, _ = await frames()
    first, second = protocol.send(b"1"), protocol.send(b"2")
    for byte in frame(b"one") + frame(b"two"):
        protocol.data_received(bytes([byte]))
    assert (first.result(), second.result()) == (b"one", b"two")
    assert len(protocol._buffer) == 0


async def test_reply_to_a_cancelled_request_is_dropped() -> None:
    protocol, _ = await frames()
    cancelled, waiting = protocol.send(b"1"), protocol.send(b"2")
    cancelled.cancel()
    protocol.data_received(frame(b"one") + frame(b"two"))
    assert waiting.result() == b"two"


@pytest.mark.parametrize("said", [frame(b"more"), HEADER.pack(5)])
async def test_reply_without_a_request_is_not_buffered(said: bytes) -> None:
    protocol, wire = await frames()
    asked = protocol.send(b"1")
    protocol.data_received(frame(b"one") + said)
    assert asked.result() == b"one"
    assert str(protocol.protocol_error) == "without a request"
    assert wire.aborted and len(protocol._buffer) == 0
    with pytest.raises(ConnectionResetError):
        await protocol.send(b"2")


async def test_largest_reply_is_accepted() -> None:
    protocol, wire = await frames()
    asked = protocol.send(b"1")
    protocol.data_received(HEADER.pack(MAX_REPLY_BYTES))
    protocol.data_received(bytes(MAX_REPLY_BYTES))
    assert len(asked.result()) == MAX_REPLY_BYTES
    assert not wire.aborted
