"""Every error of the REST API is a problem document, whichever layer raises it."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection, connections
from django.test import Client
from psycopg_pool import PoolTimeout

from chaos.harness.installation import budget_s
from ginkgo_site.deadline import ServerSilent
from scheduling.api import health
from scheduling.api.throttling import WriteThrottle
from scheduling.gateway.health import Health
from scheduling.models import ApiToken
from scheduling.operations.tokens import issue_api_token
from scheduling.presentation.problems import CODES
from tests.support.api_client import ApiClient, make_user, problem
from tests.support.pages import signed_in
from tests.support.patches import raising

READS = (
    "nodes/", "portfolios/", "handoffs/", "events/", "feed/", "schedule/plan/", "metrics",
    "schema/", "docs/",
)  # fmt: skip
#: Of each kind one: tests/properties/api asks for every operation.
WRITES = (
    "portfolios/", "portfolios/x/migrate/", "nodes/x/drain/", "schedule/freeze/", "halt/",
    "feeds/x/append/",
)  # fmt: skip


# --- who may --------------------------------------------------------------------------------------


def test_reading_requires_a_known_caller_with_a_role(
    nobody: ApiClient, stranger: ApiClient, viewer: ApiClient
) -> None:
    for path in READS:
        answer = nobody.get(path)
        problem(answer, 401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert "stan" in problem(stranger.get(path), 403, "forbidden")["detail"]
        assert viewer.get(path).status_code == 200, path


def test_acting_requires_a_known_caller_who_may_operate(
    nobody: ApiClient, viewer: ApiClient
) -> None:
    for path in WRITES:
        problem(nobody.post(path), 401, "unauthenticated")
        assert "operator" in problem(viewer.post(path), 403, "forbidden")["detail"]
    problem(viewer.patch("portfolios/x/"), 403, "forbidden")
    problem(viewer.delete("portfolios/x/"), 403, "forbidden")


def test_an_invalid_token_is_refused_despite_a_valid_session(db: Any) -> None:
    client = signed_in(superuser=True)
    for token in ("wrong", "", "wörong", "a b"):
        answer = client.get("/api/nodes/", headers={"Authorization": f"Bearer {token}"})
        problem(answer, 401, "unauthenticated")


def test_a_token_of_a_deactivated_user_is_refused(db: Any) -> None:
    user = make_user("root", superuser=True)
    caller = ApiClient(issue_api_token(user, actor="cast"))
    assert caller.get("nodes/").status_code == 200
    user.is_active = False
    user.save()
    assert "root" in problem(caller.get("nodes/"), 401, "unauthenticated")["detail"]


def test_only_the_hash_of_a_token_is_stored(db: Any) -> None:
    token = issue_api_token(make_user("root"), actor="cast")
    assert token not in str(ApiToken.objects.values_list())


def test_a_superuser_may_act_with_a_session(db: Any) -> None:
    client = signed_in(superuser=True)
    assert client.get("/api/nodes/").status_code == 200
    assert client.post("/api/schedule/freeze/", content_type="application/json").status_code == 200


def test_a_session_without_the_csrf_token_is_refused(db: Any) -> None:
    client = signed_in(superuser=True, enforce_csrf_checks=True)
    assert "CSRF" in problem(client.post("/api/schedule/freeze/"), 403, "forbidden")["detail"]


# --- addresses and methods ------------------------------------------------------------------------


def test_an_unknown_address_is_a_problem_without_authentication(nobody: ApiClient) -> None:
    for method in ("GET", "POST", "PATCH", "DELETE", "PUT"):
        answer = nobody.raw(method, "no/such/thing/", b"", "text/plain")
        assert "/api/no/such/thing/" in problem(answer, 404, "not_found")["detail"]


def test_a_missing_slash_is_named_instead_of_redirected(operator: ApiClient) -> None:
    assert "slash" in problem(operator.post("schedule/freeze"), 404, "not_found")["detail"]


NOT_ALLOWED = (
    ("POST", "events/", "GET"), ("GET", "portfolios/x/migrate/", "POST"),
    ("PUT", "portfolios/x/", "PATCH"), ("DELETE", "events/", "GET"),
    ("OPTIONS", "nodes/", "GET"),
)  # fmt: skip


def test_the_answer_to_a_method_not_allowed_lists_the_allowed_ones(operator: ApiClient) -> None:
    for method, path, allowed in NOT_ALLOWED:
        answer = operator.raw(method, path, b"", "application/json")
        problem(answer, 405, "method_not_allowed")
        assert allowed in answer.headers["Allow"]


def test_an_unknown_host_header_is_a_problem(db: Any) -> None:
    client = Client(raise_request_exception=False)
    problem(client.get("/api/nodes/", headers={"Host": "evil.example"}), 400, "invalid")


# --- bodies ---------------------------------------------------------------------------------------


MALFORMED = (
    (b"{", "cannot be read as JSON"),
    (b"", "required"),
    (b'"text"', "must be a JSON object"),
    (b"[1, 2]", "must be a JSON object"),
    (b"\xff\xfe", "UTF-8"),
    (b'{"weight": NaN}', "NaN"),
    (b'{"weight": 1e999}', "beyond 1.8e308"),
    (b'{"weight": 1, "weight": 2}', "twice"),
    (b'{"config": {"fast": 1, "fast": 2}}', "twice"),
    (b'{"weight": ' + b"9" * 5000 + b"}", "cannot be read as JSON"),
    (b'{"config": {"a": "\\u0000"}}', "NUL"),
    (b'{"config": {"\\u0000": 1}}', "NUL"),
    (b'{"note": "\\ud800"}', "surrogate"),
    (b'{"config": ' + b"[" * 40 + b"]" * 40 + b"}", "nested"),
    (b"[" * 200_000, "nested"),
)


def test_a_malformed_body_is_refused_with_a_sentence(operator: ApiClient) -> None:
    for body, words in MALFORMED:
        answer = operator.raw("POST", "portfolios/", body, "application/json")
        document = problem(answer, 400, "invalid")
        assert words in document["detail"]
        assert document["errors"]


def test_a_body_of_more_than_a_megabyte_is_too_large(operator: ApiClient) -> None:
    body = b'{"note": "' + b"x" * 1_048_576 + b'"}'
    problem(operator.raw("POST", "portfolios/", body, "application/json"), 413, "payload_too_large")


def test_an_unsupported_media_type_is_refused(operator: ApiClient) -> None:
    answer = operator.raw("POST", "portfolios/", b"name=x", "application/x-www-form-urlencoded")
    problem(answer, 415, "unsupported_media_type")


def test_an_invalid_parameter_is_named(viewer: ApiClient) -> None:
    for path, field in (
        ("events/?limit=0", "limit"), ("events/?limit=many", "limit"),
        ("events/?cursor=made-up", "cursor"), ("events/?cursor=cD1hYmM%3D", "cursor"),
        ("events/?since=yesterday", "since"), ("handoffs/?state=asleep", "state"),
        ("nodes/?schedulable=1", "schedulable"), ("nodes/?cursor=x", "cursor"),
        ("feed/?from=0", "from"), ("schedule/targets/", "portfolio"),
        ("schedule/plan/?loose=node-1", "loose"),
    ):  # fmt: skip
        document = problem(viewer.get(path), 400, "invalid")
        assert [error["field"] for error in document["errors"]] == [field], path


def test_a_malformed_path_is_not_found(viewer: ApiClient) -> None:
    for path in ("portfolios/a%00b/", "handoffs/99999999999999999999999/"):
        problem(viewer.get(path), 404, "not_found")


# --- limits and outages ---------------------------------------------------------------------------


def test_write_beyond_the_rate_limit_gets_429_and_the_time_to_wait(
    operator: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WriteThrottle, "rate", "2/min")
    assert operator.post("schedule/unfreeze/").status_code == 200
    assert operator.post("schedule/unfreeze/").status_code == 200
    answer = operator.post("schedule/unfreeze/")
    problem(answer, 429, "throttled")
    assert 0 < int(answer.headers["Retry-After"]) <= 60
    assert operator.get("nodes/").status_code == 200


@pytest.fixture
def database_away(operator: ApiClient, viewer: ApiClient) -> Iterator[None]:
    """Let Django's connection be one to a port where nobody listens."""
    here = connections["default"]
    settings = {**here.settings_dict, "HOST": "127.0.0.1", "PORT": "1"}
    connections["default"] = type(here)(settings, "default")
    yield
    connections["default"] = here


