"""The balance pass: what should run where, and the handoffs that make it so."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import DataError, IntegrityError
from psycopg.errors import DeadlockDetected, LockNotAvailable
from psycopg.types.json import Jsonb

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, execute, execute_autocommit, query
from scheduling.decide.planner.planner import make_plan
from scheduling.decide.reasons import as_data, render
from scheduling.decide.types import Move, Placement, Plan, Policy, Reason
from scheduling.enact.handoff import Request, request_all
from scheduling.enact.notify import notify_watchers
from scheduling.errors import Refused
from scheduling.observe.snapshot import FleetSnapshot, observe
from scheduling.observe.snapshot_cache import SnapshotCache
from scheduling.passes.pass_lock import acquire
from scheduling.timing import Timing

logger = logging.getLogger(__name__)

BATCH = 50  #: handoffs requested in one transaction, and so between two renewals of the pass lock

SAY = Statement(
    "SAY",
    """
WITH input AS MATERIALIZED (
    SELECT * FROM unnest(%(portfolios)s::bigint[], %(epochs)s::bigint[], %(reasons)s::text[],
                         %(whys)s::jsonb[]) AS i(portfolio, epoch, reason, why)
), free AS MATERIALIZED (
    -- In portfolio order, as everybody. What somebody commits or grants just now waits for the next
    -- pass.
    SELECT r.portfolio_id FROM scheduling_run r JOIN input i ON i.portfolio = r.portfolio_id
    ORDER BY r.portfolio_id FOR UPDATE OF r SKIP LOCKED
)
UPDATE scheduling_run r SET reason = i.reason, why = i.why
FROM input i JOIN free f ON f.portfolio_id = i.portfolio
-- The rival that may win: a grant since the look; its own reason stands.
WHERE r.portfolio_id = i.portfolio AND r.epoch = i.epoch AND r.reason <> i.reason
  -- No pass sees what is held: the sweep writes this reason, and it holds until the wanted revision
  -- runs or is no longer wanted.
  AND NOT (i.reason = '' AND r.why ->> 'code' = 'symbol_in_use' AND EXISTS (
      SELECT FROM portfolios_portfolio p
      JOIN portfolios_revision v ON v.portfolio_id = p.id AND v.number = p.revision
      WHERE p.id = r.portfolio_id AND p.revision <> r.revision AND v.status <> 'rejected'))
RETURNING r.portfolio_id
""",
)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A change of the plan that was refused when enacted. Data: the next pass repairs it."""

    portfolio: str
    reason: str


@dataclass(frozen=True, slots=True)
class BalanceOutcome:
    plan: Plan
    requested: tuple[int, ...]  #: ids of the handoffs begun
    rejected: tuple[Rejected, ...]


def balance(
    holder: str,
    timing: Timing,
    policy: Policy,
    actor: str = "balancer",
    standing: SnapshotCache | None = None,
) -> BalanceOutcome:
    """Observe, plan, enact. Raises SnapshotUnavailable where the fleet could not be read.

    `standing` is what the last pass of the same process left: then this one reads what changed.
    """
    began = time.monotonic()
    observed = observe(timing, standing)
    looked = time.monotonic()
    plan = make_plan(observed.snapshot, policy, observed.stock)
    if plan.changes:
        looked_ms, planned_ms = 1e3 * (looked - began), 1e3 * (time.monotonic() - looked)
        logger.info(
            "%d changes planned in %.1f ms after a look of %.0f ms",
            plan.changes,
            planned_ms,
            looked_ms,
            extra={"looked_ms": round(looked_ms, 3), "planned_ms": round(planned_ms, 3)},
        )
    return enact(plan, observed, holder, timing, actor)


