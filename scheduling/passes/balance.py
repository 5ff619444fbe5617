"""The balance pass: what should run where, and the handoffs that make it so."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from psycopg.errors import DeadlockDetected, LockNotAvailable
from psycopg.types.json import Jsonb

from scheduling.decide.planner import make_plan
from scheduling.decide.reasons import as_data, render
from scheduling.decide.world import Move, Pending, Placement, Plan, Policy, Reason
from scheduling.enact import storm
from scheduling.enact.handoff import request
from scheduling.enact.hints import wake
from scheduling.enact.recipe import Recipe, call, run
from scheduling.enact.timing import Timing
from scheduling.errors import Refused
from scheduling.observe.snapshot import Observed, observe
from scheduling.observe.standing import Standing
from scheduling.passes.lock import take

logger = logging.getLogger(__name__)

BATCH = 50  #: handoffs requested between two renewals of the pass lock

SAY = """
UPDATE scheduling_run SET reason = %(reason)s::text, why = %(why)s::jsonb
WHERE portfolio_id = %(portfolio)s AND epoch = %(epoch)s AND reason <> %(reason)s::text
RETURNING portfolio_id
"""


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
    standing: Standing | None = None,
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
    plan: Plan, observed: Observed, holder: str, timing: Timing, actor: str
) -> BalanceOutcome:
    """Request each handoff of the plan, each on the epoch it was decided on."""
    requested: list[int] = []
    rejected: list[Rejected] = []
    # Failover first: those run nowhere.
    moves = sorted(plan.move, key=lambda move: move.cause != "failover")
    urgent = [m for m in moves if m.cause == "failover"]
    changes: list[Placement | Move] = [*urgent, *plan.place, *moves[len(urgent) :]]
    for number, change in enumerate(changes):
        if number % BATCH == 0 and not run(take(holder)):
            logger.info("another pass took over; %d changes are left to it", len(changes) - number)
            break
        try:
            requested.append(run(_begin(change, observed, timing, actor)))
        except Refused as refused:
            rejected.append(Rejected(change.portfolio.name, refused.message))
            logger.info("%s: %s", change.portfolio.name, refused.message)
        except (LockNotAvailable, DeadlockDetected) as busy:
            # Somebody holds its row: it must not keep the pass from the others.
            rejected.append(Rejected(change.portfolio.name, type(busy).__name__))
    for pending in (*plan.pending, *plan.stuck):
        run(_say(pending, observed))
    told = {pending.portfolio.id for pending in (*plan.pending, *plan.stuck)}
    for row in [observed.rows[number] for number in sorted(observed.with_reason)]:
        if row.phase == "running" and not row.attempts and row.id not in told:
            run(call(SAY, portfolio=row.id, epoch=row.epoch, reason="", why=None))
    return BalanceOutcome(plan, tuple(requested), tuple(rejected))


def _begin(change: Placement | Move, observed: Observed, timing: Timing, actor: str) -> Recipe[int]:
    row = observed.rows[change.portfolio.id]
    if isinstance(change, Placement):
        # After a failure the last good one, as in a failover; the wanted one is reloaded then.
        kind, revision = "place", (row.attempts and row.good_revision) or row.revision
    elif change.cause == "failover":
        # It was planned a moment ago; meanwhile another watcher may have seen more nodes go.
        if (yield from storm.is_held()):
            raise Refused("storm_hold", "Failover is held; the next pass looks again.")
        # The last good one: what was not proven yet may be what killed the node.
        kind, revision = "failover", row.good_revision or row.running_revision
    else:
        kind, revision = "migrate", row.running_revision
    handoff = yield from request(
        kind,
        change.portfolio.id,
        target=change.target.id,
        to_revision=revision,
        actor=actor,
        reason=render(change.reason),
        why=change.reason,
        timing=timing,
        seen_epoch=row.epoch,
    )
    return int(handoff.id)


#: Reasons that only say "a pass later": nobody needs to read them on a row, and what the last try
#: failed of is worth more there than when the next one is.
PASSING = frozenset({"later", "max_moves", "handoff_limit", "in_handoff", "backing_off"})


def _say(pending: Pending, observed: Observed) -> Recipe[None]:
    """Write on the row why it is pending or stuck, if that is not what it says already."""
    reason: Reason = pending.reason
    row = observed.rows[pending.portfolio.id]
    if reason.code in PASSING:
        return
    changed = yield from call(
        SAY,
        portfolio=pending.portfolio.id,
        epoch=row.epoch,
        reason=render(reason),
        why=Jsonb(as_data(reason)),
    )
    if changed:
        yield from wake()
