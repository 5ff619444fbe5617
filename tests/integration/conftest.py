"""People that tests of the doors share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache

from portfolios.models import Portfolio
from scheduling.api.permissions import Role
from scheduling.verification.evidence import history_of
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


@pytest.fixture
def honest_history(db: Any) -> Iterator[None]:
    """At the end, the audit trail alone tells the same history as tenures and runs."""
    yield
    for name in Portfolio.objects.values_list("name", flat=True):
        assert history_of(name) is None, name
