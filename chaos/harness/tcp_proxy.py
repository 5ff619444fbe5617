"""A TCP proxy between a node and its server that can hold back traffic or reset connections."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from chaos.harness.installation import SLOW_MACHINE_S


class TcpProxy:
    """Forward TCP connections to one server. Traffic held back is delivered afterwards."""

    def __init__(self, server_url: str, host: str = "127.0.0.1") -> None:
        self._host = host
        parts = urlsplit(server_url)
        self._server = (parts.hostname, parts.port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        #: Gates: traffic in this direction flows while its event is set.
        self._to_server, self._to_node = asyncio.Event(), asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Server | None = None
        self.url = ""

    @contextmanager
    def open(self) -> Iterator[TcpProxy]:
        """Open both gates and forward connections in the block; then reset them all."""
        self._to_server.set()
        self._to_node.set()
        self._thread.start()
        try:
            self.url = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(
                SLOW_MACHINE_S
            )
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(SLOW_MACHINE_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(SLOW_MACHINE_S)
            self._loop.close()

    @contextmanager
    def hold_traffic(self, *, to_server: bool = True, to_node: bool = True) -> Iterator[None]:
        """Hold back traffic in these directions in the block; connections stay open."""
        directions = ((self._to_server, to_server), (self._to_node, to_node))
        gates = [gate for gate, is_held in directions if is_held]
        asyncio.run_coroutine_threadsafe(self._close(gates), self._loop).result(SLOW_MACHINE_S)
        try:
            yield
        finally:
            for gate in gates:
                self._loop.call_soon_threadsafe(gate.set)

    async def _close(self, gates: list[asyncio.Event]) -> None:
        """Close gates in the thread of the loop, the only one that may change its events."""
        for gate in gates:
            gate.clear()

    @contextmanager
    def redirect_to(self, server_url: str) -> Iterator[None]:
        """Forward connections that are made in the block to another server."""
        before, parts = self._server, urlsplit(server_url)
        self._server = (parts.hostname, parts.port)
        try:
            yield
        finally:
            self._server = before

    def reset(self) -> None:
        """Reset every connection with RST; data in transit is lost."""
        asyncio.run_coroutine_threadsafe(self._reset(), self._loop).result(SLOW_MACHINE_S)

    async def _listen(self) -> str:
        self._listening = await asyncio.start_server(self._accept, self._host, 0)
        host, port = self._listening.sockets[0].getsockname()
        return f"http://{host}:{port}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect a node to the server, and begin to copy both directions."""
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._server)
        except OSError:  # the server is down: refuse as it does
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        for source, sink, gate in (
            (reader, far_writer, self._to_server),
            (far_reader, writer, self._to_node),
        ):
            pump = asyncio.create_task(self._pump(source, sink, gate))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, gate: asyncio.Event
    ) -> None:
        """Copy one direction until its source ends; wait while its gate is closed."""
        try:
            while data := await source.read(1 << 16):
                await gate.wait()
                sink.write(data)
                await sink.drain()
            await gate.wait()
            sink.close()
        except OSError:
            sink.transport.abort()
        finally:
            self._writers.discard(sink)

    async def _reset(self) -> None:
        for pump in list(self._pumps):
            pump.cancel()
        for writer in self._writers:
            raw: socket.socket = writer.get_extra_info("socket")
            # SO_LINGER with 0 s makes the kernel send RST instead of FIN.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            writer.transport.abort()
        self._writers.clear()

    async def _end(self) -> None:
        if self._listening is not None:
            self._listening.close()
        await self._reset()
        # asyncio runs a task of its own for a connection that is just being accepted.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
