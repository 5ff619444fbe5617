"""Crash cases and faults name failpoints that exist."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache

import pytest

from chaos.crashpoints.cases import CASES
from chaos.faults.locks import FROZEN_AT
from ginkgo_site.env import CHECKOUT

POINTS = sorted({case.point for case in CASES} | {FROZEN_AT.partition("=")[0]})


@cache
def transactions() -> frozenset[str]:
    """Return `package.function` of every function, as `failpoints` names the transactions."""
    return frozenset(_functions())


def _functions() -> Iterator[str]:
    for path in (CHECKOUT / "scheduling").rglob("*.py"):
        parts = path.relative_to(CHECKOUT / "scheduling").with_suffix("").parts
        package = next(part for part in parts if part != "enact")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                yield f"{package}.{node.name}"


@pytest.mark.parametrize("point", POINTS)
def test_a_failpoint_names_an_existing_transaction(point: str) -> None:
    assert point.partition(":")[0] in transactions()
