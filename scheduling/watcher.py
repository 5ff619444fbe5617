"""The watcher makes the scheduler fast: it ticks at every hint, at the next lease's end, and at
least once a second. Without it everything still happens, in django-q2's steps of 30 s.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import Any

import psycopg
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import Error as DjangoDatabaseError
from django.db import connection

from ginkgo_site.deadline import Connection
from scheduling.db.listener_echo import ECHO_INTERVAL_S, Echo
from scheduling.db.transaction import execute_autocommit
from scheduling.decide.types import Plan
from scheduling.enact.lease import next_expiry
from scheduling.errors import SnapshotUnavailable
from scheduling.passes.node_loss import Resilience
from scheduling.passes.pass_lock import record_watcher_seen
from scheduling.scheduler import Scheduler, TickOutcome

logger = logging.getLogger(__name__)

MAX_TICK_INTERVAL_S = 1.0  #: the longest time between two ticks
DEBOUNCE_S = 0.02  #: a burst of hints becomes one tick
#: A tick costs more the larger the fleet is. Hints are gathered for as long as the last one took,
#: up to so long: else a hundred grants in a row would be a hundred looks at the whole fleet.
MAX_REST_S = 0.25
#: What time alone changes is looked for once in so many times as long as that takes.
FULL_TICK_COST_FACTOR = 5
RETRY_S = 0.5


class Watcher:
    """One loop: wait for a hint or the time, tick, say what changed."""

    def __init__(self, balance_interval_s: float) -> None:
        self.scheduler = Scheduler("watcher")
        self.resilience = Resilience()
        self.balance_interval_s = balance_interval_s
        self._ended = threading.Event()
        self._next_rebalance = 0.0
        self._next_whole = 0.0
        self._wait_s = 0.0
        self._rest_s = DEBOUNCE_S
        self._echo = Echo()
        self._next_echo = 0.0
        self._lease_ends = float("inf")  #: when the next lease does, by the monotonic clock

    def end(self, *_: Any) -> None:
        """Stop after the tick under way; for signal handlers."""
        self._ended.set()

    def watch(self) -> None:
        """Run until `end`. A database that is away is waited for."""
        from ginkgo_site.database import conninfo

        while not self._ended.is_set():
            try:
                with Connection.connect(conninfo(), autocommit=True) as listening:
                    listening.execute("LISTEN ginkgo")
                    self._echo = Echo()
                    listening.execute(self._echo.listen)
                    self._next_echo = 0.0
                    logger.info("watching")
                    while not self._ended.is_set():
                        self._prove_listening(listening)
                        rebalance = self._sleep(listening)
                        if self._ended.is_set():
                            break
                        self._tick(rebalance)
            except (psycopg.Error, DjangoDatabaseError, SnapshotUnavailable) as error:
                # Not knowing is different from nothing: no pass ran, nothing is concluded.
                logger.warning("no pass now: %s", str(error).strip().splitlines()[0])
                connection.close()
                self._ended.wait(RETRY_S)

    def _sleep(self, listening: psycopg.Connection[Any]) -> bool:
        """Wait for a hint or the time. Return whether a node or request asks for a rebalance."""
        until = time.monotonic() + self._wait_s
        while not self._ended.is_set():
            left = until - time.monotonic()
            if left <= 0:
                break
            # In short steps, so that a signal is seen at once.
            woken = False
            for notification in listening.notifies(timeout=min(left, 0.25), stop_after=1):
                # One packet may bring several; any of them will do.
                woken = self._take(notification) or woken
            if woken:
                for notification in listening.notifies(timeout=self._rest_s):
                    self._take(notification)
                break
        return time.monotonic() >= self._next_rebalance

    def _prove_listening(self, listening: psycopg.Connection[Any]) -> None:
        """Send this session a notification, once the last one had time to come back."""
        now = time.monotonic()
        if now >= self._next_echo:
            listening.execute(self._echo.send())
            self._next_echo = now + ECHO_INTERVAL_S

    def _take(self, notification: psycopg.Notify) -> bool:
        """Pass a hint on. Return whether it is for the watcher."""
        if self._echo.receive(notification):
            return False
        self._relay(notification.payload)
        return _is_for_watcher(notification.payload)

    def _relay(self, payload: str) -> None:
        """With Redis, pass hints on: they are born in PostgreSQL, in the change they tell of."""
        if settings.GINKGO.redis_url is None:
            return
        try:
            hint = json.loads(payload)
            for group in hint.get("groups", ()):
                async_to_sync(get_channel_layer().group_send)(group, hint["message"])
        except Exception as error:
            # A lost push costs time only; the beat carries the set.
            logger.warning("a hint was not passed on: %s", error)

    def _tick(self, rebalance: bool) -> None:
        execute_autocommit(record_watcher_seen(self.scheduler.holder))
        began = time.monotonic()
        # A node that is lost does not wait for what could as well be seen a moment later.
        whole = self._next_whole <= began < self._lease_ends
        try:
            outcome = self.scheduler.tick(rebalance=rebalance, whole=whole)
        except Exception:
            self._raise_alerts_outside_pass()
            raise
        took_s = time.monotonic() - began
        self._rest_s = min(max(DEBOUNCE_S, took_s), MAX_REST_S)
        if outcome.ran and whole:
            self._next_whole = time.monotonic() + max(
                MAX_TICK_INTERVAL_S - took_s, FULL_TICK_COST_FACTOR * took_s
            )
            self._refresh_node_losses()
        if not outcome.ran:
            self._raise_alerts_outside_pass()  # whoever holds the pass may be frozen
        if outcome.ran and rebalance:
            self._next_rebalance = time.monotonic() + self._rest_of(outcome)
        self._wait_s = MAX_TICK_INTERVAL_S if outcome.ran else 0.1
        expiry_s = execute_autocommit(next_expiry())
        self._lease_ends = float("inf")
        if expiry_s is not None and expiry_s > 0:
            self._wait_s = min(self._wait_s, expiry_s + 0.005)
            self._lease_ends = time.monotonic() + expiry_s

    def _raise_alerts_outside_pass(self) -> None:
        """Compare alerts outside of the pass, which did not come to it."""
        try:
            self.scheduler.raise_alerts()
        except (psycopg.Error, DjangoDatabaseError):
            connection.close()  # the database is away, and the pass has said so

    def _refresh_node_losses(self) -> None:
        """Reckon what the loss of each node would come to, for as long as a tick may spare.

        Once a second and not at every hint: a hundred grants in a row must not wait for it.
        """
        try:
            self.resilience.look(self.scheduler.standing)
        except (psycopg.Error, DjangoDatabaseError):
            raise
        except Exception:
            # A fault of ours in a figure must not keep the watcher from failing anything over.
            logger.exception("what a loss would come to is not known now")

    def _rest_of(self, outcome: TickOutcome) -> float:
        """Return the time until loads are looked at again: soon while they are being evened out."""
        plan: Plan | None = outcome.balance.plan if outcome.balance is not None else None
        busy = plan is not None and any(move.cause == "rebalance" for move in plan.move)
        return (
            min(MAX_TICK_INTERVAL_S, self.balance_interval_s) if busy else self.balance_interval_s
        )


def _is_for_watcher(payload: str) -> bool:
    try:
        return "watcher" in json.loads(payload).get("groups", ())
    except (ValueError, AttributeError):
        return False
