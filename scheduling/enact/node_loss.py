"""Store the node-loss forecast for the boards, the API and the metrics."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query
from scheduling.decide.reasons import as_data, render
from scheduling.decide.what_if.node_loss import NodeLoss

STORE = Statement(
    "STORE",
    """
WITH input AS (
    SELECT * FROM jsonb_to_recordset(%(losses)s::jsonb) AS x (
        node bigint, as_of float, runs int, fit int, homeless int, waiting int, reasons jsonb,
        suspects jsonb)
), gone AS (
    DELETE FROM scheduling_resilience WHERE node_id <> ALL(%(hosting)s::bigint[])
)
INSERT INTO scheduling_resilience AS r
    (node_id, as_of, runs, fit, homeless, waiting, reasons, suspects)
SELECT input.node, to_timestamp(input.as_of), input.runs, input.fit, input.homeless, input.waiting,
       input.reasons, input.suspects
FROM input JOIN scheduling_node n ON n.id = input.node
ORDER BY input.node
-- Concurrent writer: another watcher with a newer snapshot. A time in the future comes from a clock
-- that was set back since.
ON CONFLICT (node_id) DO UPDATE SET
    as_of = excluded.as_of, runs = excluded.runs, fit = excluded.fit, homeless = excluded.homeless,
    waiting = excluded.waiting, reasons = excluded.reasons, suspects = excluded.suspects
    WHERE r.as_of <= excluded.as_of OR r.as_of > clock_timestamp()
RETURNING node_id
""",
)


class StoredForecast(NamedTuple):
    """The forecast for one node, and the time of its snapshot in Unix seconds."""

    loss: NodeLoss
    as_of: float


def store(forecasts: Iterable[StoredForecast], hosting: Collection[int]) -> Transaction[int]:
    """Store forecasts, and delete those of all nodes whose ids are not in `hosting`.

    One statement. Return the number of rows written.
    """
    losses = [_columns(loss, as_of) for loss, as_of in forecasts]
    return len((yield from query(STORE, losses=Jsonb(losses), hosting=sorted(hosting))))


def _columns(loss: NodeLoss, as_of: float) -> dict[str, Any]:
    """Return column → value of the row of a forecast."""
    return {
        "node": loss.node,
        "as_of": as_of,
        "runs": loss.runs,
        "fit": loss.fit,
        "homeless": len(loss.unplaced.no_place),
        "waiting": len(loss.unplaced.waiting),
        "reasons": _reasons(loss),
        "suspects": list(loss.suspects),
    }


def _reasons(loss: NodeLoss) -> list[dict[str, Any]]:
    """Return each distinct reason once, with the names of the portfolios that it applies to.

    These are the portfolios that would have no place, and those that would have to wait for one.
    """
    by_sentence: dict[str, dict[str, Any]] = {}
    for entry in (*loss.unplaced.no_place, *loss.unplaced.waiting):
        new = {**as_data(entry.reason), "portfolios": []}
        reason = by_sentence.setdefault(render(entry.reason), new)
        reason["portfolios"].append(entry.portfolio.name)
    return list(by_sentence.values())