@pytest.mark.usefixtures("database_away")
def test_list_during_a_database_outage_is_answered_as_unavailable_and_not_as_empty(
    operator: ApiClient,
) -> None:
    for path in ("nodes/", "portfolios/", "events/", "schedule/plan/", "feed/"):
        answer = operator.get(path)
        problem(answer, 503, "unavailable")
        assert answer.headers["Retry-After"]


@pytest.fixture
def gateway_works(monkeypatch: pytest.MonkeyPatch) -> Health:
    """Let the gateway's probes have succeeded just now, in a process that knows no migrations."""
    works = Health()
    works.set_open(True)
    works.liveness.succeed()
    works.write.succeed()
    monkeypatch.setattr(health, "HEALTH", works)
    monkeypatch.setattr(health, "_is_migrated", False)
    return works


@pytest.mark.usefixtures("database_away", "gateway_works")
def test_a_process_without_its_database_is_healthy_and_not_ready(nobody: ApiClient) -> None:
    assert nobody.get("healthz").json() == {"status": "ok"}
    problem(nobody.get("readyz"), 503, "unavailable")


@pytest.mark.usefixtures("gateway_works")
def test_a_process_with_its_database_is_ready(nobody: ApiClient, db: Any) -> None:
    assert nobody.get("healthz").status_code == 200
    assert nobody.get("readyz").json() == {"status": "ready"}


