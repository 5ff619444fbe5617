"""Operations as transactions that run both on the simulation and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from scheduling.db.statements import Statement
from scheduling.db.transaction import Row, Transaction, query
from scheduling.enact import roll_out as enact_roll_out
from scheduling.enact.handoff import request
from scheduling.enact.start import make_pending
from scheduling.operations.moves import stop_run
from scheduling.timing import Timing
from tests.simulation import rows
from tests.simulation.database import Store, answers
from tests.simulation.roll_outs import ARTIFACT

SET_DESIRED_STATE = Statement(
    "SET_DESIRED_STATE",
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
SET_SCHEDULING = Statement(
    "SET_SCHEDULING",
    """
UPDATE scheduling_node SET draining = %(draining)s, cordoned = %(cordoned)s WHERE id = %(node)s
""",
)
RETRY_REVISION = Statement(
    "RETRY_REVISION",
    """
UPDATE portfolios_revision SET status = 'unproven'
WHERE portfolio_id = %(portfolio)s AND number = %(number)s AND status = 'rejected'
""",
)


@answers(SET_DESIRED_STATE)
def _set_desired_state(db: Store, args: Any) -> list[Any]:
    row = db.portfolios[args.portfolio]
    if row.archived_at is not None:
        return []
    db.set(row, desired_state=args.desired, archived_at=db.now if args.archive else None)
    return [row]


@answers(REVISE)
def _revise(db: Store, args: Any) -> list[Any]:
    newest = max(n for portfolio, n in db.revisions if portfolio == args.portfolio)
    before = vars(db.revisions[args.portfolio, newest])
    same = {k: v for k, v in before.items() if k not in ("number", "status", "status_reason")}
    added = rows.Revision(**same, number=newest + 1)
    db.add(db.revisions, (args.portfolio, added.number), added)
    db.set(db.portfolios[args.portfolio], revision=added.number)
    return [SimpleNamespace(revision=added.number)]


@answers(SET_SCHEDULING)
def _set_scheduling(db: Store, args: Any) -> None:
    db.set(db.nodes[args.node], draining=args.draining, cordoned=args.cordoned)


@answers(RETRY_REVISION)
def _retry_revision(db: Store, args: Any) -> None:
    row = db.revisions[args.portfolio, args.number]
    if row.status == "rejected":
        db.set(row, status="unproven")


def stop(portfolio: int, *, delete: bool = False) -> Transaction[Row | None]:
    """Stop or delete a portfolio. Return None if it was deleted before."""
    found = yield from query(
        SET_DESIRED_STATE, portfolio=portfolio, desired="stopped", archive=delete
    )
    if not found:
        return None
    return (yield from stop_run(portfolio, "olive", "deleted" if delete else "stopped"))


def start(portfolio: int) -> Transaction[bool]:
    """Start a portfolio. Return False if it was deleted."""
    found = yield from query(
        SET_DESIRED_STATE, portfolio=portfolio, desired="running", archive=False
    )
    if found:
        yield from make_pending(portfolio)
    return bool(found)


def revise(portfolio: int) -> Transaction[int]:
    """Add a new wanted revision; the sweep reloads to it."""
    (row,) = yield from query(REVISE, portfolio=portfolio)
    return int(row.revision)


def reload(portfolio: int, node: int, revision: int, timing: Timing) -> Transaction[Row]:
    """Reload a portfolio on its node, even to a rejected revision."""
    yield from query(RETRY_REVISION, portfolio=portfolio, number=revision)
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


def roll_out(
    portfolios: Sequence[tuple[int, int]], at_a_time: int, canary_s: float | None
) -> Transaction[int]:
    """Roll the artifact out over (portfolio, its wanted revision), the canary first."""
    return (
        yield from enact_roll_out.create(
            ARTIFACT, portfolios, at_a_time=at_a_time, canary_s=canary_s, note="", actor="olive"
        )
    )


def stop_roll_out(number: int) -> Transaction[None]:
    yield from enact_roll_out.stop(number, actor="olive", reason="")


def begin_way_back(number: int) -> Transaction[int]:
    return (yield from enact_roll_out.begin_way_back(number, actor="olive", reason=""))


def set_scheduling(
    node: int, *, draining: bool = False, cordoned: bool = False
) -> Transaction[None]:
    yield from query(SET_SCHEDULING, node=node, draining=draining, cordoned=cordoned)
