"""Compare fenced commits over HTTP with a baseline.

    bin/bench commit [NODES] [PORTFOLIOS] [SECONDS]

Baseline: a raw ASGI application that runs one set-based fenced statement on four bare tables, with
a connection pool of the same size, under the same server. Ginkgo: the gateway on the product's
tables (checkpoint, orders, fills, equity, tenures, handoffs, audit, with their constraints), token
and checks included. Each node has one request in flight with all its portfolios, each with an
order, an equity point and a state of 11 KB before compression. One JSON row per path; `ratio` is
the rate relative to the baseline.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import zstandard

from bench.result_table import given_numbers
from ginkgo_site.launcher.postgres import EmbeddedPostgres
from scheduling.wire.messages import (
    PROTOCOL,
    Commit,
    CommitAnswers,
    CommitRequest,
    EquityLine,
    OrderLine,
    Register,
    encode,
)

PORT = int(os.environ.get("BENCH_PORT", "8911"))
STATE_BYTES = 11_000


def main() -> None:
    nodes, per_node, seconds = given_numbers(10, 20, 8)
    with own_database():
        rates = {}
        for path, app in (
            ("baseline", "bench.baseline_commit:app"),
            ("ginkgo", "ginkgo_site.asgi:application"),
        ):
            rates[path] = measure(path, app, nodes, per_node, seconds)
        for path, (rate, p50, p99) in rates.items():
            row = {
                "path": f"commit over HTTP, {nodes} nodes x {per_node} portfolios",
                "name": path,
                "value": round(rate),
                "unit": "commits/s",
                "p50_ms": round(p50 * 1e3, 2),
                "p99_ms": round(p99 * 1e3, 2),
                "against": "baseline",
                "ratio": round(rate / rates["baseline"][0], 2),
            }
            print(json.dumps(row))


@contextmanager
def own_database() -> Iterator[None]:
    """Run a PostgreSQL server, and set DATABASE_URL to it."""
    home = Path(tempfile.mkdtemp(prefix="ginkgo-bench-"))
    home.chmod(0o755)
    server = EmbeddedPostgres(home)
    server.prepare()
    server.start()
    server.wait_until_ready()
    os.environ |= {"DATABASE_URL": server.url, "GINKGO_HOME": str(home / "home")}
    try:
        yield
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def web_process(app: str, *options: str, port: int = PORT) -> Iterator[subprocess.Popen[bytes]]:
    """Run an ASGI application; end it afterwards."""
    web = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--lifespan", "on",
         "--log-level", "warning", "--no-access-log", *options],
    )  # fmt: skip
    try:
        yield web
    finally:
        web.terminate()
        web.wait(20)


def measure(
    path: str, app: str, nodes: int, per_node: int, seconds: int
) -> tuple[float, float, float]:
    """Return commits per second, and p50 and p99 of a request in seconds."""
    simulated = (
        prepare_ginkgo(nodes, per_node) if path == "ginkgo" else prepare_baseline(nodes, per_node)
    )
    with web_process(app):
        return asyncio.run(drive(simulated, seconds))


def prepare_baseline(nodes: int, per_node: int) -> list[Node]:
    """Create the baseline's tables, and nodes with portfolios in them."""
    import psycopg

    from bench.baseline_commit import SCHEMA

    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        connection.execute(
            "INSERT INTO baseline_run SELECT g, 1, 0 FROM generate_series(1, %s) g",
            (nodes * per_node,),
        )
    return [
        Node("none", list(range(1 + n * per_node, 1 + (n + 1) * per_node)), 0) for n in range(nodes)
    ]


