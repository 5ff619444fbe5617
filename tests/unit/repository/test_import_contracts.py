"""Packages import nothing beyond what the architecture allows them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ginkgo_site.env import CHECKOUT


def imported_by(file: Path) -> Iterator[str]:
    """Yield each module that a file imports, with the name that it takes from the module."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def outside(folder: str, *allowed: str) -> set[str]:
    """Return what files of a folder import beside the standard library and `allowed` packages."""
    found = set()
    for file in (CHECKOUT / folder).rglob("*.py"):
        for module in imported_by(file):
            top = module.partition(".")[0]
            if top in sys.stdlib_module_names:
                continue
            if not any(module == name or module.startswith(name + ".") for name in allowed):
                found.add(f"{file.name} imports {module}")
    return found


def test_decide_and_wire_import_only_the_standard_library_and_msgspec() -> None:
    pure = ("msgspec", "scheduling.decide", "scheduling.wire")
    assert outside("scheduling/decide", *pure) == set()
    assert outside("scheduling/wire", *pure) == set()


@pytest.mark.parametrize("folder", ["runtime", "strategies", "feeds"])
def test_code_of_a_portfolio_process_imports_no_framework(folder: str) -> None:
    allowed = ("msgspec", "zstandard", "portfolios.runtime", "portfolios.strategies")
    more = ("portfolios.feeds", "portfolios.artifacts.load", "portfolios.artifacts.inspection")
    read = ("portfolios.sentences", "portfolios.json_text")
    assert outside(f"portfolios/{folder}", *allowed, *more, *read) == set()


def test_node_daemon_imports_only_wire_reconcile_and_the_pure_parts_of_portfolios() -> None:
    packages = ("aiohttp", "msgspec", "psutil", "uvloop", "zstandard")
    ours = ("node_daemon", "systemd", "tracing", "wire", "decide.reconcile", "decide.types")
    pure = ("artifacts.load", "artifacts.unpack", "runtime", "strategies", "feeds", "text",
            "json_log")  # fmt: skip
    allowed = [f"scheduling.{name}" for name in ours] + [f"portfolios.{name}" for name in pure]
    assert outside("scheduling/node_daemon", *packages, *allowed) == set()


def test_text_and_sentences_import_only_the_standard_library() -> None:
    found = {
        *imported_by(CHECKOUT / "portfolios/text.py"),
        *imported_by(CHECKOUT / "portfolios/sentences.py"),
    } - {"portfolios.sentences.sentence"}
    assert {name.partition(".")[0] for name in found} <= sys.stdlib_module_names


def test_the_scheduling_package_itself_imports_nothing() -> None:
    imported = list(imported_by(CHECKOUT / "scheduling" / "__init__.py"))
    assert imported in ([], ["__future__.annotations"])
