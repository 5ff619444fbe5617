"""The scheduler: one tick reads as the story of the platform."""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from dataclasses import dataclass

from psycopg.errors import DeadlockDetected, DiskFull, LockNotAvailable

from scheduling.db.transaction import execute_autocommit
from scheduling.decide.types import Policy
from scheduling.enact import alerts
from scheduling.enact.notify import notify_watchers
from scheduling.observe.snapshot_cache import SnapshotCache
from scheduling.passes.balance import BalanceOutcome, balance
from scheduling.passes.pass_lock import acquire, record_pass, release
from scheduling.passes.sweep import SweepOutcome, sweep
from scheduling.timing import Timing, timing

logger = logging.getLogger(__name__)

#: A pass lasts milliseconds, and a lock that nobody lets go ends after 5 s.
LOCK_WAIT_S = 8.0


@dataclass(frozen=True, slots=True)
class TickOutcome:
    """What one tick found and changed; `ran` is False where another pass was under way."""

    ran: bool
    sweep: SweepOutcome | None = None
    balance: BalanceOutcome | None = None


class Scheduler:
    """Keeps what runs equal to what is wanted.

    django-q2 makes one and ticks it every 30 s, which makes it sure; the watcher keeps one and
    ticks it at every hint and every second, which makes it fast. Both take the pass lock.
    """

    def __init__(self, name: str = "scheduler", times: Timing | None = None) -> None:
        self.timing = times or timing()
        self.standing = (
            SnapshotCache()
        )  #: what the last tick read, so that the next reads what changed
        self.holder = f"{name}@{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"[:80]

    def tick(
        self,
        *,
        rebalance: bool = True,
        whole: bool = True,
        actor: str = "balancer",
        patience_s: float = 0,
    ) -> TickOutcome:
        """Check heartbeats, assign portfolios, publish what changed.

        `rebalance` False leaves running portfolios of healthy nodes where they are. `whole` False
        leaves out what only time changes and what every run has to be read for. Where another pass
        is under way, it is waited for up to `patience_s`.
        """
        until = time.monotonic() + patience_s
        while not execute_autocommit(acquire(self.holder)):
            if time.monotonic() >= until:
                return TickOutcome(ran=False)
            time.sleep(0.05)  # a lock that ends by time alone has no event
        try:
            swept = self.check_heartbeat(whole=whole)
            balanced = self.assign_portfolios(rebalance=rebalance, actor=actor)
            execute_autocommit(record_pass())
            self.publish_schedule_update(swept, balanced)
            if whole:
                self.raise_alerts()
            return TickOutcome(ran=True, sweep=swept, balance=balanced)
        finally:
            execute_autocommit(release(self.holder))

    def check_heartbeat(self, *, whole: bool = True) -> SweepOutcome:
        """Mark nodes without a beat lost, end overdue steps. Changes a status, moves nothing."""
        return sweep(self.holder, self.timing, whole=whole)

    def assign_portfolios(
        self, *, rebalance: bool = True, actor: str = "balancer"
    ) -> BalanceOutcome:
        """Plan where everything should run and begin the handoffs of the plan."""
        policy = Policy() if rebalance else Policy(rebalance_gain=float("inf"))
        return balance(self.holder, self.timing, policy, actor, self.standing)

    def raise_alerts(self) -> None:
        """Open alerts whose cause is there and close those whose cause is gone."""
        try:
            changed = execute_autocommit(alerts.compare(self.timing))
        except (LockNotAvailable, DeadlockDetected):
            return  # another watcher does the same
        except DiskFull as full:
            logger.error("no alert can be written: %s", full)
            return
        for row in changed:
            logger.warning("%s %s: %s", row.what.replace("_", " "), row.kind, row.reason)

    def publish_schedule_update(self, swept: SweepOutcome, balanced: BalanceOutcome) -> None:
        """Wake boards and watchers where anything changed.

        The hints to the nodes themselves rode in the transactions of the changes.
        """
        if swept or balanced.requested:
            execute_autocommit(notify_watchers())