def prepare_ginkgo(nodes: int, per_node: int) -> list[Node]:
    """Create nodes with tokens and portfolios through the product's code."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "ginkgo_site.settings"
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from scheduling.db.transaction import execute
    from scheduling.enact.register import register
    from scheduling.gateway.identity import GATEWAY_ID
    from scheduling.models import Node as NodeRow
    from scheduling.models import NodeToken, Run
    from scheduling.models.tokens import hash_token, new_token
    from scheduling.operations import NewPortfolio, create_portfolio
    from scheduling.timing import timing

    simulated = []
    for n in range(nodes):
        token = new_token()
        row = NodeRow.objects.create(name=f"node-{n}")
        NodeToken.objects.create(node=row, sha256=hash_token(token))
        node = Node(token, [], 0)
        execute(
            register(
                row.pk, row.name, register_message(node.incarnation, per_node), timing(), GATEWAY_ID
            )
        )
        for k in range(per_node):
            made = create_portfolio(
                NewPortfolio(
                    name=f"p-{n}-{k}",
                    strategy="sma_cross",
                    config={"fast": 3, "slow": 8, "quantity": "1"},
                    symbols=["IBM"],
                ),
                actor="bench",
            )
            Run.objects.filter(pk=made.pk).update(
                node=row, incarnation=node.incarnation, epoch=1, last_seq=0, state_seq=0
            )
            node.portfolios.append(made.pk)
        simulated.append(node)
    return simulated


def register_message(incarnation: uuid.UUID, capacity: int) -> Register:
    return Register(
        protocol=PROTOCOL,
        incarnation=str(incarnation),
        host="bench",
        pid=1,
        version="0",
        capacity=capacity,
        labels={},
        strategies={"sma_cross": 1},
        feeds={},
    )


class Node:
    """A simulated node: its token, its portfolios and their seq."""

    def __init__(self, token: str, portfolios: list[int], seq: int) -> None:
        self.token = token
        self.portfolios = portfolios
        self.seq = seq
        self.incarnation = uuid.uuid4()

    def request(self, states: list[bytes]) -> bytes:
        """Return the next request: one event for every portfolio."""
        commits = [
            Commit(
                portfolio=portfolio,
                epoch=1,
                from_seq=self.seq,
                to_seq=self.seq + 1,
                batch=str(uuid.uuid4()),
                state=states[(portfolio + self.seq) % len(states)],
                orders=[
                    OrderLine(self.seq + 1, 0, "IBM", "buy", "1", "60.1", "open", "", 1_700_000_000)
                ],
                equity=[EquityLine(self.seq + 1, 1_700_000_000, "100000.25")],
            )
            for portfolio in self.portfolios
        ]
        return encode(CommitRequest(incarnation=str(self.incarnation), commits=commits))


async def wait_until_listening(port: int = PORT) -> None:
    """Wait until the web process accepts connections, up to a minute on a busy machine."""
    for _ in range(1200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        except OSError:
            await asyncio.sleep(0.05)


async def drive(simulated: list[Node], seconds: int) -> tuple[float, float, float]:
    """Return commits per second, and p50 and p99 of a request in seconds."""
    states = [make_state(n) for n in range(8)]
    await wait_until_listening()
    await asyncio.gather(
        *(drive_node(node, states, time.perf_counter() + 1, []) for node in simulated)
    )
    took: list[float] = []
    began = time.perf_counter()
    await asyncio.gather(*(drive_node(node, states, began + seconds, took) for node in simulated))
    elapsed = time.perf_counter() - began
    took.sort()
    done = len(took) * len(simulated[0].portfolios)
    return done / elapsed, took[len(took) // 2], took[int(len(took) * 0.99)]


async def drive_node(
    node: Node, states: list[bytes], until: float, took: list[float], port: int = PORT
) -> None:
    """Commit until `until`, and add the seconds of each request to `took`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    decoder = msgspec.msgpack.Decoder(CommitAnswers)
    while (began := time.perf_counter()) < until:
        body = node.request(states)
        writer.write(
            b"POST /api/agent/commit/ HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer "
            + node.token.encode()
            + b"\r\ncontent-length: %d\r\n\r\n" % len(body)
            + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        answers = decoder.decode(await reader.readexactly(length))
        wrong = [r for r in answers.results if r.answer != "ok"]
        if wrong:
            raise SystemExit(f"a commit was not accepted: {wrong[0]}")
        node.seq += 1
        took.append(time.perf_counter() - began)
    writer.close()


def make_state(seed: int) -> bytes:
    """Return a compressed state, of about 11 KB before compression."""
    numbers = random.Random(seed)
    text = ""
    while len(text) < STATE_BYTES:
        text += f'{{"symbol":"S{numbers.randint(0, 99)}","quantity":"{numbers.random():.4f}"}},'
    return zstandard.compress(text.encode(), 1)


if __name__ == "__main__":
    main()
