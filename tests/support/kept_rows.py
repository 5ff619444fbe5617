"""Rows that several tests begin with: made by the first test, written back for each other one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from django.apps import apps
from django.db import connection

T = TypeVar("T")

#: No foreign key is checked and no trigger fires: the rows fit each other, as they did before.
AS_THEY_ARE = "SET LOCAL session_replication_role = replica"


def statements_of(tables: Iterable[str]) -> dict[str, str]:
    """Return, for each of these tables, statements that replace its rows by the present ones."""
    writes = {}
    with connection.cursor() as cursor:
        for table in tables:
            writes[table] = f'DELETE FROM "{table}"'
            cursor.execute(f'SELECT json_agg(line)::text FROM "{table}" line')
            (found,) = cursor.fetchone()
            if found:
                rows = found.replace("'", "''")
                writes[table] += (
                    f'; INSERT INTO "{table}" SELECT *'
                    f" FROM json_populate_recordset(NULL::\"{table}\", '{rows}')"
                )
    return writes


class KeptRows(Generic[T]):
    """What many tests begin with: rows of portfolios and scheduling, and a value made with them.

    The first test calls `make`; for each other one the tables that this changed are written back.
    Their times are those of the first test, so leases may have expired: let the nodes beat again.
    """

    def __init__(self, make: Callable[..., T]) -> None:
        self._make = make
        self._kept: tuple[str, T] | None = None

    def get(self, *given: Any) -> T:
        """Return the value, with its rows in the database; `given` is for the first making."""
        if self._kept is None:
            tables = [
                model._meta.db_table
                for app in ("portfolios", "scheduling")
                for model in apps.get_app_config(app).get_models()
            ]
            before = statements_of(tables)
            made = self._make(*given)
            after = statements_of(tables)
            changed = [after[table] for table in tables if after[table] != before[table]]
            self._kept = "; ".join([AS_THEY_ARE, *changed]), made
        else:
            with connection.cursor() as cursor:
                cursor.execute(self._kept[0])
                cursor.execute("SET LOCAL session_replication_role = origin")
        return self._kept[1]
