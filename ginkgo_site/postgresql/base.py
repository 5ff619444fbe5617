"""Django's database backend over connections whose statements have a deadline (`deadline.py`)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import psycopg
from django.db.backends.postgresql import base

from ginkgo_site.deadline import Connection


class DatabaseWrapper(base.DatabaseWrapper):
    """The PostgreSQL backend; only the class of the connections is another."""

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
                # Those that are idle lead to the same server: whoever came would wait for each.
                self.pool.drain()
            else:
                return connection
