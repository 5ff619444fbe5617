"""A fleet that exists only in the database, for `bench.board`: every figure moves once a second.

`python -m bench.board_fleet DATABASE_URL` advances the figures. Ten times a second a tenth
of the portfolios commit a new state behind the head of the feed, and a hundredth of the nodes renew
their leases and report; each portfolio gets an equity point every ten seconds.
"""

from __future__ import annotations

import random
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from portfolios.runtime.python_version import PYTHON_VERSION
from portfolios.runtime.state import Account, Figures, Position, State, StrategyPart, encode_state
from scheduling.db.statements import NOTIFY_BOARDS

STEPS = 10  #: per second
STATES = 200  #: different states of traders; each commit draws one
TTL_S = 30

#: Create the nodes, each alive with a lease and a report.
NODES = """
WITH made AS (
    INSERT INTO scheduling_node (name, cordoned, draining, drain_reason, drain_actor, capacity,
        labels, strategies, feeds, host, version, python, status, status_since, leaving, lost_times,
        desired_version)
    SELECT 'node-' || lpad(g::text, 3, '0'), false, false, '', '', %(capacity)s,
           jsonb_build_object('zone', 'z' || g %% 4, 'rack', 'r' || g %% 20), %(strategies)s,
           (SELECT jsonb_object_agg(name, sha256) FROM portfolios_feed), 'rack-' || g, '0.1.0',
           %(python)s, 'alive', now(), false, '[]', 0
    FROM generate_series(0, %(nodes)s::int - 1) g ORDER BY g RETURNING id
), leased AS (
    INSERT INTO scheduling_lease (node_id, incarnation, renewals, renewed_at, expires_at, taken_at,
        takeovers)
    SELECT id, gen_random_uuid(), 0, now(), now() + make_interval(secs => %(ttl_s)s), now(), '[]'
    FROM made
)
INSERT INTO scheduling_nodereport (node_id, at, metrics, portfolios)
SELECT id, now(), '{}', '[]' FROM made
"""

#: Create the portfolios with their runs, evenly over the nodes: three traders of two symbols for
#: each canary.
PORTFOLIOS = """
WITH place AS (
    SELECT g, g %% 4 = 0 AS canary, x.id AS node, l.incarnation
    FROM generate_series(0, %(portfolios)s::int - 1) g
    JOIN (SELECT id, row_number() OVER (ORDER BY id) - 1 AS n FROM scheduling_node) x
        ON x.n = g %% %(nodes)s::int
    JOIN scheduling_lease l ON l.node_id = x.id
), made AS (
    INSERT INTO portfolios_portfolio (uid, name, weight, priority, selector, spread_group,
        spread_hard, desired_state, catch_up, revision, feed_id, first_seq, starting_cash,
        created_at)
    SELECT gen_random_uuid(), 'p-' || lpad(g::text, 4, '0'), 1, 0, '{}', '', false, 'running',
           'state_only', 1, (SELECT min(id) FROM portfolios_feed), 1, 100000, now()
    FROM place ORDER BY g RETURNING id, name
), placed AS (
    SELECT m.id, p.* FROM made m JOIN place p ON m.name = 'p-' || lpad(p.g::text, 4, '0')
), revised AS (
    INSERT INTO portfolios_revision (portfolio_id, number, strategy, strategy_version, config,
        symbols, limits, status, status_reason, note, created_by, created_at)
    SELECT id, 1, CASE WHEN canary THEN 'canary' ELSE 'sma_cross' END, 1,
           CASE WHEN canary THEN '{}' ELSE '{"fast": 10, "slow": 40, "quantity": "10"}' END::jsonb,
           CASE WHEN canary THEN '["*"]' ELSE '["XOM", "CVX"]' END::jsonb,
           '{"largest_position": "300"}', 'good', '', '', 'bench', now()
    FROM placed
), run AS (
    INSERT INTO scheduling_run (portfolio_id, node_id, incarnation, epoch, revision, granted_at,
        last_seq, state_seq, first_commit_at, last_commit_at, phase, phase_since, reason, attempts,
        failures_by_node, good_revision)
    SELECT id, node, incarnation, 1, 1, now(), 1, 1, now(), now(), 'running', now(), '', 0, '{}', 1
    FROM placed
), tenure AS (
    INSERT INTO scheduling_tenure (portfolio_id, epoch, node_id, incarnation, revision, from_seq,
        cause, reason, started_at, first_commit_at)
    SELECT id, 1, node, incarnation, 1, 1, 'place', '', now(), now() FROM placed
)
INSERT INTO portfolios_checkpoint (portfolio_id, epoch, revision, seq, state, at)
SELECT id, 1, 1, 1, %(state)s, now() FROM placed
"""

