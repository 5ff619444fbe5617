"""The scheduler: one tick checks heartbeats, assigns portfolios and publishes the changes."""

from __future__ import annotations

import logging
import os
import socket
import uuid
from dataclasses import dataclass

from psycopg.errors import DeadlockDetected, DiskFull, LockNotAvailable

from scheduling.alert_queue import wake_delivery
from scheduling.db.transaction import execute_autocommit
from scheduling.decide.types import Policy
from scheduling.enact import alerts
from scheduling.enact.notify import notify_watchers
from scheduling.enact.pass_lock import pass_lock, record_pass
from scheduling.observe.snapshot_cache import SnapshotCache
from scheduling.passes.balance import BalanceOutcome, balance
from scheduling.passes.roll_outs import advance
from scheduling.passes.sweep import SweepOutcome, sweep
from scheduling.timing import Timing, timing

logger = logging.getLogger(__name__)

#: A pass lasts milliseconds, and a lock that is not released expires after 5 s.
LOCK_WAIT_S = 8.0


@dataclass(frozen=True, slots=True)
class TickOutcome:
    """What one tick changed. `ran` is False if another pass held the lock."""

    ran: bool
    sweep: SweepOutcome | None = None
    balance: BalanceOutcome | None = None


class Scheduler:
    """Keeps running portfolios equal to the desired ones.

    django-q2 creates one every 30 s and ticks it, for reliability; the watcher keeps one and ticks
    it at every hint and every second, for speed. Both take the pass lock.
    """

    def __init__(self, name: str = "scheduler", times: Timing | None = None) -> None:
        self.timing = times or timing()
        #: Rows read by the last tick, so that the next one reads only what changed.
        self.snapshot_cache = SnapshotCache()
        self.holder = f"{name}@{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"[:80]

    def tick(
        self,
        *,
        rebalance: bool = True,
        full: bool = True,
        actor: str = "balancer",
        lock_wait_s: float = 0,
    ) -> TickOutcome:
        """Sweep, place and move portfolios, advance roll-outs, publish what changed.

        Without `rebalance`, no portfolio moves to even out loads or to make room; drains, pins and
        broken rules still move some. Without `full`, the checks that read every run are left out,
        and no alert is opened or closed. If another pass holds the lock, wait for it up to
        `lock_wait_s`.
        """
        with pass_lock(self.holder, lock_wait_s) as held:
            if not held:
                return TickOutcome(ran=False)
            swept = self.check_heartbeat(full=full)
            balanced = self.assign_portfolios(rebalance=rebalance, actor=actor)
            execute_autocommit(record_pass())
            self.advance_roll_outs()
            self.publish_schedule_update(swept, balanced)
            if full:
                self.raise_alerts()
            return TickOutcome(ran=True, sweep=swept, balance=balanced)

    def check_heartbeat(self, *, full: bool = True) -> SweepOutcome:
        """Mark lost nodes and expire overdue handoffs; with `full`, make all changes of a sweep."""
        return sweep(self.holder, self.timing, full=full)

    def assign_portfolios(
        self, *, rebalance: bool = True, actor: str = "balancer"
    ) -> BalanceOutcome:
        """Plan where every portfolio should run and request the handoffs of the plan."""
        # Without a rebalance no move for balance gains enough.
        policy = Policy() if rebalance else Policy(rebalance_gain=float("inf"))
        return balance(self.holder, self.timing, policy, actor, self.snapshot_cache)

    def advance_roll_outs(self) -> None:
        """Take the next steps of every roll-out that has not ended."""
        advance(self.holder, self.timing)

    def raise_alerts(self) -> None:
        """Open alerts whose cause exists and close those whose cause has gone."""
        try:
            changed = execute_autocommit(alerts.update_alerts(self.timing))
        except (LockNotAvailable, DeadlockDetected):
            return  # another watcher is updating the alerts
        except DiskFull as full:
            logger.error("no alert can be written: %s", full)
            return
        for row in changed:
            logger.warning("%s %s: %s", row.what.replace("_", " "), row.kind, row.reason)
        if any(row.messages for row in changed):
            wake_delivery()

    def publish_schedule_update(self, swept: SweepOutcome, balanced: BalanceOutcome) -> None:
        """Notify dashboards and watchers if anything changed.

        The hints to nodes were sent in the transactions of the changes.
        """
        if swept or balanced.requested:
            execute_autocommit(notify_watchers())
