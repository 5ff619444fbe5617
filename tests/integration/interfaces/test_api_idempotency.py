"""A request with an Idempotency-Key acts once, however often and from where it is repeated."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.contrib.auth import get_user_model
from django.db import InterfaceError, connection
from django.db.models import F
from rest_framework.response import Response

from ginkgo_site.database import conninfo
from scheduling import operations
from scheduling.api import portfolios
from scheduling.db.transaction import execute
from scheduling.enact import idempotency
from scheduling.models import (
    AlertChannel,
    AlertMessage,
    Event,
    Handoff,
    IdempotencyKey,
    Node,
    NodeToken,
)
from scheduling.operations import moves
from scheduling.operations.idempotency import acting_under
from scheduling.permissions import Role
from scheduling.retention import delete_rows
from tests.support.api_client import ApiClient, fields_of, make_api_client, problem
from tests.support.artifacts import make_wheel, store_artifact
from tests.support.concurrency import at_once
from tests.support.factories import FakeNode, make_node, make_running_portfolio
from tests.support.kept_rows import KeptRows
from tests.support.patches import raising
from tests.support.refusals import refused

pytestmark = pytest.mark.django_db

Send = Callable[..., Any]


def sender(caller: ApiClient) -> Send:
    """Return a function that sends a JSON body to a path under a key."""

    def send(path: str, body: Any, key: str = "k-1", method: str = "POST") -> Any:
        data = json.dumps(body).encode()
        return caller.raw(method, path, data, "application/json", {"Idempotency-Key": key})

    return send


def make_fleet() -> list[FakeNode]:
    nodes = [make_node("node-1"), make_node("node-2")]
    make_running_portfolio("p", nodes[0], events=3)
    return nodes


FLEET = KeptRows(make_fleet)


@pytest.fixture
def send(operator: ApiClient) -> Send:
    """Return the function of an operator; p runs on node-1, and there is node-2."""
    for node in FLEET.get():
        node.beat()
    return sender(operator)


def age(seconds: float) -> None:
    """Let every claim be so old."""
    IdempotencyKey.objects.update(claimed_at=F("claimed_at") - timedelta(seconds=seconds))


def test_a_repeat_gets_the_same_answer_and_does_not_act_again(send: Send) -> None:
    first = send("portfolios/p/reload/", {"reason": "a"})
    again = send("portfolios/p/reload/", {"reason": "a"})
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert Handoff.objects.filter(kind="reload").count() == 1
    problem(send("portfolios/p/reload/", {"reason": "a"}, "k-2"), 409, "handoff_in_progress")


def test_repeat_of_a_refused_request_is_refused_even_where_a_new_one_would_succeed(
    send: Send,
) -> None:
    first = problem(send("portfolios/x/stop/", {}), 404, "not_found")
    make_running_portfolio("x", make_node("node-3"), events=1)
    assert problem(send("portfolios/x/stop/", {}), 404, "not_found") == first
    assert send("portfolios/x/stop/", {}, "k-2").status_code == 202


def test_repeated_creations_and_deletions_get_the_first_answer(send: Send) -> None:
    body = {"name": "new", "strategy": "canary", "desired_state": "stopped"}
    first, again = send("portfolios/", body), send("portfolios/", body)
    assert first.status_code == again.status_code == 201
    assert again.headers["Location"] == first.headers["Location"]
    changed = [send("portfolios/new/", {"priority": 2}, "k-2", "PATCH") for _ in range(2)]
    assert [one.status_code for one in changed] == [202, 202]
    assert changed[0].headers["ETag"] == changed[1].headers["ETag"]
    gone = [send("portfolios/new/", {}, "k-3", "DELETE") for _ in range(2)]
    assert [one.status_code for one in gone] == [202, 202]


def test_a_key_belongs_to_one_method_address_and_body(send: Send) -> None:
    assert send("nodes/node-1/cordon/", {"reason": "a"}).status_code == 200
    for path, body, method in (
        ("nodes/node-1/cordon/", {"reason": "b"}, "POST"),
        ("nodes/node-2/cordon/", {"reason": "a"}, "POST"),
        ("nodes/node-1/cordon/?format=json", {"reason": "a"}, "POST"),
        ("nodes/node-1/", {"reason": "a"}, "DELETE"),
    ):
        assert "k-1" in problem(send(path, body, method=method), 422, "key_reused")["detail"]
    assert not Node.objects.get(name="node-2").cordoned
    # The same body: order and spaces do not count.
    assert send("nodes/node-2/labels/", {}, "k-2").status_code == 404
    one = send("nodes/node-2/drain/", {"reason": "a", "make_room": False}, "k-3")
    two = send("nodes/node-2/drain/", {"make_room": False, "reason": "a"}, "k-3")
    assert one.json() == two.json()


def test_one_idempotency_key_may_be_used_by_two_users(send: Send) -> None:
    other = sender(make_api_client(Role.OPERATOR, "otto"))
    assert send("nodes/node-1/cordon/", {}).status_code == 200
    assert other("nodes/node-2/cordon/", {}).status_code == 200
    assert Node.objects.filter(cordoned=True).count() == 2


def test_a_user_without_permission_claims_no_key_and_gets_no_stored_answer(
    send: Send, viewer: ApiClient, nobody: ApiClient
) -> None:
    problem(sender(viewer)("nodes/node-1/cordon/", {}), 403, "forbidden")
    problem(sender(nobody)("nodes/node-1/cordon/", {}), 401, "unauthenticated")
    assert not IdempotencyKey.objects.exists()


def test_a_malformed_key_is_refused(send: Send) -> None:
    for key in ("", "a b", "ü", "x" * 256):
        document = problem(send("nodes/node-1/cordon/", {}, key), 400, "invalid")
        assert fields_of(document) == {"Idempotency-Key": "invalid"}
        assert not Node.objects.get(name="node-1").cordoned


def test_request_with_a_body_that_cannot_be_read_claims_no_key(operator: ApiClient) -> None:
    key = {"Idempotency-Key": "k-1"}
    problem(operator.raw("POST", "portfolios/", b"{", "application/json", key), 400, "invalid")
    assert not IdempotencyKey.objects.exists()


def test_a_repeated_token_request_gets_no_token_and_no_answer_stores_one(send: Send) -> None:
    body = {"node": "node-1"}
    token = send("node-tokens/", body).json()["token"]
    document = problem(send("node-tokens/", body), 409, "answer_not_kept")
    assert "with status 201" in document["detail"]
    assert NodeToken.objects.filter(node__name="node-1").count() == 1
    assert token not in str(IdempotencyKey.objects.values_list())


def test_repeat_of_a_refused_token_request_gets_the_same_refusal(send: Send) -> None:
    first, again = (send("node-tokens/", {"node": "Node 1"}) for _ in range(2))
    assert problem(first, 400, "invalid") == problem(again, 400, "invalid")
    assert again.headers["Idempotent-Replayed"] == "true"


def test_a_test_message_is_sent_once_for_a_key(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    AlertChannel.objects.create(name="on-call", created_by="olive")

    with monkeypatch.context() as patch:
        patch.setattr("scheduling.operations.alerts.wake_delivery", raising(ZeroDivisionError))
        problem(send("alert-channels/on-call/test/", {}), 500, "internal_error")
    age(idempotency.CLAIM_S)
    problem(send("alert-channels/on-call/test/", {}), 409, "answer_not_kept")
    assert AlertMessage.objects.count() == 1
    assert Event.objects.get(kind="alert_channel_tested").actor == "olive"


def test_stored_key_does_not_contain_a_secret_of_its_request(send: Send) -> None:
    send("secrets/", {"name": "s", "value": "hunter2"})
    assert "hunter2" not in str(IdempotencyKey.objects.values_list())


def test_an_uploaded_form_is_a_repeat_if_its_files_are_equal(operator: ApiClient) -> None:
    stored = store_artifact()
    filename, wheel = make_wheel()

    def upload(key: str = "k-1", name: str = filename) -> Any:
        # A form has another boundary each time.
        boundary = f"b-{uuid4()}"
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="wheel"; filename="{name}"'
        data = f"{head}\r\n\r\n".encode() + wheel + f"\r\n--{boundary}--\r\n".encode()
        kind = f"multipart/form-data; boundary={boundary}"
        return operator.raw("POST", "artifacts/", data, kind, {"Idempotency-Key": key})

    first, again = upload(), upload()
    assert first.json()["sha256"] == stored.sha256
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == first.json()
    problem(upload(name="other-1.0-py3-none-any.whl"), 422, "key_reused")


# --- failures and races ---------------------------------------------------------------------------


def test_request_that_fails_before_acting_leaves_its_key_free(
    send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(moves, "locked_portfolio", raising(InterfaceError("gone")))
        problem(send("portfolios/p/stop/", {}), 503, "unavailable")
    assert not IdempotencyKey.objects.exists()
    assert send("portfolios/p/stop/", {}).status_code == 202


def test_repeat_of_a_request_that_failed_after_acting_does_not_act_again(
    send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(portfolios, "handoff_document", raising(ZeroDivisionError))
        problem(send("portfolios/p/reload/", {}), 500, "internal_error")
    problem(send("portfolios/p/reload/", {}), 409, "request_in_progress")
    age(idempotency.CLAIM_S)
    lost = problem(send("portfolios/p/reload/", {}), 409, "answer_not_kept")
    assert "s ago. Its answer was not kept" in lost["detail"]
    assert Handoff.objects.filter(kind="reload").count() == 1


def test_a_repeat_of_a_request_under_way_is_told_when_to_come_back(
    send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        # A process that ended while it acted, with nothing committed.
        patch.setattr("scheduling.api.idempotency._keep_or_forget", lambda *_: None)
        patch.setattr(portfolios.StopPortfolio, "post", lambda *_, **__: Response({}, status=202))
        send("portfolios/p/stop/", {})
    for later_s, wait_s in ((0, 1), (9.5, 10), (16, 5)):
        age(later_s)
        answer = send("portfolios/p/stop/", {})
        problem(answer, 409, "request_in_progress")
        assert abs(int(answer.headers["Retry-After"]) - wait_s) <= 2
    age(idempotency.CLAIM_S)
    assert send("portfolios/p/stop/", {}).status_code == 202


def test_a_request_whose_key_was_taken_over_cannot_act_any_more(send: Send) -> None:
    late = execute(idempotency.claim_key(user_of("olive"), "k-1", "f"))
    assert isinstance(late, idempotency.Claim)
    age(idempotency.CLAIM_S)
    taken = execute(idempotency.claim_key(user_of("olive"), "k-1", "f"))
    assert isinstance(taken, idempotency.Claim)
    with acting_under(late):
        refusal = refused(lambda: operations.cordon("node-1", actor="olive"))
    assert refusal.code == "request_in_progress"
    assert not Node.objects.get(name="node-1").cordoned
    assert not Event.objects.filter(kind="node_cordoned").exists()
    with acting_under(taken):
        operations.cordon("node-1", actor="olive")
    assert Node.objects.get(name="node-1").cordoned


def user_of(name: str) -> int:
    return int(get_user_model().objects.get(username=name).pk)


@pytest.mark.django_db(transaction=True)
def test_of_concurrent_repeats_one_acts_and_the_others_are_told_to_wait(
    operator: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_running_portfolio("p", make_node("node-1"), events=3)
    send = sender(operator)
    entered, go_on = threading.Event(), threading.Event()
    locked_portfolio = moves.locked_portfolio

    def slow(name: str) -> Any:
        entered.set()
        assert go_on.wait(60)
        return locked_portfolio(name)

    monkeypatch.setattr(moves, "locked_portfolio", slow)
    answers: list[Any] = []

    def first() -> None:
        answers.append(send("portfolios/p/reload/", {}))
        connection.close()

    thread = threading.Thread(target=first)
    thread.start()
    assert entered.wait(60)
    waiting = send("portfolios/p/reload/", {})
    problem(waiting, 409, "request_in_progress")
    assert int(waiting.headers["Retry-After"]) >= 1
    go_on.set()
    thread.join(60)
    assert answers[0].status_code == 202
    assert send("portfolios/p/reload/", {}).json() == answers[0].json()
    monkeypatch.setattr(moves, "locked_portfolio", locked_portfolio)
    both = at_once(*[lambda: send("nodes/node-1/cordon/", {}, "k-2").status_code] * 2)
    assert sorted(both) in ([200, 200], [200, 409])
    assert Event.objects.filter(kind="node_cordoned").count() == 1


@pytest.mark.django_db(transaction=True)
def test_repeat_while_the_first_request_locks_its_key_is_refused_as_in_progress(
    operator: ApiClient,
) -> None:
    make_node("node-1")
    send = sender(operator)
    send("nodes/node-1/cordon/", {})
    with psycopg.connect(conninfo()) as acting, connection.cursor() as cursor:
        acting.execute("SELECT FROM scheduling_idempotencykey FOR UPDATE")
        cursor.execute("SET lock_timeout = '50ms'")
        document = problem(send("nodes/node-1/cordon/", {}), 409, "request_in_progress")
        cursor.execute("RESET lock_timeout")
    assert document["retry_after_s"] == 5


# --- bounds ---------------------------------------------------------------------------------------


def test_keys_end_after_a_day_and_may_be_used_anew(send: Send) -> None:
    send("nodes/node-1/cordon/", {})
    send("nodes/node-1/cordon/", {}, "k-2")
    age(idempotency.KEEP_S)
    assert send("nodes/node-2/cordon/", {}).status_code == 200
    delete_rows(float("inf"))
    assert [row.key for row in IdempotencyKey.objects.all()] == ["k-1"]


def test_only_the_newest_keys_of_each_user_are_kept(
    send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "KEPT_PER_USER", 3)
    for number in range(5):
        send("nodes/node-1/cordon/", {}, f"k-{number}")
    assert {row.key for row in IdempotencyKey.objects.all()} == {"k-2", "k-3", "k-4"}


def test_an_answer_that_is_too_large_is_not_kept(
    send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduling.operations.idempotency.MAX_BODY", 10)
    send("nodes/node-1/cordon/", {})
    problem(send("nodes/node-1/cordon/", {}), 409, "answer_not_kept")


def test_an_idempotency_key_of_an_unauthenticated_request_is_not_read() -> None:
    wrong = {"Idempotency-Key": "two words"}
    for path, status, code in (("nothing/", 404, "not_found"), ("halt/", 401, "unauthenticated")):
        problem(ApiClient().raw("POST", path, b"", "application/json", wrong), status, code)