#: Advance portfolios to new seqs and states.
COMMIT = """
WITH fresh AS (
    SELECT * FROM unnest(%(ids)s::bigint[], %(seqs)s::bigint[], %(states)s::bytea[])
        AS x (id, seq, state)
), run AS (
    UPDATE scheduling_run r SET last_seq = fresh.seq, state_seq = fresh.seq, last_commit_at = now()
    FROM fresh WHERE r.portfolio_id = fresh.id
)
UPDATE portfolios_checkpoint c SET seq = fresh.seq, state = fresh.state, at = now()
FROM fresh WHERE c.portfolio_id = fresh.id
"""
EQUITY = """
INSERT INTO portfolios_equitypoint (portfolio_id, seq, at, equity)
SELECT id, seq, now(), equity
FROM unnest(%(ids)s::bigint[], %(seqs)s::bigint[], %(equities)s::numeric[]) AS x (id, seq, equity)
ON CONFLICT DO NOTHING
"""
#: Renew the leases of some nodes, and store a report of each.
RENEW = """
WITH renewed AS (
    UPDATE scheduling_lease SET renewed_at = now(), renewals = renewals + 1,
        expires_at = now() + make_interval(secs => %(ttl_s)s)
    WHERE node_id = ANY(%(ids)s::bigint[])
)
UPDATE scheduling_nodereport SET at = now(), metrics = %(metrics)s WHERE node_id = ANY(%(ids)s)
"""
#: The head of the feed.
HEAD = """
SELECT from_seq + floor(extract(epoch FROM now() - from_time) * rate)::bigint
FROM portfolios_feedsegment ORDER BY id DESC LIMIT 1
"""

#: Let two portfolios exchange their nodes, as after two finished migrations.
SWAP = """
WITH mine AS (
    SELECT portfolio_id, node_id, incarnation, epoch FROM scheduling_run
    WHERE portfolio_id = ANY(%(pair)s::bigint[])
), moved AS (
    UPDATE scheduling_run r SET node_id = other.node_id, incarnation = other.incarnation,
        epoch = r.epoch + 1
    FROM mine other
    WHERE r.portfolio_id = ANY(%(pair)s::bigint[]) AND other.portfolio_id <> r.portfolio_id
    RETURNING r.portfolio_id, r.node_id, r.epoch
)
INSERT INTO scheduling_handoff (portfolio_id, kind, state, reason, requested_by, source_node_id,
    target_node_id, from_epoch, to_epoch, from_revision, to_revision, release_answer, error,
    pause_ms, deadline_at, requested_at, prepared_at, released_at, granted_at, activated_at,
    finished_at)
SELECT m.portfolio_id, 'migrate', 'done', '', 'bench', mine.node_id, m.node_id, mine.epoch, m.epoch,
       1, 1, '', '', 18, now(), now(), now(), now(), now(), now(), now()
FROM moved m JOIN mine USING (portfolio_id)
"""


def create(db: psycopg.Connection[Any], nodes: int, portfolios: int) -> None:
    """Create the nodes, alive, and the portfolios that run on them, evenly spread."""
    from portfolios.strategies import registry

    db.execute(
        NODES,
        {
            "nodes": nodes,
            "capacity": int(1.5 * portfolios / nodes) + 1,
            "strategies": Jsonb(registry.versions()),
            "python": PYTHON_VERSION,
            "ttl_s": TTL_S,
        },
    )
    db.execute(
        PORTFOLIOS,
        {"portfolios": portfolios, "nodes": nodes, "state": encode_state(_canary_state(0))},
    )
    db.execute("VACUUM ANALYZE")


