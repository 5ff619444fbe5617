"""Django's database backend over connections whose statements have a deadline (`deadline.py`)."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import psycopg
from django.db.backends.postgresql import base

from ginkgo_site.deadline import Connection


class DatabaseWrapper(base.DatabaseWrapper):
    """The PostgreSQL backend with connections that have deadlines."""

    _renewed_at = 0.0  #: when `_renew_idle` last emptied the pool; a process has one

    Database: Any = SimpleNamespace(**(vars(psycopg) | {"connect": Connection.connect}))

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Return a connection that answers. A pooled one may have died since its last use."""
        while True:
            connection = super().get_new_connection(conn_params)
            if self.pool is None:
                return connection
            try:
                connection.check()
            except psycopg.OperationalError:
                # Closed first, so that the pool replaces it.
                connection.close()
                self.pool.putconn(connection)
                self._renew_idle(connection)
            else:
                return connection

    def _renew_idle(self, dead: Any) -> None:
        """Replace the idle connections, unless that was done since the last answer to `dead`.

        They lead to the same server; a request would wait for one dead connection after another.
        """
        if dead.answered_at > DatabaseWrapper._renewed_at:
            DatabaseWrapper._renewed_at = time.monotonic()
            self.pool.drain()
