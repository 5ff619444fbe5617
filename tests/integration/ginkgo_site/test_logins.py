"""Sign-in: delays after wrong passwords, by address and name; no connection held while hashing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from django.test import Client

from ginkgo_site.web import logins
from scheduling.permissions import Role
from tests.support.api_client import make_user

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def olive(db: None) -> None:
    """An operator with PASSWORD."""
    make_user("olive", Role.OPERATOR)


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    now = time.monotonic()  # and stays so: a wait of a second ends before a slow test asks again
    monkeypatch.setattr(logins, "time", SimpleNamespace(monotonic=lambda: now))
    logins.failures_by_name_and_address.clear()
    logins.failures_by_address.clear()
    yield
    logins.failures_by_name_and_address.clear()
    logins.failures_by_address.clear()


def sign_in(name: str, password: str, address: str = "10.0.0.1", path: str = "/login/") -> Any:
    return Client(REMOTE_ADDR=address).post(path, {"username": name, "password": password})


@pytest.mark.parametrize("path", ["/login/", "/admin/login/"])
def test_after_five_wrong_passwords_a_login_waits_and_is_told_for_how_long(path: str) -> None:
    answers = [sign_in("olive", "wrong", path=path).status_code for _ in range(6)]
    assert answers == [200] * 4 + [200, 429]
    refused = sign_in("olive", PASSWORD, path=path)
    assert refused.status_code == 429
    assert "Too many wrong passwords: try again in 2 s." in refused.content.decode()
    assert refused.headers["Retry-After"] == "2"
    login = {"username": "olive", "password": PASSWORD}
    chinese = Client(REMOTE_ADDR="10.0.0.1", HTTP_ACCEPT_LANGUAGE="zh-CN").post(path, login)
    assert "密码错误次数过多：请在 2 秒后重试。" in chinese.content.decode()


def test_wrong_passwords_from_one_address_do_not_delay_logins_from_another() -> None:
    for _ in range(30):
        sign_in("olive", "wrong", address="10.6.6.6")
    assert sign_in("olive", PASSWORD, address="10.0.0.1").status_code == 302


def test_an_address_that_tries_many_names_waits_for_all_of_them() -> None:
    for number in range(20):
        sign_in(f"name-{number}", "wrong", address="10.6.6.6")
    assert sign_in("olive", PASSWORD, address="10.6.6.6").status_code == 429
    assert sign_in("olive", PASSWORD, address="10.6.6.7").status_code == 302


def test_login_limit_ignores_the_x_forwarded_for_of_an_untrusted_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(6):
        client = Client(REMOTE_ADDR="10.6.6.6")
        form = {"username": "olive", "password": "wrong"}
        client.post("/login/", form, headers={"X-Forwarded-For": f"10.0.0.{number}"})
    assert sign_in("olive", PASSWORD, address="10.6.6.6").status_code == 429


def test_a_successful_login_resets_the_failures_of_its_user() -> None:
    for _ in range(4):
        sign_in("olive", "wrong")
    assert sign_in("olive", PASSWORD).status_code == 302
    for _ in range(4):
        assert sign_in("olive", "wrong").status_code == 200
    assert sign_in("olive", PASSWORD).status_code == 302


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["olive", "nobody-of-that-name"])
def test_no_connection_is_held_while_a_password_is_hashed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bool] = []
    nice: list[int] = []
    mine = connections["default"]  # of this thread, which is the request's

    def look(*args: Any, **kwargs: Any) -> Any:
        held.append(mine.connection is not None)
        nice.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return hashed(*args, **kwargs)

    from django.contrib.auth.hashers import MD5PasswordHasher

    hashed = MD5PasswordHasher.encode
    monkeypatch.setattr(MD5PasswordHasher, "encode", look)
    assert sign_in(name, "wrong").status_code == 200
    assert held == [False]
    assert nice[0] == 10


def test_a_login_beyond_the_limit_of_concurrent_password_checks_gets_503(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logins, "HASH_WAIT_S", 0.01)
    taken = [logins._hashing_places.acquire(blocking=False) for _ in range(logins.HASHES_AT_ONCE)]
    try:
        assert all(taken)
        refused = sign_in("olive", PASSWORD)
    finally:
        for _ in taken:
            logins._hashing_places.release()
    assert refused.status_code == 503
    assert "Too many passwords are being checked" in refused.content.decode()
    assert sign_in("olive", PASSWORD).status_code == 302
    assert settings.AXES_HANDLER.endswith("Throttle")
