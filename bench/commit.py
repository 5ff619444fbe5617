"""Compare fenced commits over HTTP with a baseline.

    bin/bench commit [NODES] [PORTFOLIOS] [SECONDS]

Baseline: a raw ASGI application that runs one set-based fenced statement on four bare tables, with
a connection pool of the same size, under the same server. Ginkgo: the gateway on the product's
tables (checkpoint, orders, fills, equity, tenures, handoffs, audit, with their constraints), token
and checks included. Each node has one request in flight with all its portfolios, each with an
order, an equity point and a state of 11 KB before compression. One JSON row for each; `ratio` is
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
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

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
        figures = {}
        for name, app, prepare in (
            ("baseline", "bench.baseline_commit:app", prepare_baseline),
            ("ginkgo", "ginkgo_site.asgi:application", prepare_ginkgo),
        ):
            simulated = prepare(nodes, per_node)
            with web_process(app):
                figures[name] = asyncio.run(drive(drive_node, simulated, seconds))
        for name, (requests_per_s, p50_s, p99_s) in figures.items():
            row = {
                "path": f"commit over HTTP, {nodes} nodes x {per_node} portfolios",
                "name": name,
                "value": round(requests_per_s * per_node),  # one commit for each portfolio
                "unit": "commits/s",
                "p50_ms": round(p50_s * 1e3, 2),
                "p99_ms": round(p99_s * 1e3, 2),
                "against": "baseline",
                "ratio": round(requests_per_s / figures["baseline"].rate, 2),
            }
            print(json.dumps(row))


@contextmanager
def own_database() -> Iterator[None]:
    """Run a PostgreSQL server until the context ends; set DATABASE_URL and GINKGO_HOME for it."""
    home = Path(tempfile.mkdtemp(prefix="ginkgo-bench-"))
    home.chmod(0o755)  # PostgreSQL runs as a user of its own
    server = EmbeddedPostgres(home)
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
    """Run an ASGI application at this port of 127.0.0.1; yield its process, end it afterwards."""
    web = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--lifespan", "on",
         "--log-level", "warning", "--no-access-log", *options],
    )  # fmt: skip
    try:
        yield web
    finally:
        web.terminate()
        web.wait(20)


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
        Node(token="none", portfolios=list(range(1 + n * per_node, 1 + (n + 1) * per_node)))
        for n in range(nodes)
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
        node = Node(token, [])
        message = Register(
            protocol=PROTOCOL,
            incarnation=str(node.incarnation),
            host="bench",
            pid=1,
            version="0",
            capacity=per_node,
            labels={},
            strategies={"sma_cross": 1},
            feeds={},
        )
        execute(register(row.pk, row.name, message, timing(), GATEWAY_ID))
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


@dataclass
class Node:
    """A simulated node: its token, the ids of its portfolios, and the last seq they share."""

    token: str
    portfolios: list[int]
    seq: int = 0
    incarnation: uuid.UUID = field(default_factory=uuid.uuid4)

    def commits(self) -> bytes:
        """Return the body of the next request: one event for every portfolio."""
        commits = [
            Commit(
                portfolio=portfolio,
                epoch=1,
                from_seq=self.seq,
                to_seq=self.seq + 1,
                batch=str(uuid.uuid4()),
                state=STATES[(portfolio + self.seq) % len(STATES)],
                orders=[
                    OrderLine(self.seq + 1, 0, "IBM", "buy", "1", "60.1", "open", "", 1_700_000_000)
                ],
                equity=[EquityLine(self.seq + 1, 1_700_000_000, "100000.25")],
            )
            for portfolio in self.portfolios
        ]
        return encode(CommitRequest(incarnation=str(self.incarnation), commits=commits))


async def wait_until_listening(port: int = PORT) -> None:
    """Return once the web process accepts connections, or after about a minute."""
    for _ in range(1200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        except OSError:
            await asyncio.sleep(0.05)


class Figures(NamedTuple):
    """Requests per second, and the seconds that a request took."""

    rate: float
    p50_s: float
    p99_s: float


async def drive(
    drive_one: Callable[[Node, float, list[float]], Awaitable[None]],
    simulated: list[Node],
    seconds: float,
    warm_up_s: float = 1.0,
) -> Figures:
    """Let `drive_one` send requests of every node, to warm up and then for `seconds`.

    It sends until a time of `time.perf_counter`, and adds the seconds of each request to a list.
    """
    await wait_until_listening()
    for lasting_s in (warm_up_s, seconds):
        took: list[float] = []
        began = time.perf_counter()
        await asyncio.gather(*(drive_one(node, began + lasting_s, took) for node in simulated))
        elapsed = time.perf_counter() - began
    took.sort()
    return Figures(len(took) / elapsed, took[len(took) // 2], took[int(len(took) * 0.99)])


def http_request(node: Node, path: str, body: bytes) -> bytes:
    """Return a POST of a node to the gateway."""
    return (
        b"POST /api/agent/%s/ HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer %s\r\n"
        b"content-length: %d\r\n\r\n%s" % (path.encode(), node.token.encode(), len(body), body)
    )


async def read_body(reader: asyncio.StreamReader) -> bytes:
    """Return the body of the next answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    return await reader.readexactly(
        int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    )


async def drive_node(node: Node, until: float, took: list[float], port: int = PORT) -> None:
    """Commit one request after another. Exit with a message if one commit is not accepted."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    decoder = msgspec.msgpack.Decoder(CommitAnswers)
    while (began := time.perf_counter()) < until:
        writer.write(http_request(node, "commit", node.commits()))
        answers = decoder.decode(await read_body(reader))
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


STATES = [make_state(seed) for seed in range(8)]


if __name__ == "__main__":
    main()
