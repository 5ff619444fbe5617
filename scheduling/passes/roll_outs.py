"""Advance roll-outs: read their portfolios, decide the next steps, enact each of them.

Woken like every pass by the commits, reports and requests that a roll-out waits for: a first commit
under a new revision, a rejection, the end of a handoff. What time alone decides (a proven revision,
a deadline) waits for the watcher's tick, a second at most.
"""

from __future__ import annotations

import logging

from scheduling.db.transaction import execute_autocommit
from scheduling.decide.reasons import render
from scheduling.decide.roll_out import Limits, RollOut, next_steps
from scheduling.enact import roll_out as enact
from scheduling.enact.handoff.statements import ENVIRONMENT_BUILD_S
from scheduling.enact.pass_lock import acquire
from scheduling.observe.roll_outs import open_roll_outs
from scheduling.passes.attempts import attempt
from scheduling.timing import Timing

logger = logging.getLogger(__name__)

#: A revision has to be proven within this time after `good_after_s`: the feed may be quiet.
PROVE_S = 600.0
#: Portfolios without an owner, or in another handoff, are waited for this long.
READY_S = 120.0
#: Added to the deadlines of two handoffs and a failover, for a busy node and the wait for a pass.
SPARE_S = 60.0


def limits(timing: Timing) -> Limits:
    """Return how long roll-out items may take; a change has time for a failover and two reloads."""
    handoff_s = timing.prepare_deadline_s + timing.drain_deadline_s + timing.activate_deadline_s
    return Limits(
        build_s=ENVIRONMENT_BUILD_S,
        change_s=timing.lease_ttl_s + timing.good_after_s + 2 * handoff_s + SPARE_S,
        good_s=timing.good_after_s,
        prove_s=PROVE_S,
        ready_s=READY_S,
    )


def advance(holder: str, timing: Timing) -> int:
    """Take the next steps of every open roll-out. Return how many were taken.

    One statement if no roll-out is open. The pass lock is renewed before each change of a
    portfolio; if another pass has taken the lock over, the rest is left to that pass.
    """
    return sum(
        _advance_one(roll_out, holder, timing) for roll_out in execute_autocommit(open_roll_outs())
    )


def _advance_one(roll_out: RollOut, holder: str, timing: Timing) -> int:
    """Take the next steps of one roll-out. Return how many were taken."""
    steps = next_steps(roll_out, limits(timing))
    if not steps:
        return 0
    taken = 0
    if steps.changes or steps.state is not None:
        if not attempt(enact.apply, roll_out.id, roll_out.state, steps):
            return 0  # an operator was faster: the next pass decides again
        taken += len(steps.changes) + (steps.state is not None)
        if steps.reason is not None:
            logger.warning("roll-out %d %s", roll_out.id, render(steps.reason))
    for change, items in ((enact.start_item, steps.start), (enact.give_back, steps.give_back)):
        for item in items:
            if not execute_autocommit(acquire(holder)):  # renews the pass lock
                return taken  # another process has taken it over
            outcome = attempt(change, roll_out.id, item.id, timing)
            taken += outcome in ("started", "given")
            logger.info("roll-out %d, %s: %s", roll_out.id, item.name, outcome)
    return taken
