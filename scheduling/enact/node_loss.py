"""What the loss of each node would come to is written down: for boards, the API and metrics."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query
from scheduling.decide.reasons import as_data, render
from scheduling.decide.what_if.node_loss import NodeLoss

WRITE = Statement(
    "WRITE",
    """
WITH said AS (
    SELECT * FROM jsonb_to_recordset(%(losses)s::jsonb) AS x (
        node bigint, as_of float, runs int, fit int, homeless int, waiting int, reasons jsonb,
        suspects jsonb)
), gone AS (
    DELETE FROM scheduling_resilience WHERE node_id <> ALL(%(hosting)s::bigint[])
)
INSERT INTO scheduling_resilience AS r
    (node_id, as_of, runs, fit, homeless, waiting, reasons, suspects)
SELECT said.node, to_timestamp(said.as_of), said.runs, said.fit, said.homeless, said.waiting,
       said.reasons, said.suspects
FROM said JOIN scheduling_node n ON n.id = said.node
ORDER BY said.node
-- The rival that may win: another watcher, whose look was newer. A time to come is that of a clock
-- that was set back since.
ON CONFLICT (node_id) DO UPDATE SET
    as_of = excluded.as_of, runs = excluded.runs, fit = excluded.fit, homeless = excluded.homeless,
    waiting = excluded.waiting, reasons = excluded.reasons, suspects = excluded.suspects
    WHERE r.as_of <= excluded.as_of OR r.as_of > clock_timestamp()
RETURNING node_id
""",
)


class Known(NamedTuple):
    """What the loss of a node would come to, and when that was true, epoch seconds."""

    loss: NodeLoss
    as_of: float


def store(known: Iterable[Known], hosting: Collection[int]) -> Transaction[int]:
    """Write these, and drop the rows of all nodes (ids) that are not `hosting`.

    One statement, whatever their number. Return how many rows were written.
    """
    losses = [_row(loss, as_of) for loss, as_of in known]
    return len((yield from query(WRITE, losses=Jsonb(losses), hosting=sorted(hosting))))


def _row(loss: NodeLoss, as_of: float) -> dict[str, Any]:
    left = loss.unplaced
    return {
        "node": loss.node,
        "as_of": as_of,
        "runs": loss.runs,
        "fit": loss.fit,
        "homeless": len(left.no_place),
        "waiting": len(left.waiting),
        "reasons": _reasons(loss),
        "suspects": list(loss.suspects),
    }


def _reasons(loss: NodeLoss) -> list[dict[str, Any]]:
    """Return each reason once, with the names of the portfolios that it keeps from a place."""
    known: dict[str, dict[str, Any]] = {}
    for entry in (*loss.unplaced.no_place, *loss.unplaced.waiting):
        fresh = {**as_data(entry.reason), "portfolios": []}
        known.setdefault(render(entry.reason), fresh)["portfolios"].append(entry.portfolio.name)
    return list(known.values())
