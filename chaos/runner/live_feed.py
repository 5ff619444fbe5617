"""A feed in JetStream that grows throughout a run, with portfolios that trade on it.

One source appends numbered bars over HTTP and repeats each append until it is answered: record n of
the feed is bar n, whatever failed meanwhile. So feed, canary and verification can all be checked.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from chaos.harness import reference_feed
from chaos.harness.cluster import Cluster
from chaos.harness.installation import ApiResponse
from chaos.harness.nats_server import NatsServer

FEED, SYMBOL = "live", "LIVE"
#: They are no bystanders: each pauses while the NATS server or the web process is down.
PORTFOLIOS: tuple[dict[str, Any], ...] = (
    {"name": "live-canary", "strategy": "canary", "symbols": []},
    {
        "name": "live-sma",
        "strategy": "sma_cross",
        "config": {"fast": 2, "slow": 4, "quantity": "10"},
        "symbols": [SYMBOL],
    },
)
NAMES = frozenset(body["name"] for body in PORTFOLIOS)
EVERY_S = 0.3  #: between two appends
ROWS = 3  #: in one append
HEAD_LIMIT_S = 60.0  #: for the portfolios to reach the head, once the feed no longer grows
RETRY_S, TRIES = 0.2, 3_000  #: an append is repeated for at least ten minutes
FIRST = datetime(2026, 1, 5, tzinfo=UTC)  #: time of bar 0

Report = Callable[[str, str, dict[str, Any]], None]  #: invariant, sentence, evidence


class LiveFeed:
    """The NATS server, the feed and its source."""

    def __init__(self, home: Path) -> None:
        """Start nothing yet; `home` is the installation's."""
        self.server = NatsServer(home / "nats")
        self.appended = 0  #: rows that were answered
        self.failed_requests = 0  #: appends that were refused or not answered
        self.last_refusal = ""  #: text of the newest failed request; "": it was not answered
        self.report: Report = lambda invariant, what, evidence: None
        self._ended = threading.Event()
        self._source = threading.Thread(target=self._append_all, name="source", daemon=True)
        self._cluster: Cluster | None = None
        self._number = 0  #: of the newest append

    def open(self, cluster: Cluster) -> None:
        """Create the feed and its portfolios, and start to append. The home must be new."""
        self._cluster = cluster
        cluster.manage("feed", "create", FEED, "--instrument", f"{SYMBOL}:tick=0.01", "--jetstream")
        self._append_next()
        for body in PORTFOLIOS:
            given = {**body, "feed": FEED, "catch_up": "full"}
            cluster.call("POST", "/api/portfolios/", given).must_be(201)
        self._source.start()

    def stop(self) -> None:
        """End the source, and wait for at most 120 s until its last append is answered."""
        self._ended.set()
        if self._source.ident is not None:
            self._source.join(120)

    def close(self) -> None:
        """Tell the source to end, and kill the NATS server without waiting for the last append."""
        self._ended.set()
        self.server.kill()

    def process(self) -> psutil.Process:
        """The process of the NATS server."""
        return psutil.Process(self.server.pid)

    def head(self) -> int:
        """The released head of the feed."""
        assert self._cluster is not None
        return feed_head(self._cluster, FEED)

    def limit_growth(self, more_bytes: int | None) -> None:
        """Let the feed's stream take `more_bytes` beyond what it has; None: any number."""

        async def limit_stream() -> None:
            from nats.aio.client import Client

            client = Client()
            await client.connect(self.server.url, allow_reconnect=False, connect_timeout=5)
            try:
                info = await client.jetstream().stream_info(f"GINKGO_FEED_{FEED}")
                info.config.max_bytes = -1 if more_bytes is None else info.state.bytes + more_bytes
                await client.jetstream().update_stream(info.config)
            finally:
                await client.close()

        asyncio.run(limit_stream())

    def check(self) -> None:
        """Report missing or repeated records, and portfolios that do not reach the head in time."""
        assert self._cluster is not None
        checked = self._cluster.manage("feed", "check", FEED, check=False) or {}
        if checked.get("records") != self.appended:
            self.report("I2", f"feed {FEED} lacks or repeats some of {self.appended} rows", checked)
        began = time.monotonic()
        while short := self._short_of_head():
            if time.monotonic() - began > HEAD_LIMIT_S:
                names = ", ".join(sorted(short))
                self.report(
                    "I8", f"not at the head of {FEED} after {HEAD_LIMIT_S:g} s: {names}", short
                )
                return
            time.sleep(EVERY_S)

    def _short_of_head(self) -> dict[str, Any]:
        """Return name → last seq and head, of each portfolio that is not at the head."""
        assert self._cluster is not None
        runs, head = self._cluster.runs(), self.head()
        seqs = {name: runs[name].last_seq if name in runs else None for name in NAMES}
        return {name: {"last_seq": seq, "head": head} for name, seq in seqs.items() if seq != head}

    def digest(self, first_seq: int, last_seq: int) -> str:
        """Return the digest of a canary that saw every record of the range once."""
        seqs = range(first_seq, last_seq + 1)
        return reference_feed.digest((seq, SYMBOL, f"{price_of(seq)}.0000") for seq in seqs)

    def _append_all(self) -> None:
        while not self._ended.wait(EVERY_S):
            self._append_next()

    def _append_next(self) -> None:
        """Append the next rows; repeat the request until the answer says that they are stored."""
        self._number += 1
        rows = [bar(self.appended + 1 + n) for n in range(ROWS)]
        body = {"source": "chaos", "number": self._number, "rows": rows}
        for _ in range(TRIES):
            answer = self._post_append(body)
            if answer is not None and answer.status == 200:
                first, last = answer.json["from_seq"], answer.json["to_seq"]
                if (first, last) != (self.appended + 1, self.appended + ROWS):
                    what = f"append {self._number} after seq {self.appended} is {first} to {last}"
                    self.report("I2", what, body)
                self.appended += ROWS
                return
            self.failed_requests += 1
            self.last_refusal = "" if answer is None else answer.text[:300]
            if answer is not None and 400 <= answer.status < 500 and answer.status != 429:
                self.report("I2", f"append {self._number} was refused: {self.last_refusal}", body)
                return
            time.sleep(RETRY_S)
        last = self.last_refusal or "no answer"
        self.report("I8", f"append {self._number} failed {TRIES} times, the last: {last}", body)

    def _post_append(self, body: dict[str, Any]) -> ApiResponse | None:
        """Send an append once. Return None if no response came."""
        assert self._cluster is not None
        with suppress(OSError):
            return self._cluster.call("POST", f"/api/feeds/{FEED}/append/", body)
        return None


def feed_head(cluster: Cluster, feed: str) -> int:
    """Return the released head of a recorded feed, read from the database."""
    ((head,),) = cluster.query(
        "SELECT w.head FROM portfolios_feedwriter w JOIN portfolios_feed f ON f.id = w.feed_id"
        " WHERE f.name = %s", feed,
    )  # fmt: skip
    return int(head)


def price_of(number: int) -> int:
    """Return the closing price of bar `number`; prices rise and fall."""
    return 100 + (number * 7) % 23


def bar(number: int, symbol: str = SYMBOL) -> dict[str, Any]:
    """Return bar `number` of a symbol, as an append has it."""
    price = price_of(number)
    prices = {"open": price, "high": price + 1, "low": price - 1, "close": price}
    at = (FIRST + timedelta(minutes=number)).isoformat()
    return {"symbol": symbol, "time": at, "volume": 10, **{k: str(v) for k, v in prices.items()}}
