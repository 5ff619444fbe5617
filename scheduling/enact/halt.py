"""The halt (kill switch): stop all portfolios in one transaction, without waiting for any node.

It raises every epoch and ends every ownership, so no earlier owner can commit after it, even if the
node does not learn of the halt. Nodes end their processes on the hint, or when their next commit is
fenced.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from psycopg.types.json import Jsonb

from portfolios.sentences import sentence as _
from scheduling.db.statements import Statement, head_of_portfolio
from scheduling.db.transaction import Row, Transaction, query, query_one
from scheduling.decide.halted import Halted, Stopped
from scheduling.decide.reasons import as_data, render
from scheduling.decide.types import NEEDS_OPERATOR_PHASES, Reason
from scheduling.enact.audit_log import audit
from scheduling.enact.fleet_revoke import (
    NOW,
    Revocation,
    is_wanted,
    lock_fleet,
    nodes_of,
    revoke_all,
)
from scheduling.enact.notify import bump_desired_versions, notify_watchers
from scheduling.errors import NotFound, Refused


class HaltRow(NamedTuple):
    id: int
    at: datetime


NEW_HALT = Statement(
    "NEW_HALT",
    """
INSERT INTO scheduling_halt (at, actor, reason, running, stopped, undone_by)
VALUES (clock_timestamp(), %(actor)s::text, %(reason)s::text, %(running)s, %(stopped)s, '')
RETURNING id, at
""",
    row=HaltRow,
)

WANT_STOPPED = Statement(
    "WANT_STOPPED",
    """
UPDATE portfolios_portfolio SET desired_state = 'stopped' WHERE id = ANY(%(portfolios)s::bigint[])
""",
)


def halt_all(*, actor: str, reason: str, expect_running: int | None = None) -> Transaction[Halted]:
    """Stop all portfolios. Return the halt, with a line for each portfolio that it stopped.

    Raise Refused, without any change, if another number of portfolios than `expect_running` runs.
    """
    fleet = yield from lock_fleet()
    running = count_running(fleet)
    if expect_running is not None and running != expect_running:
        raise Refused(
            "count_differs",
            _(
                "{number} running, not {expect_running}; nothing was stopped. Look again and "
                "confirm {running}.",
                number=_("{n:,} portfolio is", n=running)
                if running == 1
                else _("{n:,} portfolios are", n=running),
                expect_running=expect_running,
                running=running,
            ),
            running=running,
            expect_running=expect_running,
        )
    affected = [row for row in fleet if _is_affected(row)]
    if not affected:
        now = yield from query_one(NOW)
        assert now is not None
        yield from audit("halted_all", actor=actor, reason=reason, halt=None, running=0, stopped=0)
        return Halted(None, now.at, actor, reason, 0, [])
    new = yield from query_one(
        NEW_HALT, actor=actor[:150], reason=reason, running=running, stopped=len(affected)
    )
    assert new is not None
    yield from query(WANT_STOPPED, portfolios=[row.portfolio_id for row in affected])
    why = Reason("halted_all", {"actor": actor, "why": reason, "halt": new.id})
    text = render(why)
    epochs = yield from revoke_all(
        [
            Revocation(
                row.portfolio_id,
                phase="stopped",
                reason=text,
                why=Jsonb(as_data(why)),
                # An undo does not start portfolios that were stopped or deleted before the halt.
                halt=new.id if is_wanted(row) else None,
                data=Jsonb(
                    {
                        "halt": new.id,
                        "phase": row.phase,
                        "node": row.node,
                        "ended_handoff": row.kind,
                        "epoch_before": row.epoch,
                    }
                ),
            )
            for row in affected
        ],
        raise_by=1,
        at=new.at,
        cause="halt",
        why=reason or f"halt {new.id} by {actor}",
        actor=actor,
    )
    yield from audit(
        "halted_all",
        actor=actor,
        reason=reason,
        halt=new.id,
        running=running,
        stopped=len(affected),
    )
    yield from bump_desired_versions(nodes_of(fleet))
    return Halted(
        new.id,
        new.at,
        actor,
        reason,
        running,
        [
            Stopped(
                portfolio=row.name,
                phase=row.phase,
                node=row.node,
                handoff=row.kind,
                epoch_before=row.epoch,
                epoch=epochs[row.portfolio_id],
                last_seq=row.last_seq,
            )
            for row in affected
        ],
    )


def count_running(fleet: Sequence[Row]) -> int:
    """Return how many portfolios have an owner and are not deleted. Pure."""
    return sum(row.node_id is not None and not row.archived for row in fleet)


def _is_affected(row: Row) -> bool:
    """Return whether a halt changes this run. Pure."""
    has_process = row.node_id is not None or row.handoff is not None
    # A halted or quarantined portfolio is stopped already: keep its reason.
    return has_process or (is_wanted(row) and row.phase not in NEEDS_OPERATOR_PHASES)


#: The newest halt of which a portfolio is still stopped.
NEWEST = Statement(
    "NEWEST",
    """
