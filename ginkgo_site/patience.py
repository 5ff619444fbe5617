"""Change tables of a system that trades: wait briefly for a lock, give way, and try again.

Every commit queues behind a statement that waits for a table, so no such wait may be long.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import OperationalError, connections, migrations, transaction

T = TypeVar("T")

LOCK_NOT_AVAILABLE = "55P03"
#: Of a migration, whose tries end after some two minutes.
MIGRATION_LOCK_WAIT, MIGRATION_TRIES = "300ms", 200


def patiently(act: Callable[[], T], lock_wait: str, tries: int, using: str = "default") -> T:
    """Run `act` in one transaction that waits `lock_wait` for a lock, and again where it got none.

    Within a transaction it is a savepoint: what gave way holds no lock until the next try. Raise
    OperationalError where none of `tries` got it.
    """
    for attempt in range(tries):
        try:
            with transaction.atomic(using):
                with connections[using].cursor() as cursor:
                    cursor.execute(f"SET LOCAL lock_timeout = '{lock_wait}'")
                return act()
        except OperationalError as error:
            if not lock_was_taken(error) or attempt == tries - 1:
                raise
        time.sleep(random.uniform(0.05, 0.5) * min(attempt + 1, 4))  # at random, to meet a gap
    raise AssertionError  # not reached


def lock_was_taken(error: OperationalError) -> bool:
    """Return whether a statement gave way to the holder of a lock."""
    return getattr(error.__cause__, "sqlstate", "") == LOCK_NOT_AVAILABLE


class PatientMigration(migrations.Migration):
    """A migration of tables that commits write: the base class of every one that alters a table.

    Its statements are put together first and then run in one go, so that Python's work is not done
    under their locks. All of them are given up where one does not get its lock in time.
    """

    def apply(self, project_state: Any, schema_editor: Any, collect_sql: bool = False) -> Any:
        """Apply it forwards, by statements alone."""
        if collect_sql:
            return super().apply(project_state, schema_editor, collect_sql)
        connection = schema_editor.connection
        with connection.schema_editor(collect_sql=True, atomic=self.atomic) as collecting:
            state = super().apply(project_state, collecting, collect_sql=True)
        statements = [sql for sql in collecting.collected_sql if not sql.startswith("--")]
        if not all(operation.reduces_to_sql for operation in self.operations):
            raise TypeError(f"{self}: a patient migration consists of SQL alone")

        def run() -> None:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)

        patiently(run, MIGRATION_LOCK_WAIT, MIGRATION_TRIES, connection.alias)
        return state
