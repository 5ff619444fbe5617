"""The system check for durable commits."""

from __future__ import annotations

import pytest
from django.db import connection

from ginkgo_site.checks import check_commits_are_durable


def found() -> dict[str | None, str]:
    """Return the messages of the check by their ids."""
    return {each.id: each.msg for each in check_commits_are_durable(databases=["default"])}


@pytest.mark.django_db
def test_durability_check_names_fsync_if_it_is_off_and_nothing_else() -> None:
    # The server of the tests runs without it, one that GINKGO_TEST_DATABASE_URL names may have it.
    with connection.cursor() as cursor:
        cursor.execute("SHOW fsync")
        (value,) = cursor.fetchone()
    assert found().keys() == ({"ginkgo.E001"} if value == "off" else set())


@pytest.mark.django_db
def test_durability_check_names_synchronous_commit_if_it_is_off() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit = off")
    assert "synchronous_commit=off" in found()["ginkgo.E002"]
