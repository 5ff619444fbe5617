"""Unit and property tests use no database: `bin/test` runs them where no server is started."""

from __future__ import annotations

from ginkgo_site.env import CHECKOUT

TESTS = CHECKOUT / "tests"
MARK = "mark." + "django_db"


def test_unit_and_property_tests_use_no_database() -> None:
    pure = [*(TESTS / "unit").rglob("*.py"), *(TESTS / "properties").rglob("*.py")]
    asking = {path for path in pure if MARK in path.read_text(encoding="utf-8")}
    assert asking == set((TESTS / "properties" / "api").glob("test_*.py"))
