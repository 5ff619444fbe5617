"""Browsers of an operator and of a viewer, as tests of pages use them."""

from __future__ import annotations

import pytest
from django.test import Client

from scheduling.permissions import Role
from tests.support.pages import signed_in


@pytest.fixture
def desk(db: None) -> Client:
    return signed_in(Role.OPERATOR, "mira")


@pytest.fixture
def reader(db: None) -> Client:
    """The browser of a viewer."""
    return signed_in(Role.VIEWER, "vera")
