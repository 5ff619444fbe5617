"""The balance pass: plan where every portfolio should run, and request the handoffs for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import DataError, IntegrityError
from psycopg.errors import DeadlockDetected, LockNotAvailable

from scheduling.db.transaction import execute, execute_autocommit
from scheduling.decide.planner.planner import make_plan
from scheduling.decide.reasons import render
from scheduling.decide.types import Move, Placement, Plan, Policy, Reason
from scheduling.enact.handoff import Request, request_all
from scheduling.enact.pass_lock import acquire
from scheduling.enact.pending_reasons import store_reasons
from scheduling.errors import Refused
from scheduling.observe.snapshot import FleetSnapshot, observe
from scheduling.observe.snapshot_cache import SnapshotCache
from scheduling.timing import Timing

logger = logging.getLogger(__name__)

BATCH = 50  #: handoffs requested in one transaction, and so between two renewals of the pass lock


@dataclass(frozen=True, slots=True)
class Rejected:
    """A planned handoff that was refused; the next pass plans anew."""

    portfolio: str
    reason: str


@dataclass(frozen=True, slots=True)
class BalanceOutcome:
    """The plan of one pass, and what became of its changes."""

    plan: Plan
    requested: tuple[int, ...]  #: ids of the requested handoffs
    rejected: tuple[Rejected, ...]


def balance(
    holder: str,
    timing: Timing,
    policy: Policy,
    actor: str = "balancer",
    cache: SnapshotCache | None = None,
) -> BalanceOutcome:
    """Read the fleet, plan, and request the handoffs. Raise SnapshotUnavailable.

    With the `cache` of the previous pass in this process, only changed rows are read.
    """
    began = time.monotonic()
    observed = observe(timing, cache)
    read_ms = 1e3 * (time.monotonic() - began)
    plan = make_plan(observed.snapshot, policy, observed.fleet_index)
    if plan.changes:
        planned_ms = 1e3 * (time.monotonic() - began) - read_ms
        logger.info(
            "%d changes planned in %.1f ms after a snapshot read of %.0f ms",
            plan.changes,
            planned_ms,
            read_ms,
            extra={"read_ms": round(read_ms, 3), "planned_ms": round(planned_ms, 3)},
        )
    return enact(plan, observed, holder, timing, actor)


def enact(
    plan: Plan, observed: FleetSnapshot, holder: str, timing: Timing, actor: str
) -> BalanceOutcome:
    """Request the plan's handoffs, each under the epoch that the plan saw; store its reasons.

    If another pass has taken the pass lock over, the rest is left to that pass.
    """
    requested: list[int] = []
    rejected: list[Rejected] = []
    # Failovers first: their portfolios run nowhere. In a plan they precede all other moves.
    failovers = [m for m in plan.move if m.cause == "failover"]
    changes: list[Placement | Move] = [*failovers, *plan.place, *plan.move[len(failovers) :]]
    batches = [changes[number : number + BATCH] for number in range(0, len(changes), BATCH)]
    while batches:
        if not execute_autocommit(acquire(holder)):
            left = sum(map(len, batches))
            logger.info("another pass took over; %d changes are left to it", left)
            break
        batch = batches.pop(0)
        answers = _request_batch(batch, observed, timing, actor)
        for change, answer in zip(batch, answers, strict=True):
            # Its row was locked, or its batch failed. Alone, it waits for the lock or is rejected.
            if answer is None:
                batches.append([change])
            elif isinstance(answer, Rejected):
                rejected.append(answer)
                logger.info("%s: %s", answer.portfolio, answer.reason)
            else:
                requested.append(answer)
    _store_reasons(plan, observed)
    return BalanceOutcome(plan, tuple(requested), tuple(rejected))


def _request_batch(
    batch: Sequence[Placement | Move], observed: FleetSnapshot, timing: Timing, actor: str
) -> list[int | Rejected | None]:
    """Request the handoffs in one transaction. Return the id of each, or why it was rejected.

    None in place of an id: request that handoff again, alone. Its row was locked, or the batch
    failed and it is not known which of the requests was the cause.
    """
    alone = len(batch) == 1
    requests = [_request_for(change, observed) for change in batch]
    try:
        answers = execute(request_all(requests, actor=actor, timing=timing, patient=alone))
    except (LockNotAvailable, DeadlockDetected, DataError, IntegrityError) as error:
        if not alone:
            return [None] * len(batch)
        why = f"the request failed in the database ({type(error).__name__})"
        return [Rejected(batch[0].portfolio.name, why)]
    results: list[int | Rejected | None] = []
    for change, answer in zip(batch, answers, strict=True):
        if isinstance(answer, Refused):
            results.append(Rejected(change.portfolio.name, answer.message))
        else:
            results.append(None if answer is None else int(answer.id))
    return results


def _request_for(change: Placement | Move, observed: FleetSnapshot) -> Request:
    """Return the request of a planned change; it is refused if the epoch has changed since."""
    if isinstance(change, Placement):
        kind = "place"
    else:
        kind = "failover" if change.cause == "failover" else "migrate"
    return Request(
        kind,
        change.portfolio.id,
        change.target.id,
        render(change.reason),
        to_revision=change.portfolio.revision,  # the revision that the plan checked the node for
        why=change.reason,
        seen_epoch=observed.rows[change.portfolio.id].epoch,
        heeds_storm=kind == "failover",
    )


def _store_reasons(plan: Plan, observed: FleetSnapshot) -> None:
    """Store why portfolios are pending, cannot leave their node, or run an earlier revision.

    Clear the reasons that no longer apply. One statement; none if every reason is stored already.
    """
    rows = observed.rows
    # A portfolio that runs has no reason, unless the plan gives one below.
    reasons: dict[int, Reason | None] = {
        portfolio: None
        for portfolio in observed.with_reason
        if rows[portfolio].phase == "running" and not rows[portfolio].attempts
    }
    entries = (*plan.older, *plan.pending, *plan.stuck)
    reasons |= {entry.portfolio.id: entry.reason for entry in entries}
    changed = {
        portfolio: reason
        for portfolio, reason in sorted(reasons.items())
        # A portfolio in back-off keeps the error of its last attempt as its reason.
        if reason is None or reason.code != "backing_off"
        if rows[portfolio].reason != ("" if reason is None else render(reason))
    }
    if changed:
        epochs = {portfolio: rows[portfolio].epoch for portfolio in changed}
        execute_autocommit(store_reasons(changed, epochs))
