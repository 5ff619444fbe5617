"""The pages of users: create, give a role, deactivate, and send a link for a password."""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from scheduling.models import Event
from scheduling.operations import registry, users
from scheduling.operations.registry.operation import Operation
from scheduling.permissions import Role, role_of
from tests.support.api_client import make_user
from tests.support.pages import signed_in, text_of

pytestmark = pytest.mark.django_db


def link_in(answer: Any) -> str:
    (link,) = re.findall(r'id="password-link">http://testserver([^<]+)<', text_of(answer))
    return str(link)


def test_new_user_sets_a_password_by_a_link_that_works_once(desk: Client) -> None:
    answer = desk.post("/people/add/", {"name": "vera", "role": "viewer"})
    assert role_of(User.objects.get(username="vera")) is Role.VIEWER
    link, other = link_in(answer), Client()
    form = other.get(link, follow=True).request["PATH_INFO"]
    password = "a long sentence of mine"
    given = {"new_password1": password, "new_password2": password}
    assert other.post(form, given)["Location"] == "/login/"
    assert Client().login(username="vera", password=password)
    assert "was used already" in text_of(Client().get(link, follow=True))
    assert "vera" in text_of(desk.get("/people/"))


def test_invalid_or_taken_user_name_is_refused(desk: Client) -> None:
    for name in ("mira", "bad name!", ""):
        answer = desk.post("/people/add/", {"name": name, "role": "viewer"})
        assert answer.status_code == 400
        assert 'data-field="name"' in text_of(answer)
        assert User.objects.count() == 1


def test_role_and_access_are_changed_with_a_reason(desk: Client) -> None:
    user = make_user("vera", Role.VIEWER)
    session = Client()
    session.force_login(user)
    desk.post(f"/people/{user.pk}/operator/", {"reason": "on call"})
    assert role_of(User.objects.get(pk=user.pk)) is Role.OPERATOR
    assert Event.objects.get(kind="user_role").reason == "on call"
    desk.post(f"/people/{user.pk}/deactivate/", {"reason": "left us"})
    assert session.get("/people/").status_code == 302
    assert Event.objects.get(kind="user_deactivated").reason == "left us"
    desk.post(f"/people/{user.pk}/activate/")
    answer = desk.post(f"/people/{user.pk}/password/", {"reason": "forgotten"})
    assert link_in(answer).startswith("/set-password/")
    assert not User.objects.get(pk=user.pk).has_usable_password()


def test_people_page_refuses_changes_of_admins_superusers_and_oneself(desk: Client) -> None:
    mine = User.objects.get(username="mira")
    assert desk.post(f"/people/{mine.pk}/viewer/").status_code == 409
    assert f"/people/{mine.pk}/" not in desk.get("/people/").content.decode()  # nor is it offered
    root = make_user("root", superuser=True)
    assert desk.post(f"/people/{root.pk}/password/").status_code == 404
    admin = make_user("ada")
    admin.groups.add(Group.objects.get_or_create(name="administrator")[0])
    assert desk.post(f"/people/{admin.pk}/password/").status_code == 409
    assert User.objects.get(pk=admin.pk).has_usable_password()


def test_password_that_is_refused_is_explained_in_the_language_of_the_page(desk: Client) -> None:
    link = link_in(desk.post("/people/add/", {"name": "neu", "role": "viewer"}))
    visitor = Client(headers={"Accept-Language": "zh-CN"})
    form = visitor.get(link)["Location"]
    for password in ("123", "neu", "password"):
        page = text_of(visitor.post(form, {"new_password1": password, "new_password2": password}))
        errors = re.findall(r'class="field-error"[^>]*>([^<]*)<', page)
        assert "密码长度太短。密码必须包含至少 12 个字符。" in " ".join(errors)
        assert not re.search("[A-Za-z]", " ".join(errors)), errors


def test_name_that_somebody_else_takes_meanwhile_is_refused_beside_its_field(
    desk: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create_twice(name: str) -> User:
        User.objects.create_user(name)
        return User.objects.create_user(name)

    monkeypatch.setattr(users, "find_or_create_user", create_twice)
    answer = desk.post("/people/add/", {"name": "neu", "role": "viewer"})
    assert answer.status_code == 400
    assert 'data-field="name">there is a user named neu already.' in text_of(answer)


def test_viewer_may_not_open_the_people_pages() -> None:
    client = signed_in(Role.VIEWER, "vera")
    for address in ("/people/", "/people/add/"):
        assert client.get(address).status_code == 403


def test_every_dangerous_operation_asks_for_a_reason() -> None:
    modules = pkgutil.iter_modules(registry.__path__, f"{registry.__name__}.")
    found = [
        each
        for module in modules
        for each in vars(importlib.import_module(module.name)).values()
        if isinstance(each, Operation)
    ]
    assert len(found) > 40
    assert [each.verb for each in found if each.danger and not each.asks_reason] == []