def test_a_process_whose_gateway_is_not_open_is_not_ready(nobody: ApiClient, db: Any) -> None:
    said = problem(nobody.get("readyz"), 503, "unavailable")["detail"]
    assert said == "The gateway is not open in this process: run it with --lifespan on."


@pytest.mark.usefixtures("database_away")
def test_a_gateway_that_lost_its_database_is_not_ready_and_says_what_failed_at_once(
    nobody: ApiClient, gateway_works: Health
) -> None:
    """Django's own connection is not asked: it may have reconnected, or hang."""
    gateway_works.write.succeeded_at = time.monotonic() - 7.04
    gateway_works.write.fail(ServerSilent("The database at 10.0.0.1:5432 did not answer"))
    began = time.monotonic()
    said = problem(nobody.get("readyz"), 503, "unavailable")["detail"]
    assert time.monotonic() - began < budget_s(0.5)
    assert re.fullmatch(
        r"The gateway's durable write test has not succeeded for 7\.\d s, limit 5 s: "
        r"the database does not answer\.",
        said,
    )
    gateway_works.liveness.succeeded_at = None
    gateway_works.liveness.fail(PoolTimeout("couldn't get a connection after 5.00 sec"))
    said = problem(nobody.get("readyz"), 503, "unavailable")["detail"]
    assert said == (
        "The gateway's liveness write has not succeeded yet: no connection became available."
    )


@pytest.mark.usefixtures("gateway_works")
def test_process_whose_database_lacks_a_migration_is_not_ready(nobody: ApiClient, db: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'scheduling'")
    assert "migrate" in problem(nobody.get("readyz"), 503, "unavailable")["detail"]


def test_error_of_the_database_driver_is_answered_as_unavailable(
    operator: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The statements of the fleet run beside Django, so their errors are not Django's.
    for error in (psycopg.OperationalError("gone"), psycopg.errors.LockNotAvailable("waits")):
        monkeypatch.setattr("scheduling.operations.rebalance", raising(error))
        problem(operator.post("schedule/rebalance/"), 503, "unavailable")


def test_an_unexpected_error_is_a_problem_and_is_logged(
    operator: ApiClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bug = raising(ZeroDivisionError("a secret of the firm"))
    monkeypatch.setattr("scheduling.operations.rebalance", bug)
    with caplog.at_level(logging.ERROR):
        document = problem(operator.post("schedule/rebalance/"), 500, "internal_error")
    assert "secret" not in document["detail"]
    assert "a secret of the firm" in caplog.text


def test_every_code_has_a_title_and_a_status() -> None:
    assert all(400 <= status < 600 and title for status, title in CODES.values())
