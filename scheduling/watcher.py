"""The watcher: ticks the scheduler at every hint, at the next lease expiry, and at least once a
second. Without a watcher the same work is done by django-q2, every 30 s.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from contextlib import suppress
from typing import Any

import psycopg
from django.conf import settings
from django.db import Error as DjangoDatabaseError
from django.db import connection

from ginkgo_site.deadline import Connection
from scheduling import systemd
from scheduling.db.kept_plans import KeptPlans
from scheduling.db.listener_echo import ECHO_INTERVAL_S, Echo
from scheduling.db.transaction import execute_autocommit
from scheduling.decide.types import Plan
from scheduling.enact.lease import next_expiry
from scheduling.enact.pass_lock import record_watcher_left, record_watcher_seen
from scheduling.errors import SnapshotUnavailable
from scheduling.hint_relay import HintRelay
from scheduling.passes.node_loss import NodeLossForecaster
from scheduling.scheduler import Scheduler, TickOutcome

logger = logging.getLogger(__name__)

MAX_TICK_INTERVAL_S = 1.0  #: the longest time between two ticks
DEBOUNCE_S = 0.02  #: a burst of hints becomes one tick
#: The cost of a tick grows with the fleet. Hints are collected for as long as the last tick took,
#: at most this long: otherwise 100 grants in a row would cause 100 snapshot reads.
MAX_DEBOUNCE_S = 0.25
#: Run a full tick, with its time-driven checks, at most once per this many times its duration.
FULL_TICK_COST_FACTOR = 5
RETRY_S = 0.5  #: wait while the database is unavailable
LOCKED_RETRY_S = 0.1  #: wait while another pass holds the pass lock
AFTER_EXPIRY_S = 0.005  #: tick this long after a lease has expired, and not just before


class Watcher:
    """One loop: wait for a hint or a deadline, tick, publish what changed."""

    def __init__(self, balance_interval_s: float) -> None:
        self.scheduler = Scheduler("watcher")
        self.node_losses = NodeLossForecaster()
        self._kept_plans = KeptPlans()
        self.balance_interval_s = balance_interval_s
        self._ended = threading.Event()
        self._next_rebalance = 0.0
        self._next_full_tick = 0.0
        self._wait_s = 0.0  #: how long to wait for a hint before the next tick
        self._debounce_s = DEBOUNCE_S  #: after a hint, to collect those that follow
        self._echo = Echo()
        self._next_echo = 0.0
        self._relay = HintRelay() if settings.GINKGO.redis_url is not None else None
        self._alive = systemd.Alive()
        self._lease_ends = float("inf")  #: monotonic time of the next lease expiry

    def end(self, *_: Any) -> None:
        """Stop after the current tick. For signal handlers."""
        self._ended.set()
        systemd.tell(systemd.STOPPING)

    def watch(self) -> None:
        """Run until `end`. While the database is unavailable, retry."""
        from ginkgo_site.database import conninfo

        while not self._ended.is_set():
            self._alive.tell()
            try:
                with Connection.connect(conninfo(), autocommit=True) as listening:
                    listening.execute("LISTEN ginkgo")
                    self._echo = Echo()
                    listening.execute(self._echo.listen)
                    self._next_echo = 0.0
                    logger.info("watching")
                    while not self._ended.is_set():
                        self._send_echo(listening)
                        rebalance = self._sleep(listening)
                        if self._ended.is_set():
                            break
                        self._tick(rebalance)
            except (psycopg.Error, DjangoDatabaseError, SnapshotUnavailable) as error:
                # Unknown is different from empty: no pass ran, so nothing is concluded.
                cause = (str(error).strip() or type(error).__name__).splitlines()[0]
                logger.warning("no pass ran: %s; the next try is in %g s", cause, RETRY_S)
                connection.close()
                self._ended.wait(RETRY_S)
        # If this fails, the watcher counts as one that crashed, not as one that stopped in order.
        with suppress(psycopg.Error, DjangoDatabaseError):
            execute_autocommit(record_watcher_left(self.scheduler.holder))

    def _sleep(self, listening: psycopg.Connection[Any]) -> bool:
        """Wait for a hint or a deadline. Return whether a rebalance is due."""
        until = time.monotonic() + self._wait_s
        while not self._ended.is_set():
            self._alive.tell()
            left = until - time.monotonic()
            if left <= 0:
                break
            # In short steps, so that a signal is handled at once.
            woken = False
            for notification in listening.notifies(timeout=min(left, 0.25), stop_after=1):
                # One packet may carry several notifications; any of them ends the wait.
                woken = self._receive(notification) or woken
            if woken:
                for notification in listening.notifies(timeout=self._debounce_s):
                    self._receive(notification)
                break
        return time.monotonic() >= self._next_rebalance

    def _send_echo(self, listening: psycopg.Connection[Any]) -> None:
        """Send this session an echo, if the last one is ECHO_INTERVAL_S ago."""
        now = time.monotonic()
        if now >= self._next_echo:
            listening.execute(self._echo.send())
            self._next_echo = now + ECHO_INTERVAL_S

    def _receive(self, notification: psycopg.Notify) -> bool:
        """Relay a hint to Redis, if used. Return whether it is for the watcher."""
        if self._echo.receive(notification):
            return False
        if self._relay is not None:
            self._relay.send(notification.payload)
        return _is_for_watcher(notification.payload)

    def _tick(self, rebalance: bool) -> None:
        """Tick once, and set the times of the next tick, full tick and rebalance."""
        execute_autocommit(record_watcher_seen(self.scheduler.holder))
        execute_autocommit(self._kept_plans.discard_outgrown())
        began = time.monotonic()
        # Failover of a lost node must not wait for the time-driven checks of a full tick.
        full = self._next_full_tick <= began < self._lease_ends
        try:
            outcome = self.scheduler.tick(rebalance=rebalance, full=full)
        except Exception:
            self._raise_alerts_outside_pass()
            raise
        took_s = time.monotonic() - began
        self._debounce_s = min(max(DEBOUNCE_S, took_s), MAX_DEBOUNCE_S)
        if outcome.ran and full:
            self._next_full_tick = time.monotonic() + max(
                MAX_TICK_INTERVAL_S - took_s, FULL_TICK_COST_FACTOR * took_s
            )
            self._refresh_node_losses()
        if not outcome.ran:
            self._raise_alerts_outside_pass()  # the holder of the pass lock may be frozen
        if outcome.ran and rebalance:
            self._next_rebalance = time.monotonic() + self._rebalance_interval_s(outcome)
        self._wait_s = MAX_TICK_INTERVAL_S if outcome.ran else LOCKED_RETRY_S
        expiry_s = execute_autocommit(next_expiry())
        self._lease_ends = float("inf")
        if expiry_s is not None:
            self._wait_s = min(self._wait_s, expiry_s + AFTER_EXPIRY_S)
            self._lease_ends = time.monotonic() + expiry_s

    def _raise_alerts_outside_pass(self) -> None:
        """Update alerts outside of a pass, because the pass failed or did not run."""
        try:
            self.scheduler.raise_alerts()
        except (psycopg.Error, DjangoDatabaseError):
            connection.close()  # unavailable: `watch` logs it when its next statement fails

    def _refresh_node_losses(self) -> None:
        """Renew some of the node-loss forecasts, for the short time that a tick has for them.

        Called after full ticks, about once a second, not at every hint: 100 grants in a row must
        not wait for forecasts.
        """
        try:
            self.node_losses.refresh(self.scheduler.snapshot_cache)
        except (psycopg.Error, DjangoDatabaseError):
            raise  # the caller waits for the database
        except Exception:
            # An internal error in a forecast must not keep the watcher from failing over.
            logger.exception("the node-loss forecasts were not updated, a defect to report")

    def _rebalance_interval_s(self, outcome: TickOutcome) -> float:
        """Return the time until the next rebalance: short while portfolios are being moved."""
        plan: Plan | None = outcome.balance.plan if outcome.balance is not None else None
        if plan is not None and any(move.cause == "rebalance" for move in plan.move):
            return min(MAX_TICK_INTERVAL_S, self.balance_interval_s)
        return self.balance_interval_s


def _is_for_watcher(payload: str) -> bool:
    try:
        return "watcher" in json.loads(payload).get("groups", ())
    except (ValueError, AttributeError):
        return False
