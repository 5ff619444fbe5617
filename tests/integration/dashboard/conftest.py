"""The browser of an operator, as tests of pages use it."""

from __future__ import annotations

import pytest
from django.test import Client

from scheduling.permissions import Role
from tests.support.pages import signed_in


@pytest.fixture
def desk(db: None) -> Client:
    return signed_in(Role.OPERATOR, "mira")
