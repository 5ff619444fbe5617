"""Measure heartbeats and commits with one, two and three web processes behind HAProxy.

    bin/bench webs [NODES] [PORTFOLIOS] [SECONDS] [ROUNDS]

Three web processes on one PostgreSQL, and an HAProxy whose three ports lead to one, two and three
of them. In each round each kind of request goes through each of the three, and without a proxy to
the first web process. A node has one request in flight on its own connection, as in `commit` and
`heartbeat` of `bin/bench`. One JSON row per kind and way: the median of the rounds; `ratio` is the
median of the rate relative to that without a proxy in the same round.

All of it shares this machine: where the processors are the limit, a second web process only shows
what it costs.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench import commit, heartbeat
from bench.commit import (
    PORT,
    Figures,
    Node,
    own_database,
    prepare_ginkgo,
    wait_until_listening,
    web_process,
)
from bench.result_table import given_numbers
from ginkgo_site.launcher.web import LIMIT_ARGUMENTS

WEBS = 3
WARM_UP_S = 0.5
#: Way to the web processes, and its port.
DIRECT = "one web process, no proxy"
WAYS = {DIRECT: PORT} | {
    f"{count} web process{'es' * (count > 1)} behind HAProxy": PORT + 10 + count
    for count in range(1, WEBS + 1)
}
HAPROXY = """
global
    maxconn 1000
defaults
    mode http
    timeout connect 2s
    timeout client 70s
    timeout server 70s
"""


def main() -> None:
    nodes, per_node, seconds, rounds = given_numbers(32, 5, 3, 4)
    with ExitStack() as running:
        running.enter_context(own_database())
        simulated = prepare_ginkgo(nodes, per_node)
        for number in range(WEBS):
            running.enter_context(
                web_process("ginkgo_site.asgi:application", *LIMIT_ARGUMENTS, port=PORT + number)
            )
        running.enter_context(haproxy())
        found = asyncio.run(measure_all(simulated, seconds, rounds))
    for (kind, way), figures in found.items():
        direct = found[kind, DIRECT]
        ratios = [one.rate / without.rate for one, without in zip(figures, direct, strict=True)]
        per_request = per_node if kind == "commit" else 1  # commits or heartbeats of one request
        row = {
            "path": f"{kind} over HTTP, {nodes} nodes x {per_node} portfolios",
            "name": way,
            "value": round(statistics.median(each.rate for each in figures) * per_request),
            "unit": f"{kind}s/s",
            "p50_ms": round(statistics.median(each.p50_s for each in figures) * 1e3, 2),
            "p99_ms": round(statistics.median(each.p99_s for each in figures) * 1e3, 2),
            "against": DIRECT,
            "ratio": round(statistics.median(ratios), 2),
            "ratios": [round(min(ratios), 2), round(max(ratios), 2)],
            "load": round(os.getloadavg()[0], 1),
        }
        print(json.dumps(row))


@contextmanager
def haproxy() -> Iterator[None]:
    """Run HAProxy with a port for each number of web processes, balanced as deploy/haproxy.cfg."""
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        sys.exit("HAProxy is not installed: apt-get install haproxy")
    text = HAPROXY
    for count, port in enumerate(list(WAYS.values())[1:], start=1):  # without DIRECT
        text += f"listen web-{count}\n    bind 127.0.0.1:{port}\n    balance leastconn\n"
        text += "    http-request set-header X-Forwarded-Proto https\n    option forwardfor\n"
        for number in range(count):
            text += f"    server web-{number} 127.0.0.1:{PORT + number}\n"
    with tempfile.TemporaryDirectory(prefix="ginkgo-bench-") as folder:
        file = Path(folder, "haproxy.cfg")
        file.write_text(text, encoding="utf-8")
        process = subprocess.Popen([program, "-db", "-f", str(file)])
        try:
            yield
        finally:
            process.terminate()
            process.wait(20)


async def measure_all(
    simulated: list[Node], seconds: int, rounds: int
) -> dict[tuple[str, str], list[Figures]]:
    """Return the figures of each round, by kind of request and key of WAYS."""
    for port in (*range(PORT, PORT + WEBS), *WAYS.values()):
        await wait_until_listening(port)
    kinds = {"heartbeat": heartbeat.drive_node, "commit": commit.drive_node}
    found: dict[tuple[str, str], list[Figures]] = {
        (kind, way): [] for kind in kinds for way in WAYS
    }
    for _ in range(rounds):
        for (kind, way), figures in found.items():
            drive_one = partial(kinds[kind], port=WAYS[way])
            figures.append(await commit.drive(drive_one, simulated, seconds, WARM_UP_S))
    return found


if __name__ == "__main__":
    main()
