"""The user whose login `bin/up` prints is an operator, never a superuser."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone

from ginkgo_site.launcher import bootstrap
from ginkgo_site.launcher.state_files import read_private, write_private
from scheduling.models import ApiToken
from scheduling.permissions import Role, role_of

pytestmark = pytest.mark.django_db


def test_the_first_user_is_an_operator_and_no_superuser(tmp_path: Path) -> None:
    login = bootstrap._operator(tmp_path / "operator.json")
    user = get_user_model().objects.get(username=login["username"])
    assert role_of(user) is Role.OPERATOR
    assert not user.is_superuser
    assert user.is_staff  # the pages of the admin that show the fleet are the operators' too
    assert user.get_all_permissions() == set()
    assert user.check_password(login["password"])


def an_older_home(path: Path, password: str, printed: str) -> None:
    user = get_user_model().objects.create_superuser("ginkgo", password=password)
    write_private(path, {"username": "ginkgo", "password": printed, "password_hash": ""})
    assert user.is_superuser


def test_a_superuser_of_an_earlier_release_with_the_printed_password_is_demoted_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "operator.json"
    an_older_home(path, "as it was printed", "as it was printed")
    login = bootstrap._operator(path)
    assert not get_user_model().objects.get().is_superuser
    assert login["password"] == "as it was printed"
    assert "no longer a superuser" in capsys.readouterr().out
    bootstrap._operator(path)
    assert "superuser" not in capsys.readouterr().out
    assert read_private(path)["username"] == "ginkgo"


def test_a_superuser_whose_password_was_changed_is_kept_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "operator.json"
    an_older_home(path, "a person's own", "as it was printed")
    assert bootstrap._operator(path)["password"] is None
    assert get_user_model().objects.get().is_superuser
    assert "is a superuser, created by an earlier release" in capsys.readouterr().out


def test_start_replaces_the_expired_token_of_the_first_user(tmp_path: Path) -> None:
    path = tmp_path / "operator.json"
    first = bootstrap._operator(path)["token"]
    assert bootstrap._operator(path)["token"] == first
    ApiToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    second = bootstrap._operator(path)["token"]
    assert second != first
    assert bootstrap._operator(path)["token"] == second
