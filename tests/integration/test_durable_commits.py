"""The system check that guards the fence's ground."""

from __future__ import annotations

import pytest
from django.db import connection

from ginkgo_site.checks import check_commits_are_durable


@pytest.mark.django_db
def test_the_embedded_server_passes() -> None:
    assert check_commits_are_durable(databases=["default"]) == []


@pytest.mark.django_db
def test_it_names_synchronous_commit_when_it_is_off() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit = off")
    (message,) = check_commits_are_durable(databases=["default"])
    assert message.id == "ginkgo.E002"
    assert "synchronous_commit=off" in message.msg
