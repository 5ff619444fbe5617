"""The dead man's switch of a web process: alerts are raised and sent without watcher and worker.

Normally the watcher opens and closes alerts, and the worker sends the messages. If one of them is
gone, so is the process that would report that. Several web processes may act at once: their
statements are conditional, so each alert is opened once and each message sent once.
"""

from __future__ import annotations

import logging
import threading

import psycopg
from django.db import Error as DjangoDatabaseError
from django.db import connection
from psycopg_pool import PoolTimeout

from scheduling.alert_delivery import deliver
from scheduling.db.transaction import execute_autocommit
from scheduling.observe.control_plane import read_unattended
from scheduling.scheduler import Scheduler

logger = logging.getLogger(__name__)

LOOK_INTERVAL_S = 3.0


def look() -> None:
    """Raise alerts if the watcher is away, send messages if the worker is. At least one read."""
    unattended = execute_autocommit(read_unattended())
    if unattended.watcher_is_away:
        Scheduler("web").raise_alerts()
    if unattended.messages_wait:
        deliver()


class DeadMansSwitch:
    """A thread of a web process that does every LOOK_INTERVAL_S what is left undone.

    It raises alerts while the watcher is away, and sends their messages while the worker is.
    """

    def __init__(self) -> None:
        self._ended = threading.Event()
        # A daemon thread: a web process that stops does not wait until an alert has been sent.
        self._thread = threading.Thread(target=self._run, name="dead-mans-switch", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def end(self) -> None:
        """End the thread without waiting for a `look` under way; another process sends the rest."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(LOOK_INTERVAL_S):
            try:
                look()
            except (psycopg.Error, DjangoDatabaseError, PoolTimeout) as error:
                cause = str(error).strip() or type(error).__name__
                logger.info("no alert could be raised or sent: %s", cause)
            except Exception:
                # Nothing else would notice that this thread has ended.
                logger.exception("no alert could be raised or sent: a defect to report")
            finally:
                connection.close()  # back to the pool of the process
