"""Alter tables of a live system: wait briefly for each lock, give way to commits, retry.

Every commit queues behind a statement that waits for a table lock, so the wait must be short.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import OperationalError, connections, migrations, transaction

T = TypeVar("T")

LOCK_NOT_AVAILABLE = "55P03"
#: For a migration. The tries end after about five minutes.
MIGRATION_LOCK_WAIT, MIGRATION_TRIES = "300ms", 200


def patiently(act: Callable[[], T], lock_wait: str, tries: int, using: str = "default") -> T:
    """Return `act()`, run in a transaction with this lock timeout, and repeated if a lock is held.

    If a transaction is open already, each try is a savepoint, so that a failed try holds no lock.
    Raise OperationalError after the last try, and at once if no lock is the cause.
    """
    for attempt in range(tries):
        try:
            with transaction.atomic(using):
                with connections[using].cursor() as cursor:
                    cursor.execute(f"SET LOCAL lock_timeout = '{lock_wait}'")
                return act()
        except OperationalError as error:
            if not lock_was_refused(error) or attempt == tries - 1:
                raise
        # Random, to hit a gap between commits.
        time.sleep(random.uniform(0.05, 0.5) * min(attempt + 1, 4))
    raise ValueError(f"tries is {tries}: at least 1 is needed")


def lock_was_refused(error: OperationalError) -> bool:
    """Return whether a statement failed because a lock was not available."""
    return getattr(error.__cause__, "sqlstate", "") == LOCK_NOT_AVAILABLE


class PatientMigration(migrations.Migration):
    """Base class of migrations that alter a table written by commits of nodes.

    The statements are generated first and then run together, so that no Python runs under their
    locks. If one does not get its lock in time, all are rolled back and retried.
    """

    def apply(self, project_state: Any, schema_editor: Any, collect_sql: bool = False) -> Any:
        """Apply the migration. Raise TypeError if it has Python steps."""
        if collect_sql:
            return super().apply(project_state, schema_editor, collect_sql)
        connection = schema_editor.connection
        with connection.schema_editor(collect_sql=True, atomic=self.atomic) as collecting:
            state = super().apply(project_state, collecting, collect_sql=True)
        statements = [sql for sql in collecting.collected_sql if not sql.startswith("--")]
        if not all(operation.reduces_to_sql for operation in self.operations):
            raise TypeError(f"{self} has Python steps: move them to a plain migrations.Migration")

        def run() -> None:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)

        patiently(run, MIGRATION_LOCK_WAIT, MIGRATION_TRIES, connection.alias)
        return state
