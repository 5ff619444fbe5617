"""Rows of scheduling tables are changed by statements in scheduling/enact only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ginkgo_site.env import CHECKOUT

WRITE = re.compile(
    r"\b(INSERT\s+INTO|UPDATE|DELETE\s+FROM|TRUNCATE|MERGE\s+INTO)\s+(ONLY\s+)?scheduling_", re.I
)
#: The queue of verifications claims its rows itself; a migration changes the tables.
MAY_WRITE = ("scheduling/enact/", "scheduling/migrations/", "scheduling/verification/queue.py")

#: Methods of the ORM that change or remove stored rows. It may create new ones: nobody else has
#: them yet, and a unique index decides between two.
CHANGES = {
    *("save", "update", "update_or_create", "bulk_update", "delete"),
    *("asave", "aupdate", "aupdate_or_create", "abulk_update", "adelete"),
}
MAY_HAVE_CHANGES = re.compile(rf"\.(?:{'|'.join(CHANGES)}|a?bulk_create)\(")
#: Configuration that one person edits at a time, and what keeps old rows away.
MAY_CHANGE = {
    "scheduling/alert_delivery.py": {"AlertChannel"},
    "scheduling/apps.py": {"Schedule"},
    "scheduling/operations/alerts.py": {"row"},
    "scheduling/operations/feeds.py": {"feed"},
    "scheduling/operations/secrets.py": {"Secret"},
    "scheduling/operations/users.py": {"user"},
    "scheduling/recorded_feeds/reads.py": {"stream"},  # deletes a stream of NATS, not rows
    "scheduling/retention.py": {"queryset"},
}


def root_name(node: ast.AST) -> str:
    """Return the name at which a chain such as `Node.objects.filter(…).update` begins."""
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def orm_changes(text: str) -> Iterator[str]:
    """Yield the names whose rows this code changes by the ORM."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        method = node.func.attr
        is_change = method in CHANGES
        if method in ("update", "delete", "adelete"):
            # Sets, dictionaries, hashes and progress bars have an `update` too, and caches a
            # `delete`: each is told what by position. Rows are told by keywords, or nothing.
            is_change = not node.args and (method != "update" or bool(node.keywords))
        if method in ("bulk_create", "abulk_create"):
            is_change = any(word.arg in ("update_conflicts", None) for word in node.keywords)
        if is_change:
            yield root_name(node.func)


def test_sql_that_writes_scheduling_tables_is_in_enact_only() -> None:
    found = [
        path.relative_to(CHECKOUT).as_posix()
        for package in ("ginkgo_site", "portfolios", "scheduling")
        for path in sorted(Path(CHECKOUT, package).rglob("*.py"))
        if WRITE.search(path.read_text(encoding="utf-8"))
    ]
    assert [path for path in found if not path.startswith(MAY_WRITE)] == []
    assert any(path.startswith("scheduling/enact/") for path in found)


def test_orm_changes_in_scheduling_are_only_the_allowed_ones() -> None:
    found: dict[str, set[str]] = {}
    for path in sorted(Path(CHECKOUT, "scheduling").rglob("*.py")):
        text = path.read_text()
        if "migrations" in path.parts or not MAY_HAVE_CHANGES.search(text):  # parsing takes long
            continue
        if names := set(orm_changes(text)):
            found[path.relative_to(CHECKOUT).as_posix()] = names
    assert found == MAY_CHANGE


@pytest.mark.parametrize(
    "line",
    [
        "node.save(update_fields=['cordoned'])",
        "Control.objects.update_or_create(pk=1)",
        "self.get_queryset().delete()",
        "portfolio.revisions.filter(number=2).update(approved=True)",
        "rows.update(**changes)",
        "Run.objects.bulk_create(runs, update_conflicts=True, update_fields=['phase'])",
        "Run.objects.abulk_create(runs, **options)",
        "await node.asave()",
        "await rows.aupdate(cordoned=True)",
        "await Control.objects.aupdate_or_create(pk=1)",
        "await Node.objects.abulk_update(nodes, ['cordoned'])",
        "await node.adelete()",
    ],
)
def test_a_line_that_changes_rows_by_the_orm_is_found(line: str) -> None:
    assert len(list(orm_changes(line))) == 1
    assert MAY_HAVE_CHANGES.search(line)


@pytest.mark.parametrize(
    "line",
    [
        "seen.update(names)",
        "bar.update(task, total=2)",
        "cache.delete(key)",
        "Node.objects.create(name='a')",
        "Node.objects.bulk_create(nodes, ignore_conflicts=True)",
    ],
)
def test_updates_of_sets_and_new_rows_are_not_detected_as_orm_changes(line: str) -> None:
    assert list(orm_changes(line)) == []
