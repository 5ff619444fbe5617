"""Durable heartbeats over HTTP: `bin/bench heartbeat [NODES] [PORTFOLIOS] [SECONDS]`.

Each node has one heartbeat in flight on its own connection, with a line for each of its portfolios.
To compare two checkouts, run both in turn on one machine. Prints one JSON row.
"""

from __future__ import annotations

import asyncio
import json
import time

import msgspec

from bench.commit import (
    PORT,
    Node,
    drive,
    http_request,
    own_database,
    prepare_ginkgo,
    read_body,
    web_process,
)
from bench.result_table import given_numbers
from scheduling.wire.messages import Heartbeat, HeartbeatAnswer, ProcessStatus, encode


def main() -> None:
    nodes, per_node, seconds = given_numbers(64, 5, 8)
    with own_database():
        simulated = prepare_ginkgo(nodes, per_node)
        with web_process("ginkgo_site.asgi:application"):
            rate, p50_s, p99_s = asyncio.run(drive(drive_node, simulated, seconds))
    row = {
        "path": f"heartbeat over HTTP, {nodes} nodes x {per_node} portfolios",
        "value": round(rate),
        "unit": "heartbeats/s",
        "p50_ms": round(p50_s * 1e3, 2),
        "p99_ms": round(p99_s * 1e3, 2),
    }
    print(json.dumps(row))


async def drive_node(node: Node, until: float, took: list[float], port: int = PORT) -> None:
    """Send one heartbeat after another. Exit with a message if one is not accepted."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    decoder = msgspec.msgpack.Decoder(HeartbeatAnswer)
    lines = [
        ProcessStatus(portfolio=each, epoch=1, revision=1, phase="running", seq=0, lag=0, pid=1)
        for each in node.portfolios
    ]
    # A version newer than any, so that no answer carries a desired set.
    beat = Heartbeat(incarnation=str(node.incarnation), have_version=2**40, portfolios=lines)
    request = http_request(node, "heartbeat", encode(beat))
    while (began := time.perf_counter()) < until:
        writer.write(request)
        answer = decoder.decode(await read_body(reader))
        if answer.status != "ok":
            raise SystemExit(f"a heartbeat was not accepted: {answer}")
        took.append(time.perf_counter() - began)
    writer.close()


if __name__ == "__main__":
    main()
