"""The audit log names interface, address and user; tokens expire, have names and scopes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.db import DatabaseError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from ginkgo_site.web import logins
from scheduling import operations, user_audit
from scheduling.models import ApiToken, Event, NodeToken
from scheduling.node_daemon.config import make_config
from scheduling.node_daemon.errors import InvalidArguments
from scheduling.operations.tokens import NewToken, issue_node_token
from scheduling.operations.users import add_user, make_operator
from scheduling.permissions import Role
from scheduling.user_audit import MAX_LINES, LineLimiter
from tests.support.api_client import ApiClient, make_api_client, make_user, problem
from tests.support.commands import said, told
from tests.support.factories import make_node, make_portfolio
from tests.support.pages import signed_in
from tests.support.patches import raising

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(user_audit, "line_limiter", LineLimiter())
    # A wait of two seconds would end before a slow test asks again.
    monkeypatch.setattr(logins, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    logins.failures_by_name_and_address.clear()
    logins.failures_by_address.clear()
    yield
    logins.failures_by_name_and_address.clear()
    logins.failures_by_address.clear()


def newest(kind: str) -> Event:
    found = Event.objects.filter(kind=kind).first()
    assert found is not None, [event.kind for event in Event.objects.all()]
    return found


def seen(event: Event) -> tuple[str, str, str]:
    return event.actor, event.interface, event.address


# --- through what, and from where -----------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_audit_line_names_the_interface_and_the_address_of_the_request(operator: ApiClient) -> None:
    make_node("node-1")
    make_portfolio("p", desired_state="stopped")
    operator.post("nodes/node-1/cordon/")
    assert seen(newest("node_cordoned")) == ("olive", "api", "127.0.0.1")

    browser = signed_in(Role.OPERATOR, "dora", REMOTE_ADDR="10.0.0.7")
    browser.post("/nodes/node-1/uncordon/")
    assert seen(newest("node_uncordoned")) == ("dora", "dashboard", "10.0.0.7")

    node = operations.cordon("node-1", actor="x")
    chosen = {"action": "uncordon", "_selected_action": [node.pk], "confirmed": "yes"}
    browser.post(reverse("admin:scheduling_node_changelist"), chosen)
    assert seen(newest("node_uncordoned")) == ("dora", "admin", "10.0.0.7")

    said("drain_node", "node-1")
    assert newest("node_draining").interface == "command"
    assert newest("node_draining").actor.startswith("cli")

    operations.undrain("node-1", actor="balancer")
    assert seen(newest("node_undrained")) == ("balancer", "system", "")


def test_each_audit_line_of_a_halt_names_address_and_interface(operator: ApiClient) -> None:
    make_portfolio("p")
    assert operator.post("halt/", {"reason": "drill"}).status_code == 200
    lines = Event.objects.filter(actor="olive", interface="api", address="127.0.0.1")
    assert lines.filter(kind__contains="halt").exists(), list(Event.objects.values("kind", "actor"))


def test_interfaces_show_address_and_interface_of_an_audit_line(operator: ApiClient) -> None:
    make_node("node-1")
    operator.post("nodes/node-1/cordon/")
    (line,) = operator.get("events/", kind="node_cordoned", interface="api").json()["results"]
    assert (line["interface"], line["address"]) == ("api", "127.0.0.1")
    browser = signed_in(Role.OPERATOR, "dora")
    page = browser.get("/audit/?kind=node_cordoned").content.decode()
    assert "api 127.0.0.1" in " ".join(page.split())
    assert "127.0.0.1" in browser.get(reverse("admin:scheduling_event_changelist")).content.decode()


# --- logins ---------------------------------------------------------------------------------------


def sign_in(name: str, password: str, address: str = "10.0.0.1") -> Any:
    return Client(REMOTE_ADDR=address).post("/login/", {"username": name, "password": password})


def test_audit_log_of_logins_contains_no_typed_password_or_unknown_user_name() -> None:
    make_user("olive", Role.OPERATOR)
    sign_in("olive", "wrong-secret")
    assert seen(newest("login_refused")) == ("olive", "dashboard", "10.0.0.1")
    sign_in("hunter2-in-the-wrong-field", "olive")
    assert newest("login_refused").actor == ""
    sign_in("olive", PASSWORD)
    assert seen(newest("logged_in")) == ("olive", "dashboard", "10.0.0.1")
    everything = json.dumps(list(Event.objects.values("actor", "reason", "data")))
    for secret in ("wrong-secret", "hunter2", PASSWORD):
        assert secret not in everything


def test_a_flood_of_refused_logins_writes_a_bounded_number_of_audit_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(user_audit, "clock", lambda: 0.0)  # all of it within one minute
    make_user("olive", Role.OPERATOR)
    for _ in range(8):
        sign_in("olive", "wrong")
    assert Event.objects.filter(kind="login_refused").count() == 2  # wrong, and waits
    for number in range(60):
        sign_in(f"name-{number}", "wrong", address=f"10.1.0.{number}")
    assert Event.objects.filter(kind="login_refused").count() == MAX_LINES


@pytest.mark.parametrize("error", [psycopg.errors.DiskFull("no space"), DatabaseError("away")])
def test_a_login_succeeds_although_its_audit_line_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    make_user("olive", Role.OPERATOR)
    monkeypatch.setattr(user_audit, "execute", raising(error))
    assert sign_in("olive", PASSWORD).status_code == 302


def test_audit_line_of_a_refusal_counts_the_refusals_that_got_no_line() -> None:
    repeats = LineLimiter()
    assert [repeats.count(("a",), now)[0] for now in (0, 1, 2, 61, 62)] == [1, 0, 0, 3, 0]
    many = [repeats.count((str(number),), 130)[0] for number in range(MAX_LINES + 5)]
    assert sum(many) == MAX_LINES
    assert repeats.count(("z",), 200) == (1, 5)
    assert [repeats.count(("a",), now)[0] for now in (240, 241)] == [2, 0]
    for number in range(MAX_LINES):
        repeats.count((str(number),), 305)
    assert repeats.count(("a",), 306) == (0, 0)  # its own minute is over; that of all is full
    assert repeats.count(("z",), 400) == (1, 2)


# --- users, groups and tokens ---------------------------------------------------------------------


def test_changes_of_users_and_groups_are_recorded_by_field_name() -> None:
    root = make_user("root", superuser=True)
    other = make_user("olive")
    browser = Client(REMOTE_ADDR="10.0.0.7")
    browser.force_login(root)
    operators, _ = Group.objects.get_or_create(name="operator")
    form = {"username": "olive", "is_active": "on", "is_superuser": "on"}
    times = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
    change = reverse("admin:auth_user_change", args=[other.pk])
    assert browser.post(change, {**form, **times, "groups": [operators.pk]}).status_code == 302
    fields, members = Event.objects.filter(kind="user_changed")[:2][::-1]
    assert {"is_superuser", "is_staff"} <= set(fields.data["fields"])
    assert seen(fields) == ("root", "admin", "10.0.0.7")
    assert (members.data["added"], members.data["of"]) == (["operator"], "olive")
    password = reverse("admin:auth_user_password_change", args=[other.pk])
    new = "another long secret 77"
    browser.post(password, {"usable_password": "true", "password1": new, "password2": new})
    assert newest("user_changed").data["fields"] == ["password"]
    assert new not in json.dumps(list(Event.objects.values("data", "reason")))


def test_a_new_user_is_recorded_in_the_group_of_the_role_and_as_removed_from_none() -> None:
    add_user("vera", Role.VIEWER, actor="cast")
    make_operator("vera", actor="cast")
    changes = (
        Event.objects.filter(kind="user_changed").order_by("id").values_list("data", flat=True)
    )
    assert [(data.get("added"), data.get("removed")) for data in changes] == [
        (["viewer"], None),
        (None, ["viewer"]),
        (["operator"], None),
    ]


def test_a_user_made_by_a_command_is_recorded() -> None:
    said("create_api_token", "bot", "--create", "--role", "viewer")
    assert newest("user_created").data["user"] == "bot"
    assert newest("user_created").interface == "command"
    assert newest("api_token_created").data["user"] == "bot"


# --- tokens ---------------------------------------------------------------------------------------


def test_a_token_that_may_only_read_does_not_act() -> None:
    make_node("node-1")
    make_api_client(Role.OPERATOR, "olive")
    given = ("olive", "--scope", "read", "--name", "grafana")
    reader = ApiClient(told("create_api_token", *given)["token"])
    assert reader.get("nodes/").status_code == 200
    document = problem(reader.post("nodes/node-1/drain/"), 403, "forbidden")
    assert "may only read" in document["detail"]


def test_a_token_is_refused_after_its_expiry_and_that_is_recorded() -> None:
    token = told("create_api_token", "bot", "--create", "--role", "viewer", "--days", "1")["token"]
    assert ApiClient(token).get("nodes/").status_code == 200
    ApiToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert "expired" in problem(ApiClient(token).get("nodes/"), 401, "unauthenticated")["detail"]
    line = newest("token_refused")
    assert (line.actor, line.interface) == ("bot", "api")


def test_the_last_use_of_a_token_is_written_at_most_once_a_minute(operator: ApiClient) -> None:
    operator.get("nodes/")
    first = ApiToken.objects.get().last_used_at
    assert first is not None
    operator.get("nodes/")
    assert ApiToken.objects.get().last_used_at == first
    ApiToken.objects.update(last_used_at=first - timedelta(seconds=61))
    operator.get("nodes/")
    assert ApiToken.objects.filter(last_used_at__gt=first - timedelta(seconds=1)).exists()


def test_tokens_are_shown_by_command_api_and_admin_to_operators_only(
    operator: ApiClient, viewer: ApiClient
) -> None:
    issue_node_token("node-1", actor="cast", wanted=NewToken("rack 4", 30))
    rows = told("list_tokens")["results"]
    assert {row["scope"] for row in rows} == {"operate", "node"}
    (row,) = [row for row in rows if row["scope"] == "node"]
    assert (row["node"], row["name"], row["state"]) == ("node-1", "rack 4", "valid")
    assert "rack 4" in said("list_tokens")
    (shown,) = operator.get("node-tokens/").json()["results"]
    assert shown["name"] == "rack 4"
    assert len(operator.get("tokens/", user="olive").json()["results"]) == 1
    problem(viewer.get("tokens/"), 403, "forbidden")
    browser = signed_in(Role.OPERATOR, "dora")
    listed = browser.get(reverse("admin:scheduling_nodetoken_changelist")).content.decode()
    assert "rack 4" in listed


INVALID = (
    (["--days", "0"], "1 to 3,650"),
    (["--name", "a\nb"], "U\\+000A"),
    (["--name", "x" * 81], "give 80 at most"),
)


def test_invalid_lifetime_or_name_of_a_token_is_refused() -> None:
    for arguments, sentence in INVALID:
        with pytest.raises(CommandError, match=sentence):
            call_command("create_node_token", "node-1", *arguments)
        assert not NodeToken.objects.exists()


# --- a node's token in a file ---------------------------------------------------------------------


def config(**given: Any) -> Any:
    return make_config(**{"name": "n", "server": "http://127.0.0.1:1", "environment": {}, **given})


def test_a_node_takes_its_token_from_a_file_or_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("abc\n")
    assert config(token_file=str(path)).token == "abc"
    assert config(environment={"GINKGO_NODE_TOKEN": "def"}).token == "def"
    assert config(token="ghi").token == "ghi"
    with pytest.raises(InvalidArguments, match="--token-file PATH or set GINKGO_NODE_TOKEN"):
        config()
    with pytest.raises(InvalidArguments, match="cannot be read: No such file"):
        config(token_file=str(tmp_path / "none"))
    path.write_text("two words\n")
    with pytest.raises(InvalidArguments, match="one token and nothing else"):
        config(token_file=str(path))


def test_no_page_of_the_documentation_passes_a_token_on_a_command_line() -> None:
    root = Path(__file__).parents[3]
    pages = [root / "README.md", root / "bin" / "node", *(root / "docs").rglob("*.md")]
    pages += list((root / "templates").rglob("*.html"))
    assert [str(page) for page in pages if "--token " in page.read_text(encoding="utf-8")] == []
