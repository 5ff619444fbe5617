"""Durable heartbeats over HTTP: `bin/bench heartbeat [NODES] [PORTFOLIOS] [SECONDS]`.

Each node has one heartbeat in flight on its own connection, with a line for each of its portfolios.
To compare two checkouts, run both in turn on one machine. Prints one JSON row.
"""

from __future__ import annotations

import asyncio
import json
import time

import msgspec

from bench.commit import PORT, Node, own_database, prepare_ginkgo, wait_until_listening, web_process
from bench.result_table import given_numbers
from scheduling.wire.messages import Heartbeat, HeartbeatAnswer, ProcessStatus, encode


def main() -> None:
    nodes, per_node, seconds = given_numbers(64, 5, 8)
    with own_database():
        simulated = prepare_ginkgo(nodes, per_node)
        with web_process("ginkgo_site.asgi:application"):
            took, elapsed = asyncio.run(drive(simulated, seconds))
    took.sort()
    row = {
        "path": f"heartbeat over HTTP, {nodes} nodes x {per_node} portfolios",
        "value": round(len(took) / elapsed),
        "unit": "heartbeats/s",
        "p50_ms": round(took[len(took) // 2] * 1e3, 2),
        "p99_ms": round(took[int(len(took) * 0.99)] * 1e3, 2),
    }
    print(json.dumps(row))


async def drive(nodes: list[Node], seconds: int) -> tuple[list[float], float]:
    """Return the seconds of each heartbeat, and of the whole measurement."""
    await wait_until_listening()
    await asyncio.gather(*(drive_node(node, time.perf_counter() + 1, []) for node in nodes))
    took: list[float] = []
    began = time.perf_counter()
    await asyncio.gather(*(drive_node(node, began + seconds, took) for node in nodes))
    return took, time.perf_counter() - began


async def drive_node(node: Node, until: float, took: list[float], port: int = PORT) -> None:
    """Send heartbeats one after another. Exit with a message if one is not accepted."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    decoder = msgspec.msgpack.Decoder(HeartbeatAnswer)
    lines = [
        ProcessStatus(portfolio=each, epoch=1, revision=1, phase="running", seq=0, lag=0, pid=1)
        for each in node.portfolios
    ]
    # A version newer than any, so that no answer carries a desired set.
    beat = Heartbeat(incarnation=str(node.incarnation), have_version=2**40, portfolios=lines)
    body = encode(beat)
    request = (
        b"POST /api/agent/heartbeat/ HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer "
        + node.token.encode()
        + b"\r\ncontent-length: %d\r\n\r\n" % len(body)
        + body
    )
    while (began := time.perf_counter()) < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        answer = decoder.decode(await reader.readexactly(length))
        if answer.status != "ok":
            raise SystemExit(f"a heartbeat was not accepted: {answer}")
        took.append(time.perf_counter() - began)
    writer.close()


if __name__ == "__main__":
    main()