def swap(db: psycopg.Connection[Any], pair: list[int]) -> float:
    """Let two portfolios exchange their nodes. Return the time of the commit, in epoch seconds."""
    with db.transaction():
        db.execute(SWAP, {"pair": pair})
        db.execute(f"SELECT {NOTIFY_BOARDS}")
    return time.time()


def _canary_state(events: int) -> State:
    data = {"events": events, "gaps": 0, "duplicates": 0, "digest": "9f3c" * 8}
    return State(_account({}), StrategyPart("canary", 1, {}, data))


def _random_trader_state(rng: random.Random) -> State:
    closes = {s: [rng.randrange(500_000, 700_000) for _ in range(40)] for s in ("XOM", "CVX")}
    positions = {
        symbol: Position(Decimal(10), Decimal("600.0000"), rng.randrange(500_000, 700_000))
        for symbol in closes
    }
    parameters = {"fast": 10, "slow": 40, "quantity": "10"}
    return State(_account(positions), StrategyPart("sma_cross", 1, parameters, {"closes": closes}))


def _account(positions: dict[str, Position]) -> Account:
    cash = Decimal("100000.0000") - 600 * len(positions)
    figures = Figures(1, peak=Decimal("100000.0000"))
    return Account(cash, Decimal("100000.0000"), Decimal(0), positions, [], 1, figures=figures)


def advance_fleet(url: str) -> None:
    """Advance the figures until the process is ended. Say on standard error when it is late."""
    rng = random.Random(1)
    drawn = [_random_trader_state(rng) for _ in range(STATES)]
    traders = [(encode_state(state), state.account.equity) for state in drawn]
    with psycopg.connect(url, autocommit=True) as db:
        nodes = [node for (node,) in db.execute("SELECT id FROM scheduling_node ORDER BY id")]
        rows = db.execute(
            "SELECT p.id, v.strategy = 'canary' FROM portfolios_portfolio p"
            " JOIN portfolios_revision v ON v.portfolio_id = p.id ORDER BY p.id"
        ).fetchall()
        step, due = 0, time.monotonic()
        while True:
            # Every second each portfolio commits, every tenth second each node renews its lease.
            _commit(db, rows[step % STEPS :: STEPS], step, traders, rng)
            _renew_leases(db, nodes[step % (10 * STEPS) :: 10 * STEPS], rng)
            step, due = step + 1, due + 1 / STEPS
            if time.monotonic() > due + 2:
                print(f"{datetime.now(UTC):%H:%M:%S} commits are over 2 s late", file=sys.stderr)
                due = time.monotonic()
            time.sleep(max(due - time.monotonic(), 0))


def _commit(
    db: psycopg.Connection[Any],
    rows: list[Any],
    step: int,
    traders: list[tuple[bytes, Decimal]],
    rng: random.Random,
) -> None:
    """Commit a new state for each of `rows`: (portfolio id, whether it is a canary).

    A canary gets the state that belongs to its seq, any other portfolio a random pair of
    `traders`: (encoded state, equity).
    """
    ((head,),) = db.execute(HEAD)
    ids = [portfolio for portfolio, _ in rows]
    seqs = [max(head - rng.randrange(3, 40), 1) for _ in rows]
    states, equities = [], []
    for (_, is_canary), seq in zip(rows, seqs, strict=True):
        state, equity = rng.choice(traders)
        states.append(encode_state(_canary_state(seq)) if is_canary else state)
        equities.append(Decimal(100_000) if is_canary else equity)
    db.execute(COMMIT, {"ids": ids, "seqs": seqs, "states": states})
    if step // STEPS % 10 == 0:  # in one second of ten
        db.execute(EQUITY, {"ids": ids, "seqs": seqs, "equities": equities})


def _renew_leases(db: psycopg.Connection[Any], nodes: list[int], rng: random.Random) -> None:
    metrics = {"cpu_pct": float(rng.randrange(5, 60)), "mem_pct": float(rng.randrange(20, 70))}
    db.execute(RENEW, {"ids": nodes, "ttl_s": TTL_S, "metrics": Jsonb(metrics)})


if __name__ == "__main__":
    advance_fleet(sys.argv[1])
