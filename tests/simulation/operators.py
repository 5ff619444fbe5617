"""What people ask for, as recipes that run on the model and on PostgreSQL alike."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from scheduling.db.statements import Statement
from scheduling.db.transaction import Row, Transaction, query
from scheduling.enact.handoff import request
from scheduling.enact.start import lift
from scheduling.operations.moves import stop_run
from scheduling.timing import Timing
from tests.simulation import rows
from tests.simulation.database import Store, answers

WISH = Statement(
    "WISH",
    """
UPDATE portfolios_portfolio SET desired_state = %(desired)s::text,
    archived_at = CASE WHEN %(archive)s THEN clock_timestamp() ELSE archived_at END
WHERE id = %(portfolio)s AND archived_at IS NULL RETURNING id
""",
)
REVISE = Statement(
    "REVISE",
    """
WITH added AS (
    INSERT INTO portfolios_revision (portfolio_id, number, status, status_reason, strategy,
        strategy_version, config, symbols, limits, note, created_by, created_at)
    SELECT portfolio_id, number + 1, 'unproven', '', strategy, strategy_version, config, symbols,
           limits, '', '', clock_timestamp()
    FROM portfolios_revision v WHERE portfolio_id = %(portfolio)s
    ORDER BY number DESC LIMIT 1
    RETURNING number
)
UPDATE portfolios_portfolio p SET revision = added.number FROM added
WHERE p.id = %(portfolio)s RETURNING p.revision
""",
)
MARK = Statement(
    "MARK",
    """
UPDATE scheduling_node SET draining = %(draining)s, cordoned = %(cordoned)s WHERE id = %(node)s
""",
)
WANT_AGAIN = Statement(
    "WANT_AGAIN",
    """
UPDATE portfolios_revision SET status = 'unproven'
WHERE portfolio_id = %(portfolio)s AND number = %(number)s AND status = 'rejected'
""",
)


@answers(WISH)
def _wish(db: Store, p: Any) -> list[Any]:
    row = db.portfolios[p.portfolio]
    if row.archived_at is not None:
        return []
    db.set(row, desired_state=p.desired, archived_at=db.now if p.archive else None)
    return [row]


@answers(REVISE)
def _revise(db: Store, p: Any) -> list[Any]:
    newest = max(n for portfolio, n in db.revisions if portfolio == p.portfolio)
    before = vars(db.revisions[p.portfolio, newest])
    same = {k: v for k, v in before.items() if k not in ("number", "status", "status_reason")}
    added = rows.Revision(**same, number=newest + 1)
    db.add(db.revisions, (p.portfolio, added.number), added)
    db.set(db.portfolios[p.portfolio], revision=added.number)
    return [SimpleNamespace(revision=added.number)]


@answers(MARK)
def _mark(db: Store, p: Any) -> None:
    db.set(db.nodes[p.node], draining=p.draining, cordoned=p.cordoned)


@answers(WANT_AGAIN)
def _want_again(db: Store, p: Any) -> None:
    row = db.revisions[p.portfolio, p.number]
    if row.status == "rejected":
        db.set(row, status="unproven")


def stop(portfolio: int, *, delete: bool = False) -> Transaction[Row | None]:
    """Stop it, or delete it. None: it was deleted before."""
    wished = yield from query(WISH, portfolio=portfolio, desired="stopped", archive=delete)
    if not wished:
        return None
    return (yield from stop_run(portfolio, "olive", "deleted" if delete else "stopped"))


def start(portfolio: int) -> Transaction[bool]:
    """Want it running, and lift what kept it. False: it was deleted."""
    wished = yield from query(WISH, portfolio=portfolio, desired="running", archive=False)
    if wished:
        yield from lift(portfolio)
    return bool(wished)


def revise(portfolio: int) -> Transaction[int]:
    """Make a new revision, wanted from now on; the sweep reloads to it."""
    (row,) = yield from query(REVISE, portfolio=portfolio)
    return int(row.revision)


def reload(portfolio: int, node: int, revision: int, timing: Timing) -> Transaction[Row]:
    """Restart it where it is, rejected or not."""
    yield from query(WANT_AGAIN, portfolio=portfolio, number=revision)
    return (
        yield from request(
            "reload", portfolio, target=node, to_revision=revision, actor="olive", reason="",
            timing=timing,
        )
    )  # fmt: skip


def move(
    kind: str, portfolio: int, node: int, revision: int | None, timing: Timing
) -> Transaction[Row]:
    """Begin a migrate, place or failover to `node`."""
    return (
        yield from request(
            kind, portfolio, target=node, to_revision=revision, actor="olive", reason="asked",
            timing=timing,
        )
    )  # fmt: skip


def mark(node: int, *, draining: bool = False, cordoned: bool = False) -> Transaction[None]:
    """Drain or cordon a node, or neither."""
    yield from query(MARK, node=node, draining=draining, cordoned=cordoned)
