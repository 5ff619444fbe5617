"""Requests that a gateway refuses: tokens, addresses, bodies and registrations."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import msgspec
import pytest

from portfolios.models import Order
from scheduling.gateway.request_bodies import MAX_COMMIT_BODY, MAX_LOG_BODY, MAX_SMALL_BODY
from scheduling.models import Lease
from scheduling.wire import messages
from scheduling.wire.messages import CheckpointRequest, Goodbye, encode
from tests.support.factories import FakeNode, ago, make_running_portfolio, make_trader, run_of
from tests.support.gateway_requests import (
    admitted_node,
    beat,
    commit_request,
    post,
    post_all,
    register_message,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_missing_or_unknown_token_is_refused(node: FakeNode) -> None:
    missing = "A node token is required: Authorization: Bearer TOKEN."
    unknown = "Unknown node token; create one with create_node_token."
    for token, told in ((None, missing), ("", missing), ("wrong", unknown)):
        status, problem = post("heartbeat/", beat(node), token=token)
        assert (status, problem["code"], problem["message"]) == (401, "unauthenticated", told)


@pytest.mark.parametrize(
    ("given", "what"), [({"revoked_at": ago(1)}, "revoked"), ({"expires_at": ago(1)}, "expired")]
)
def test_revoked_or_expired_token_is_refused(given: dict[str, Any], what: str) -> None:
    daemon = admitted_node("node-1", **given)
    before = Lease.objects.get().renewals
    status, problem = post("heartbeat/", beat(daemon))
    assert status == 401
    assert problem["message"] == f"This token of node node-1 is {what}; create a new one."
    assert Lease.objects.get().renewals == before


def test_token_is_valid_for_its_own_node_only(node: FakeNode) -> None:
    admitted_node("node-2")
    hand = make_trader("p", node)
    _, answer = post("commit/", commit_request(node, hand.next_commit(1)), token="token of node-2")
    assert answer["results"][0]["answer"] == "fenced"
    _, said = post("heartbeat/", beat(node), token="token of node-2")
    assert said["status"] == "superseded"
    words = CheckpointRequest(incarnation=str(node.incarnation), portfolio=hand.portfolio.pk)
    assert post("checkpoint/", words, token="token of node-2")[0] == 409


def test_malformed_body_is_answered_with_a_sentence(node: FakeNode) -> None:
    bodies = (b"", b"\xc1", b"\xc0", b"\x80", b"[1,2", b"\x91\xa1\xff")
    deep = (b"\x91" * 100_000, b"\x81\xa1a" * 100_000)
    announced = (b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff")
    not_utf_8 = (
        b"\x82\xabincarnation\xa2\xff\xff\xa7commits\x90",
        b"\x83\xabincarnation\xa1x\xa6reason\xa2\xff\xff\xa7commits\x91\x81\xa5batch\xa2\xff\xff",
    )
    no_uuid = encode(Goodbye(incarnation="x"))
    for path in ("register/", "heartbeat/", "checkpoint/", "commit/", "goodbye/"):
        for status, problem in post_all(path, *bodies, *deep, *announced, *not_utf_8, no_uuid):
            assert (status, problem["code"]) == (400, "invalid"), path
            assert problem["message"].endswith(".")


def test_body_over_the_limit_is_rejected_before_it_is_complete(node: FakeNode) -> None:
    limits = {"heartbeat/": MAX_SMALL_BODY, "commit/": MAX_COMMIT_BODY, "log/": MAX_LOG_BODY}
    for path, limit in limits.items():
        status, problem = post(path, [b"x" * limit, b"x", b"never read"])
        assert (status, problem["code"]) == (413, "payload_too_large"), path


def test_unknown_address_or_method_is_rejected(node: FakeNode) -> None:
    assert post("nowhere/", b"", method="POST")[0] == 404
    assert post("commit/", b"", method="GET")[0] == 405


def test_daemon_with_another_protocol_is_rejected_with_a_sentence(node: FakeNode) -> None:
    status, problem = post("register/", msgspec.msgpack.encode({"protocol": 0}))
    assert (status, problem["code"]) == (409, "protocol")
    assert problem["message"] == (
        "This daemon speaks protocol 0, the gateway 1; install the same version of Ginkgo on both."
    )


def test_messages_of_the_first_daemons_are_understood_under_the_next_protocol(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they were encoded: maps and arrays without any field that was added since."""
    monkeypatch.setattr(messages, "PROTOCOL", 2)
    monkeypatch.setattr(messages, "SPOKEN", (1, 2))
    portfolio = make_running_portfolio("p", node)
    who = {"incarnation": str(uuid4())}
    registration = {
        **who, "protocol": 1, "host": "rack-1", "pid": 77, "version": "0.1.0", "capacity": 5,
        "labels": {}, "strategies": {"canary": 1}, "feeds": {},
    }  # fmt: skip
    status = {"portfolio": portfolio.pk, "epoch": 2, "revision": 1, "phase": "running"}
    heartbeat = {**who, "have_version": 0, "portfolios": [{**status, "seq": 0, "lag": 0}]}

    def commit_of(epoch: int, last_seq: int) -> dict[str, Any]:
        order = [last_seq + 1, 0, "KO", "buy", "1", "50", "filled", "", 1]
        fill = [last_seq + 1, 0, last_seq + 2, 0, "KO", "buy", "1", "50", 1]
        return {
            "portfolio": portfolio.pk, "epoch": epoch, "from_seq": last_seq,
            "to_seq": last_seq + 2, "batch": str(uuid4()), "state": None, "orders": [order],
            "fills": [fill], "equity": [[last_seq + 2, 1, "100000"]],
        }  # fmt: skip

    encoded = msgspec.msgpack.encode
    code, answer = post("register/", encoded(registration))
    assert code == 200, answer
    assert {"node", "name", "lease_ttl_s", "now_us", "desired"} <= set(answer)
    (entry,) = answer["desired"]["entries"]
    assert {"portfolio", "name", "role", "epoch", "revision"} <= set(entry)
    code, answer = post("heartbeat/", encoded(heartbeat))
    assert (code, answer["status"]) == (200, "ok")
    run = run_of(portfolio)
    body = encoded({**who, "commits": [commit_of(run.epoch, run.last_seq)]})
    code, answer = post("commit/", body)
    assert (code, answer["results"][0]["answer"]) == (200, "ok"), answer
    assert Order.objects.get().symbol == "KO"
    code, answer = post("goodbye/", encoded(who))
    assert (code, answer["status"]) == (200, "ok")


MISFITS: tuple[dict[str, Any], ...] = (
    {"capacity": 0}, {"capacity": 2**40}, {"pid": 2**40}, {"pid": -1}, {"host": "h" * 300},
    {"host": "a\0b"}, {"version": "v" * 100}, {"labels": {"a": "\0"}}, {"incarnation": "mine"},
    {"labels": {"k": "v" * 300}}, {"labels": {"zone": "a\x1b[2J"}}, {"host": "rack\u202e"},
    {"python": "3.11\n"}, {"strategies": {"a\x1b[2J": 1}}, {"feeds": {"f\n": "0"}},
    {"feeds": {"f": "\u202e"}}, {"labels": {f"k{n}": "v" for n in range(2_000)}},
)  # fmt: skip


def test_registration_with_an_invalid_value_changes_nothing(node: FakeNode) -> None:
    hand = make_trader("p", node)
    bodies = [encode(register_message(**given)) for given in MISFITS]
    *answers, too_large = post_all("register/", *bodies)
    assert {(status, problem["code"]) for status, problem in answers} == {(400, "invalid")}
    assert (too_large[0], too_large[1]["code"]) == (413, "payload_too_large")
    assert Lease.objects.get().incarnation == node.incarnation
    assert hand.commit(1) == "ok"
