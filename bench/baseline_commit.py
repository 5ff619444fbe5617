"""The baseline of `bench.commit`: a minimal durable fenced commit over HTTP."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from psycopg_pool import AsyncConnectionPool

from scheduling.wire.messages import CommitAnswers, CommitRequest, CommitResult

SCHEMA = """
CREATE TABLE baseline_run (portfolio bigint PRIMARY KEY, epoch bigint NOT NULL,
    last_seq bigint NOT NULL) WITH (fillfactor = 50);
CREATE TABLE baseline_checkpoint (portfolio bigint PRIMARY KEY, seq bigint NOT NULL,
    state bytea NOT NULL) WITH (fillfactor = 90);
ALTER TABLE baseline_checkpoint ALTER state SET STORAGE EXTERNAL;
CREATE TABLE baseline_order (portfolio bigint NOT NULL, seq bigint NOT NULL, symbol text NOT NULL,
    quantity numeric NOT NULL, price numeric NOT NULL, PRIMARY KEY (portfolio, seq));
CREATE TABLE baseline_equity (portfolio bigint NOT NULL, seq bigint NOT NULL,
    equity numeric NOT NULL, PRIMARY KEY (portfolio, seq));
"""

#: The fenced commit, given one row for each portfolio (i): lock the runs whose fence holds (l),
#: advance them (f), and store checkpoint (c), order (o) and equity (e). Returns the portfolios that
#: committed.
COMMIT = """
WITH i AS MATERIALIZED (
    SELECT * FROM unnest(%b::bigint[], %b::bigint[], %b::bigint[], %b::bytea[], %b::text[],
                         %b::text[], %b::text[], %b::text[])
        AS i(portfolio, epoch, seq, state, symbol, quantity, price, equity)
), l AS MATERIALIZED (
    SELECT r.portfolio FROM baseline_run r JOIN i USING (portfolio)
    WHERE r.epoch = i.epoch AND r.last_seq = i.seq ORDER BY r.portfolio FOR UPDATE OF r
), f AS (
    UPDATE baseline_run r SET last_seq = r.last_seq + 1 FROM i, l
    WHERE l.portfolio = i.portfolio AND r.portfolio = i.portfolio AND r.epoch = i.epoch
      AND r.last_seq = i.seq
    RETURNING r.portfolio, r.last_seq, i.state, i.symbol, i.quantity, i.price, i.equity
), c AS (
    INSERT INTO baseline_checkpoint SELECT portfolio, last_seq, state FROM f
    ON CONFLICT (portfolio) DO UPDATE SET seq = excluded.seq, state = excluded.state
), o AS (
    INSERT INTO baseline_order
    SELECT portfolio, last_seq, symbol, quantity::numeric, price::numeric FROM f
), e AS (
    INSERT INTO baseline_equity SELECT portfolio, last_seq, equity::numeric FROM f
)
SELECT portfolio FROM f
"""

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

pool = AsyncConnectionPool(
    os.environ.get("DATABASE_URL", ""),
    min_size=5,
    max_size=5,
    open=False,
    kwargs={"autocommit": True, "prepare_threshold": 1},
)
decoder = msgspec.msgpack.Decoder(CommitRequest)
encoder = msgspec.msgpack.Encoder()


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Decode a commit request, run one statement, answer."""
    if scope["type"] == "lifespan":
        await receive()
        await pool.open(wait=True)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await pool.close()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    commits = decoder.decode(body).commits
    columns: tuple[list[Any], ...] = (
        [c.portfolio for c in commits],
        [c.epoch for c in commits],
        [c.from_seq for c in commits],
        [c.state for c in commits],
        [c.orders[0].symbol for c in commits],
        [c.orders[0].quantity for c in commits],
        [c.orders[0].price for c in commits],
        [c.equity[0].equity for c in commits],
    )
    async with pool.connection() as connection:
        cursor = await connection.execute(COMMIT.encode(), columns)
        rows = await cursor.fetchall()
    results = [CommitResult(portfolio=portfolio, answer="ok") for (portfolio,) in rows]
    answer = encoder.encode(CommitAnswers(results=results))
    headers = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