SELECT max(r.halt_id) AS id FROM scheduling_run r
JOIN portfolios_portfolio p ON p.id = r.portfolio_id WHERE p.archived_at IS NULL
""",
)

LOCK_HALT = Statement(
    "LOCK_HALT", "SELECT id, at FROM scheduling_halt WHERE id = %(halt)s FOR UPDATE"
)

LOCK_STOPPED = Statement(
    "LOCK_STOPPED",
    """
SELECT p.id FROM portfolios_portfolio p JOIN scheduling_run r ON r.portfolio_id = p.id
WHERE r.halt_id = %(halt)s AND p.archived_at IS NULL ORDER BY p.id FOR NO KEY UPDATE OF p
""",
)

#: Only portfolios that were not started, deleted or moved since: they still have the `halt_id`.
BRING_BACK = Statement(
    "BRING_BACK",
    f"""
WITH locked AS MATERIALIZED (
    SELECT r.portfolio_id, p.name FROM scheduling_run r
    JOIN portfolios_portfolio p ON p.id = r.portfolio_id
    WHERE r.halt_id = %(halt)s AND p.archived_at IS NULL AND r.node_id IS NULL
    ORDER BY r.portfolio_id FOR UPDATE OF r
), lifted AS (
    UPDATE scheduling_run r SET phase = 'pending', phase_since = clock_timestamp(), attempts = 0,
        failures_by_node = '{{}}', reason = 'waits for the next pass', halt_id = NULL,
        failed_seq = NULL, resumed_from = r.last_seq,
        resume_seq = {head_of_portfolio("l.portfolio_id")}
    FROM locked l WHERE r.portfolio_id = l.portfolio_id
    RETURNING r.portfolio_id, l.name
), wanted AS (
    UPDATE portfolios_portfolio p SET desired_state = 'running'
    FROM lifted l WHERE p.id = l.portfolio_id
), audited AS (
    INSERT INTO scheduling_event (at, kind, portfolio_id, node_id, actor, reason, data)
    SELECT clock_timestamp(), 'portfolio_started', portfolio_id, NULL, %(actor)s::text,
           %(reason)s::text, jsonb_build_object('halt', %(halt)s::bigint)
    FROM lifted
), marked AS (
    -- A repeat that starts nothing leaves the name of who undid it.
    UPDATE scheduling_halt SET undone_at = clock_timestamp(), undone_by = %(actor)s::text
    WHERE id = %(halt)s AND (undone_at IS NULL OR EXISTS (SELECT FROM lifted))
)
SELECT name FROM lifted ORDER BY name
""",
)


def undo_halt(halt: int | None, *, actor: str, reason: str) -> Transaction[tuple[int, list[str]]]:
    """Start all portfolios that a halt stopped; None: the newest halt.

    Return its number, and the names of the started portfolios: those that were neither started nor
    deleted since the halt. Raise Refused if there is none to undo, NotFound if none has that id.
    """
    if halt is None:
        newest = yield from query_one(NEWEST)
        if newest is None or newest.id is None:
            raise Refused(
                "not_found",
                _("No portfolio is stopped by a halt; there is nothing to undo."),
                status=404,
            )
        halt = int(newest.id)
    yield from query(LOCK_STOPPED, halt=halt)
    if (yield from query_one(LOCK_HALT, halt=halt)) is None:
        raise NotFound("halt", str(halt))
    rows = yield from query(BRING_BACK, halt=halt, actor=actor[:150], reason=reason)
    yield from audit("halt_undone", actor=actor, reason=reason, halt=halt, started=len(rows))
    yield from notify_watchers()
    return halt, [row.name for row in rows]
