"""Migrations only add: during an upgrade, processes of the version before run on the new tables.

Two models of the fleet are compared: before and after each migration. What the version before
reads or writes must still be there, and what is new must not be asked of it.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from django.db import models
from django.db.migrations import (
    AddField,
    AlterField,
    DeleteModel,
    Migration,
    RemoveField,
    RenameField,
    RunSQL,
    SeparateDatabaseAndState,
)
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState
from django.db.models.fields import NOT_PROVIDED

#: The newest migrations when the rule began.
SINCE = {"portfolios": "0015_orders_by_time", "scheduling": "0031_alert_messages"}
PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))

#: Tables without a model, with the version whose processes do not use them: the next drops them.
UNUSED = {"scheduling_gatewaypulse": "0.1.0"}

_CONTRACTS = re.compile(r"\b(DROP\s+(TABLE|COLUMN|VIEW)|RENAME\s+(TO|COLUMN))\b", re.IGNORECASE)
HELP = (
    "The version before runs on these tables during an upgrade. Add first; remove in a later "
    "version, in a migration with `unused_since = VERSION`, the released version whose code needs "
    "it no more. A new field needs null=True or db_default."
)


def contractions(migration: Migration, before: ProjectState, after: ProjectState) -> list[str]:
    """Return what the version before would miss, or could not write, after the migration."""
    found = []
    for key, old in before.models.items():
        if key[0] != migration.app_label:
            continue
        new = after.models.get(key)
        if new is None or _table(new) != _table(old):
            found.append(f"{old.name}: its table is gone")
            continue
        found += _of_fields(old, new)
    for operation in _in_database(migration):
        if isinstance(operation, RunSQL) and _CONTRACTS.search(str(operation.sql)):
            found.append(f"SQL that drops or renames: {str(operation.sql).strip()[:80]}")
    return found


def _in_database(migration: Migration) -> list[Operation]:
    """Return the operations, with those that change only the database among them."""
    found: list[Operation] = []
    for operation in migration.operations:
        found.append(operation)
        if isinstance(operation, SeparateDatabaseAndState):
            found += operation.database_operations
    return found


def _table(model: ModelState) -> str:
    return str(model.options.get("db_table") or f"{model.app_label}_{model.name.lower()}")


def _of_fields(old: ModelState, new: ModelState) -> list[str]:
    found = []
    for name, field in old.fields.items():
        now = new.fields.get(name)
        if now is None:
            found.append(f"{old.name}.{name} is gone")
        elif (now.db_column or name) != (field.db_column or name):
            found.append(f"{old.name}.{name} has another column")
        elif field.null and not now.null:
            found.append(f"{old.name}.{name} must not be null any more")
        elif _length(now) < _length(field):
            found.append(f"{old.name}.{name} is shorter")
    for name, field in new.fields.items():
        may_be_left_out = field.null or field.db_default is not NOT_PROVIDED or field.many_to_many
        if name not in old.fields and not may_be_left_out:
            found.append(f"{old.name}.{name} is new, and rows without it are refused")
    return found


def _length(field: models.Field[Any, Any]) -> float:
    return getattr(field, "max_length", None) or float("inf")


def _released_before(version: str) -> bool:
    def numbers(text: str) -> tuple[int, ...]:
        return tuple(map(int, text.split(".")))

    return numbers(version) < numbers(PROJECT["project"]["version"])


def test_migrations_after_the_first_release_only_add() -> None:
    loader = MigrationLoader(None)
    found = {}
    for key, migration in loader.disk_migrations.items():
        if key[0] not in SINCE or key[1] <= SINCE[key[0]]:
            continue
        unused_since = getattr(migration, "unused_since", None)
        if unused_since is not None and _released_before(unused_since):
            continue
        before = loader.project_state(key, at_end=False)
        after = loader.project_state(key, at_end=True)
        if said := contractions(migration, before, after):
            found[key] = said
    assert found == {}, HELP


def test_tables_that_nothing_uses_are_dropped_by_the_next_version() -> None:
    unused: set[str] = set()
    for (app, _), migration in MigrationLoader(None).disk_migrations.items():
        for operation in _in_database(migration):
            if isinstance(operation, RunSQL):
                dropped = re.findall(r"DROP TABLE (?:IF EXISTS )?(\w+)", str(operation.sql))
                unused -= set(dropped)
            elif isinstance(operation, SeparateDatabaseAndState):
                left = [o for o in operation.state_operations if isinstance(o, DeleteModel)]
                if not operation.database_operations:
                    unused |= {f"{app}_{o.name.lower()}" for o in left}
    assert unused == set(UNUSED)
    due = [table for table, version in UNUSED.items() if _released_before(version)]
    assert due == [], "Drop them in a migration with `unused_since`, and take them from UNUSED."


# --- the check itself --------------------------------------------------------------------------

NODE = ModelState(
    "scheduling",
    "Node",
    [
        ("id", models.BigAutoField(primary_key=True)),
        ("host", models.CharField(max_length=20)),
        ("pid", models.IntegerField(null=True)),
    ],
)


def said_of(*operations: Any) -> list[str]:
    """Return the contractions of a migration of these operations on the table of NODE."""
    trial = type("Trial", (Migration,), {"operations": list(operations)})
    migration: Migration = trial("9999_trial", "scheduling")
    before = ProjectState()
    before.add_model(NODE.clone())
    return contractions(migration, before, migration.mutate_state(before))


@pytest.mark.parametrize(
    ("operation", "says"),
    [
        (RemoveField("node", "pid"), "Node.pid is gone"),
        (RenameField("node", "pid", "process"), "Node.pid is gone"),
        (AddField("node", "x", models.IntegerField(default=1)), "Node.x is new, and rows without"),
        (RunSQL("ALTER TABLE scheduling_node DROP  column pid"), "SQL that drops or renames"),
        (RunSQL("ALTER TABLE scheduling_node RENAME TO machine"), "SQL that drops or renames"),
        (SeparateDatabaseAndState([RunSQL("DROP TABLE x")]), "SQL that drops or renames"),
    ],
)
def test_migration_that_breaks_the_version_before_is_found(operation: Any, says: str) -> None:
    assert any(says in sentence for sentence in said_of(operation))


def test_a_field_that_may_be_left_out_is_not_a_contraction() -> None:
    assert said_of(AddField("node", "x", models.IntegerField(null=True))) == []
    assert said_of(AddField("node", "x", models.IntegerField(db_default=1))) == []
    assert said_of(RunSQL("ALTER TABLE scheduling_node DROP CONSTRAINT IF EXISTS c")) == []


@pytest.mark.parametrize(
    ("field", "name", "says"),
    [
        (models.CharField(max_length=10), "host", "Node.host is shorter"),
        (models.IntegerField(), "pid", "Node.pid must not be null"),
        (models.IntegerField(null=True, db_column="p"), "pid", "Node.pid has another column"),
    ],
)
def test_narrower_field_is_found(field: models.Field[Any, Any], name: str, says: str) -> None:
    (sentence,) = said_of(AlterField("node", name, field))
    assert says in sentence
