"""People that tests of the doors share."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import cache

from scheduling.api.permissions import Role
from tests.integration.doors import Caller, a_caller


@pytest.fixture
def operator(db: Any) -> Caller:
    """Return a program that may act."""
    return a_caller(Role.OPERATOR, "olive")


@pytest.fixture
def viewer(db: Any) -> Caller:
    """Return a program that may read."""
    return a_caller(Role.VIEWER, "vera")


@pytest.fixture
def stranger(db: Any) -> Caller:
    """Return a program whose user belongs to no group."""
    return a_caller(None, "stan")


@pytest.fixture
def nobody(db: Any) -> Caller:
    """Return a program without a token."""
    return Caller()


@pytest.fixture(autouse=True)
def fresh_throttles() -> None:
    """Forget who asked how often: the counts live in the process."""
    cache.clear()
