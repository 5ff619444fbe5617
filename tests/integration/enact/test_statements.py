"""PostgreSQL accepts every SQL statement of the platform and can deduce its types."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction

from ginkgo_site.env import CHECKOUT
from scheduling.db.statements import Statement

pytestmark = pytest.mark.django_db

#: Modules with SQL of their own: those that define statements, and those with plain texts of SQL.
MODULES = sorted(
    ".".join(path.relative_to(CHECKOUT).with_suffix("").parts)
    for package in ("scheduling", "portfolios")
    for path in (CHECKOUT / package).rglob("*.py")
    if "migrations" not in path.parts
    and re.search(r"^[A-Z_]+ = (Statement\(|f?\"\"\")", path.read_text(), re.M)
)
VERB = re.compile(r"^\s*(SELECT|INSERT|UPDATE|WITH|DELETE)\b")
#: A plain text with parameters by position, or with places that its function fills in.
INCOMPLETE = re.compile(r"%s|{\w+}")
PARAMETER = re.compile(r"%\((\w+)\)[sb]")


def texts() -> list[tuple[str, str]]:
    found = []
    for name in MODULES:
        for key, value in vars(import_module(name)).items():
            text = value.sql if isinstance(value, Statement) else value
            if not key.isupper() or not isinstance(text, str) or not VERB.match(text):
                continue
            if isinstance(value, Statement) or not INCOMPLETE.search(text):
                found.append((f"{name}.{key}", text))
    return sorted(set(found))


def positional(text: str) -> str:
    """Return the text with $1, $2 … for named parameters, as the driver sends it."""
    names: dict[str, int] = {}
    text = PARAMETER.sub(lambda m: f"${names.setdefault(m[1], len(names) + 1)}", text)
    return text.replace("%%", "%")


def typed_statements() -> list[Statement[Any]]:
    found = [
        value
        for name in MODULES
        for value in vars(import_module(name)).values()
        if isinstance(value, Statement) and value.row is not None
    ]
    return list(dict.fromkeys(found))


def test_each_row_type_has_the_columns_of_its_statement() -> None:
    connection.ensure_connection()
    session, different = connection.connection.pgconn, []
    for statement in typed_statements():
        assert statement.row is not None
        session.prepare(b"typed", positional(statement.sql).encode())
        described = session.describe_prepared(b"typed")
        columns = [described.fname(number).decode() for number in range(described.nfields)]
        if columns != list(statement.row._fields):
            different.append((statement.name, columns, statement.row._fields))
        session.exec_(b"DEALLOCATE typed")
    assert different == []


def test_postgresql_accepts_every_statement() -> None:
    refused = {}
    connection.ensure_connection()
    with psycopg.Cursor(connection.connection) as cursor:
        for name, text in texts():
            try:
                with transaction.atomic():
                    cursor.execute(f"PREPARE one_of_ours AS {positional(text)}".encode())
                    cursor.execute("DEALLOCATE one_of_ours")
            except psycopg.Error as error:
                refused[name] = str(error)
    assert refused == {}