def enact(
    plan: Plan, observed: FleetSnapshot, holder: str, timing: Timing, actor: str
) -> BalanceOutcome:
    """Request each handoff of the plan, each on the epoch it was decided on."""
    requested: list[int] = []
    rejected: list[Rejected] = []
    # Failover first: those run nowhere. In a plan they come before all other moves.
    urgent = [m for m in plan.move if m.cause == "failover"]
    changes: list[Placement | Move] = [*urgent, *plan.place, *plan.move[len(urgent) :]]
    waiting = [changes[number : number + BATCH] for number in range(0, len(changes), BATCH)]
    while waiting:
        if not execute_autocommit(acquire(holder)):
            left = sum(map(len, waiting))
            logger.info("another pass took over; %d changes are left to it", left)
            break
        batch = waiting.pop(0)
        for change, answer in zip(batch, _ask(batch, observed, timing, actor), strict=True):
            if answer is None:  # it held up a whole batch, or would have
                waiting.append([change])
            elif isinstance(answer, Rejected):
                rejected.append(answer)
                logger.info("%s: %s", answer.portfolio, answer.reason)
            else:
                requested.append(answer)
    execute_autocommit(_say(plan, observed))
    return BalanceOutcome(plan, tuple(requested), tuple(rejected))


def _ask(
    batch: Sequence[Placement | Move], observed: FleetSnapshot, timing: Timing, actor: str
) -> list[int | Rejected | None]:
    """Request these in one transaction. Return the handoff of each, or why there is none.

    None for one that has to be asked for alone: somebody holds its row, or the whole batch failed
    and nobody knows of which. It must not keep the pass from the others.
    """
    alone = len(batch) == 1
    asked = [_request(change, observed) for change in batch]
    try:
        answers = execute(request_all(asked, actor=actor, timing=timing, patient=alone))
    except (LockNotAvailable, DeadlockDetected, DataError, IntegrityError) as error:
        if not alone:
            return [None] * len(batch)
        return [Rejected(batch[0].portfolio.name, type(error).__name__)]
    return [
        None
        if answer is None
        else Rejected(change.portfolio.name, answer.message)
        if isinstance(answer, Refused)
        else int(answer.id)
        for change, answer in zip(batch, answers, strict=True)
    ]


def _request(change: Placement | Move, observed: FleetSnapshot) -> Request:
    row = observed.rows[change.portfolio.id]
    if isinstance(change, Placement):
        kind = "place"
    else:
        kind = "failover" if change.cause == "failover" else "migrate"
    return Request(
        kind,
        change.portfolio.id,
        change.target.id,
        render(change.reason),
        to_revision=change.portfolio.revision,  # the one that the plan has judged the node by
        why=change.reason,
        seen_epoch=row.epoch,
        heeds_storm=kind == "failover",
    )


#: Reasons that only say "a pass later": nobody needs to read them on a row, and what the last try
#: failed of is worth more there than when the next one is.
PASSING = frozenset({"later", "max_moves", "handoff_limit", "in_handoff", "backing_off"})


def _say(plan: Plan, observed: FleetSnapshot) -> Transaction[None]:
    """Write on each row why it is pending or stuck, and nothing on one that is so no more.

    One statement, and none where the rows say so already.
    """
    said: dict[int, Reason | None] = {
        number: None
        for number in observed.with_reason
        if observed.rows[number].phase == "running" and not observed.rows[number].attempts
    }
    entries = (*plan.older, *plan.pending, *plan.stuck)
    said |= {pending.portfolio.id: pending.reason for pending in entries}
    words = {
        number: "" if reason is None else render(reason)
        for number, reason in sorted(said.items())
        if reason is None or reason.code not in PASSING
    }
    new = [number for number, text in words.items() if observed.rows[number].reason != text]
    if not new:
        return
    reasons = [said[number] for number in new]
    changed = yield from query(
        SAY,
        portfolios=new,
        epochs=[observed.rows[number].epoch for number in new],
        reasons=[words[number] for number in new],
        whys=[None if reason is None else Jsonb(as_data(reason)) for reason in reasons],
    )
    if changed:
        yield from notify_watchers()
