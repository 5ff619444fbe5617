"""The node protocol from the view of a daemon: raw ASGI, a real pool, real rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import msgspec
import psycopg
import pytest
from psycopg_pool import PoolTimeout

from ginkgo_site.database import conninfo
from portfolios.models import Checkpoint, Order
from scheduling import operations
from scheduling.db.transaction import Transaction, aexecute_autocommit
from scheduling.gateway import auth, background
from scheduling.gateway.app import gateway
from scheduling.gateway.background import liveness_loop
from scheduling.gateway.health import HEALTH
from scheduling.gateway.heartbeat import BATCHER
from scheduling.gateway.heartbeat_batcher import HeartbeatBatcher, HeartbeatExpired
from scheduling.gateway.pool import (
    LOCKING_POOL_SIZE,
    WORK_POOL_SIZE,
    GatewayConnection,
    close_pools,
    open_pools,
    work_pool,
)
from scheduling.gateway.request_bodies import MAX_COMMIT_BODY, MAX_SMALL_BODY
from scheduling.gateway.request_metrics import REGISTRY
from scheduling.models import Event, Gateway, Lease, Node, NodeReport, NodeToken
from scheduling.models.tokens import hash_token
from scheduling.wire import messages
from scheduling.wire.messages import (
    PROTOCOL,
    CheckpointRequest,
    Commit,
    CommitRequest,
    EquityLine,
    FillLine,
    Goodbye,
    Heartbeat,
    OrderLine,
    Prepared,
    ProcessStatus,
    Register,
    encode,
)
from tests.support.factories import (
    FakeNode,
    OwnerSession,
    ago,
    make_node,
    make_running_portfolio,
    make_trader,
    newest_handoff,
    run_of,
    serving_since,
)

pytestmark = pytest.mark.django_db(transaction=True)

Answer = tuple[int, Any]


@pytest.fixture(autouse=True)
def forget_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    auth._cache.clear()
    monkeypatch.setattr("scheduling.gateway.app.REJECTION_DELAY_S", 0.0)


def a_token(daemon: FakeNode, **given: Any) -> str:
    NodeToken.objects.create(node=daemon.row, sha256=hash_token(f"token of {daemon.name}"), **given)
    return f"token of {daemon.name}"


async def ask(
    path: str,
    body: bytes | list[bytes],
    token: str | None = "token of node-1",
    method: str = "POST",
) -> Answer:
    """Send one request and return (status, decoded body)."""
    parts = body if isinstance(body, list) else [body]
    events = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, 1)
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return events.pop(0) if events else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
    scope = {
        "type": "http",
        "method": method,
        "path": f"/api/agent/{path}",
        "headers": headers,
    }
    await gateway(scope, receive, send)
    return sent[0]["status"], msgspec.msgpack.decode(sent[1]["body"])


def serve(scenario: Callable[[], Awaitable[Any]]) -> Any:
    """Run a scenario beside an open gateway."""

    async def whole() -> Any:
        await open_pools()
        try:
            return await scenario()
        finally:
            await close_pools()

    return asyncio.run(whole())


def post(path: str, message: Any, **how: Any) -> Answer:
    body = encode(message) if isinstance(message, msgspec.Struct) else message
    answer: Answer = serve(lambda: ask(path, body, **how))
    return answer


def post_all(path: str, *bodies: bytes) -> list[Answer]:
    """Send several requests, one after the other, beside one gateway."""

    async def each() -> list[Answer]:
        return [await ask(path, body) for body in bodies]

    answers: list[Answer] = serve(each)
    return answers


def commit(daemon: FakeNode, *commits: Commit) -> list[tuple[str, str]]:
    """Commit as `daemon`; return (answer, detail) of each."""
    message = CommitRequest(incarnation=str(daemon.incarnation), commits=list(commits))
    status, answer = post("commit/", message, token=f"token of {daemon.name}")
    assert status == 200, answer
    return [(r["answer"], r.get("detail", "")) for r in answer["results"]]


def beat(daemon: FakeNode, **said: Any) -> Heartbeat:
    return Heartbeat(incarnation=str(daemon.incarnation), have_version=0, **said)


def register_message(**given: Any) -> Register:
    values: dict[str, Any] = {
        "protocol": PROTOCOL,
        "incarnation": str(uuid4()),
        "host": "rack-1",
        "pid": 77,
        "version": "0.1.0",
        "capacity": 5,
        "labels": {},
        "strategies": {},
        "feeds": {},
        **given,
    }
    return Register(**values)


@pytest.fixture
def node() -> FakeNode:
    daemon = make_node("node-1")
    a_token(daemon)
    return daemon


# --- tokens ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (None, "A node token is required: Authorization: Bearer TOKEN."),
        ("", "A node token is required: Authorization: Bearer TOKEN."),
        ("wrong", "Unknown node token; create one with create_node_token."),
    ],
)
def test_a_missing_or_unknown_token_is_refused(
    node: FakeNode, token: str | None, said: str
) -> None:
    status, problem = post("heartbeat/", beat(node), token=token)
    assert (status, problem["code"], problem["message"]) == (401, "unauthenticated", said)


@pytest.mark.parametrize(
    ("given", "what"), [({"revoked_at": ago(1)}, "revoked"), ({"expires_at": ago(1)}, "expired")]
)
def test_revoked_or_expired_token_is_refused(given: dict[str, Any], what: str) -> None:
    daemon = make_node("node-1")
    a_token(daemon, **given)
    before = Lease.objects.get().renewals
    status, problem = post("heartbeat/", beat(daemon))
    assert status == 401
    assert problem["message"] == f"This token of node node-1 is {what}; create a new one."
    assert Lease.objects.get().renewals == before


def test_token_is_valid_for_its_own_node_only(node: FakeNode) -> None:
    other = make_node("node-2")
    a_token(other)
    hand = make_trader("p", node)
    message = CommitRequest(incarnation=str(node.incarnation), commits=[hand.words(1)])
    _, answer = post("commit/", message, token="token of node-2")
    assert answer["results"][0]["answer"] == "fenced"
    _, said = post("heartbeat/", beat(node), token="token of node-2")
    assert said["status"] == "superseded"
    status, _ = post(
        "checkpoint/",
        CheckpointRequest(incarnation=str(node.incarnation), portfolio=hand.portfolio.pk),
        token="token of node-2",
    )
    assert status == 409


# --- malformed messages --------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["register/", "heartbeat/", "checkpoint/", "commit/", "goodbye/"])
def test_malformed_body_is_answered_with_a_sentence(node: FakeNode, path: str) -> None:
    bodies = (b"", b"\xc1", b"\x80", b"[1,2", b"\x91\xa1\xff", encode(Goodbye(incarnation="x")))
    answers = post_all(path, *bodies)
    assert [(status, problem["code"]) for status, problem in answers] == [(400, "invalid")] * 6
    assert all(problem["message"].endswith(".") for _, problem in answers)


@pytest.mark.parametrize(
    ("path", "limit"), [("heartbeat/", MAX_SMALL_BODY), ("commit/", MAX_COMMIT_BODY)]
)
def test_body_over_the_limit_is_rejected_before_it_is_complete(
    node: FakeNode, path: str, limit: int
) -> None:
    status, problem = post(path, [b"x" * limit, b"x", b"never read"])
    assert (status, problem["code"]) == (413, "payload_too_large")


@pytest.mark.parametrize(
    ("path", "method", "status"), [("nowhere/", "POST", 404), ("commit/", "GET", 405)]
)
def test_unknown_address_or_method_is_rejected(
    node: FakeNode, path: str, method: str, status: int
) -> None:
    assert post(path, b"", method=method)[0] == status


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
        **who,
        "protocol": 1,
        "host": "rack-1",
        "pid": 77,
        "version": "0.1.0",
        "capacity": 5,
        "labels": {},
        "strategies": {"canary": 1},
        "feeds": {},
    }
    status = {"portfolio": portfolio.pk, "epoch": 2, "revision": 1, "phase": "running"}
    heartbeat = {**who, "have_version": 0, "portfolios": [{**status, "seq": 0, "lag": 0}]}

    def commit_of(epoch: int, last_seq: int) -> dict[str, Any]:
        order = [last_seq + 1, 0, "KO", "buy", "1", "50", "filled", "", 1]
        fill = [last_seq + 1, 0, last_seq + 2, 0, "KO", "buy", "1", "50", 1]
        return {
            "portfolio": portfolio.pk,
            "epoch": epoch,
            "from_seq": last_seq,
            "to_seq": last_seq + 2,
            "batch": str(uuid4()),
            "state": None,
            "orders": [order],
            "fills": [fill],
            "equity": [[last_seq + 2, 1, "100000"]],
        }

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
    {"capacity": 0},
    {"capacity": 2**40},
    {"pid": 2**40},
    {"pid": -1},
    {"host": "h" * 300},
    {"host": "a\0b"},
    {"version": "v" * 100},
    {"labels": {"a": "\0"}},
    {"incarnation": "mine"},
)


def test_registration_with_an_invalid_value_changes_nothing(node: FakeNode) -> None:
    hand = make_trader("p", node)
    answers = post_all("register/", *(encode(register_message(**given)) for given in MISFITS))
    assert [(status, problem["code"]) for status, problem in answers] == [(400, "invalid")] * 9
    assert Lease.objects.get().incarnation == node.incarnation
    assert hand.commit(1) == "ok"


# --- register, beat, goodbye ---------------------------------------------------------------------


def test_registration_is_answered_with_the_desired_set(node: FakeNode) -> None:
    make_trader("p", node)
    status, answer = post("register/", register_message())
    assert status == 200
    assert [(e["name"], e["role"]) for e in answer["desired"]["entries"]] == [("p", "run")]
    assert (answer["name"], answer["lease_ttl_s"]) == ("node-1", 30.0)


def test_name_in_use_is_a_conflict_with_host_and_pid(node: FakeNode) -> None:
    make_node("node-1")
    make_node("node-1")
    status, problem = post("register/", register_message())
    assert (status, problem["code"]) == (409, "name_in_use")
    assert "rack-1, pid 4100" in problem["message"]


def test_heartbeat_answer_has_the_desired_set_only_if_newer(node: FakeNode) -> None:
    _, answer = post("heartbeat/", beat(node))
    version = answer["desired"]["version"]
    _, again = post(
        "heartbeat/", Heartbeat(incarnation=str(node.incarnation), have_version=version)
    )
    assert again.get("desired") is None
    assert (again["status"], again["next_beat_s"]) == ("ok", 5.0)  # it has nothing: twice as often


def test_node_with_portfolios_learns_of_a_new_set_by_commits(
    node: FakeNode,
) -> None:
    trader = make_trader("p", node)
    _, answer = post("heartbeat/", beat(node))
    assert answer["next_beat_s"] == 10.0
    request = CommitRequest(incarnation=str(node.incarnation), commits=[trader.words(1)])
    _, committed = post("commit/", request)
    assert committed["results"][0]["version"] == answer["desired"]["version"]


def test_pending_handoff_shortens_the_heartbeat_interval_to_a_second(node: FakeNode) -> None:
    make_trader("p", node)
    make_node("node-2")
    operations.migrate("p", "node-2", actor="ann")
    assert post("heartbeat/", beat(node))[1]["next_beat_s"] == 1.0


def test_superseded_daemon_learns_the_host_of_its_successor(node: FakeNode) -> None:
    make_node("node-1")
    _, answer = post("heartbeat/", beat(node))
    assert answer["status"] == "superseded"
    assert answer["message"] == "Node node-1 was taken over by a daemon on rack-1, pid 4100."


def test_daemon_that_registered_after_the_holder_is_unknown_not_superseded(
    node: FakeNode,
) -> None:
    """The holder is from before a restore, or from before commits that a promotion lost."""
    status, registered = post("register/", register_message())
    assert status == 200
    Lease.objects.update(incarnation=node.incarnation, taken_at=ago(3600))
    forgotten = Heartbeat(
        incarnation=str(uuid4()), have_version=0, registered_us=registered["now_us"]
    )
    _, answer = post("heartbeat/", forgotten)
    assert answer["status"] == "unknown"
    assert answer["message"] == (
        "The database knows only an earlier daemon of node node-1; register again."
    )
    make_node("node-1")
    assert post("heartbeat/", forgotten)[1]["status"] == "superseded"


def test_clock_set_back_between_registrations_does_not_revive_the_older_daemon(
    node: FakeNode,
) -> None:
    _, older = post("register/", register_message(incarnation=str(node.incarnation)))
    make_node("node-1")
    Lease.objects.update(taken_at=ago(3600))
    words = Heartbeat(
        incarnation=str(node.incarnation),
        have_version=0,
        registered_us=older["now_us"],
        registration=older["registration"],
    )
    assert post("heartbeat/", words)[1]["status"] == "superseded"


def test_registration_count_from_before_a_restore_does_not_supersede(
    node: FakeNode,
) -> None:
    """The backup has an earlier daemon; later registrations are newer by the clock."""
    _, later = post("register/", register_message())
    words = Heartbeat(
        incarnation=str(uuid4()),
        have_version=0,
        registered_us=later["now_us"],
        registration=later["registration"],
    )
    Node.objects.update(registrations=later["registration"] - 1)
    Lease.objects.update(incarnation=node.incarnation, taken_at=ago(3600))
    assert post("heartbeat/", words)[1]["status"] == "unknown"
    Lease.objects.update(taken_at=ago(-1))
    assert post("heartbeat/", words)[1]["status"] == "superseded"


def test_after_a_goodbye_a_heartbeat_is_unknown_and_registration_accepted(node: FakeNode) -> None:
    post("goodbye/", Goodbye(incarnation=str(node.incarnation), reason="asked to stop"))
    assert Node.objects.get().status == "left"
    assert post("heartbeat/", beat(node))[1]["status"] == "unknown"
    assert post("register/", register_message(incarnation=str(node.incarnation)))[0] == 200
    assert post("heartbeat/", beat(node))[1]["status"] == "ok"


def test_reports_are_applied_once(node: FakeNode) -> None:
    hand = make_trader("p", node)
    target = make_node("node-2")
    a_token(target)
    handoff = operations.migrate("p", "node-2", actor="ann")
    words = beat(target, reports=[Prepared(handoff=handoff.pk), Prepared(handoff=10**18)])
    for _ in range(2):
        assert post("heartbeat/", words, token="token of node-2")[1]["status"] == "ok"
    assert newest_handoff(hand.portfolio).state == "draining"


def test_invalid_report_costs_neither_the_heartbeat_nor_other_reports(
    node: FakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    hand = make_trader("p", node)
    odd: list[dict[str, Any]] = [
        {"death": "no uuid"},
        {"portfolio": 2**63},
        {"epoch": 2**64 - 1},
        {"error": "a\0b"},
    ]
    words = beat(node, reports=[*(hand.death(**given) for given in odd), hand.death()])
    status, answer = post("heartbeat/", words)
    assert (status, answer.get("status")) == (200, "ok")
    assert hand.run().attempts == 2
    (told,) = [
        line
        for line in caplog.records
        if "report" in line.getMessage() and line.levelname in ("WARNING", "ERROR")
    ]
    assert told.getMessage() == "node-1: 2 invalid reports: death is 'no uuid'; it must be a UUID."
    assert told.exc_info is None


def test_internal_error_in_a_report_costs_neither_the_heartbeat_nor_other_reports(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand = make_trader("p", node)

    def broken(*given: Any) -> Transaction[str]:
        raise AssertionError("what cannot be")

    monkeypatch.setattr("scheduling.enact.node_reports.handoff.prepared", broken)
    words = beat(node, reports=[Prepared(handoff=1), hand.death()])
    status, answer = post("heartbeat/", words)
    assert (status, answer.get("status")) == (200, "ok")
    assert hand.run().attempts == 1


@pytest.mark.parametrize(
    "metrics",
    [{"x" * 65: 1.0}, {"x" * 900_000: 1.0}, {"a\0": 1.0}, {"a\n": 1.0}, {"\u202e": 1.0}, {"": 1.0}],
    ids=["long", "as long as a body", "nul", "control", "bidirectional", "empty"],
)
def test_invalid_metric_name_is_rejected_and_nothing_stored(
    node: FakeNode, metrics: dict[str, float]
) -> None:
    status, problem = post("heartbeat/", beat(node, metrics=metrics))
    assert (status, problem["code"]) == (400, "invalid")
    assert problem["message"].startswith("The name of a metric is ")
    assert len(problem["message"]) < 300
    assert not NodeReport.objects.exists()
    assert post("heartbeat/", beat(node, metrics={"x" * 64: 1.0}))[0] == 200


def test_too_many_metrics_are_rejected(node: FakeNode) -> None:
    status, problem = post("heartbeat/", beat(node, metrics={f"m{n}": 1.0 for n in range(101)}))
    assert (status, problem["code"]) == (413, "payload_too_large")


def test_invalid_numbers_of_one_node_cost_no_other_heartbeat(node: FakeNode) -> None:
    other = make_node("node-2")
    a_token(other)
    number = float("nan")
    owned = ProcessStatus(
        portfolio=1, epoch=1, revision=1, phase="running", seq=0, lag=0, cpu_pct=number
    )  # fmt: skip
    odd = beat(node, metrics={"a": 1.0, "b": number}, portfolios=[owned])

    async def both() -> Any:
        return await asyncio.gather(
            ask("heartbeat/", encode(odd)),
            ask("heartbeat/", encode(beat(other)), "token of node-2"),
        )

    assert [answer[1]["status"] for answer in serve(both)] == ["ok", "ok"]
    kept = NodeReport.objects.get(node=node.row)
    assert kept.metrics == {"a": 1.0}
    assert kept.portfolios == [msgspec.to_builtins(owned) | {"cpu_pct": None}]


def test_report_without_effect_is_not_answered_with_the_desired_set(node: FakeNode) -> None:
    _, answer = post("heartbeat/", beat(node))
    words = Heartbeat(
        incarnation=str(node.incarnation),
        have_version=answer["desired"]["version"],
        reports=[Prepared(handoff=999)],
    )
    assert post("heartbeat/", words)[1].get("desired") is None


async def _all_taken(stack: AsyncExitStack) -> None:
    """Take every connection of the work pool."""
    for _ in range(WORK_POOL_SIZE):
        await stack.enter_async_context(work_pool().connection())


def test_heartbeat_does_not_wait_for_work_connections(node: FakeNode) -> None:
    version = post("heartbeat/", beat(node))[1]["desired"]["version"]
    body = encode(Heartbeat(incarnation=str(node.incarnation), have_version=version))

    async def beside_work() -> Answer:
        auth._cache.clear()
        async with AsyncExitStack() as stack:
            await _all_taken(stack)
            async with asyncio.timeout(60):
                return await ask("heartbeat/", body)

    assert serve(beside_work)[1]["status"] == "ok"


def test_request_beyond_the_waiting_limit_is_refused_at_once(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduling.gateway.pool.MAX_WAITING", 1)
    body = encode(CheckpointRequest(incarnation=str(node.incarnation), portfolio=1, handoff=None))

    async def crowded() -> list[Answer]:
        async with AsyncExitStack() as stack:
            await _all_taken(stack)
            waiting = asyncio.create_task(ask("checkpoint/", body))
            while not work_pool().get_stats()["requests_waiting"]:
                await asyncio.sleep(0)
            async with asyncio.timeout(60):
                refused = await ask("checkpoint/", body)
        return [refused, await waiting]

    refused, waited = serve(crowded)
    assert (refused[0], refused[1]["code"]) == (503, "unavailable")
    assert waited[0] != 503


def test_concurrent_heartbeats_are_answered_from_their_own_rows(node: FakeNode) -> None:
    daemons = [node] + [make_node(f"node-{n}") for n in range(2, 8)]
    for daemon in daemons[1:]:
        a_token(daemon)
    daemons[3] = FakeNode(daemons[3].row, uuid4())

    async def all_at_once() -> Any:
        return await asyncio.gather(
            *(
                ask("heartbeat/", encode(beat(daemon)), f"token of {daemon.name}")
                for daemon in daemons
                for _ in range(2)
            )
        )

    said = [answer[1]["status"] for answer in serve(all_at_once)]
    assert said == ["ok"] * 6 + ["superseded"] * 2 + ["ok"] * 6


def test_heartbeat_that_expired_in_the_queue_renews_nothing(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduling.gateway.heartbeat_batcher.MAX_WAIT_S", -1.0)

    async def late() -> None:
        with pytest.raises(HeartbeatExpired):
            await HeartbeatBatcher().renew(node.row.pk, beat(node))

    before = Lease.objects.get().renewals
    serve(late)
    assert Lease.objects.get().renewals == before
    assert post("heartbeat/", beat(node))[0] == 503


def test_stored_and_dropped_heartbeats_are_counted(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats = HeartbeatBatcher()

    async def heard() -> None:
        await beats.renew(node.row.pk, beat(node))

    async def late() -> None:
        monkeypatch.setattr("scheduling.gateway.heartbeat_batcher.MAX_WAIT_S", -1.0)
        with pytest.raises(HeartbeatExpired):
            await beats.renew(7, beat(node))

    async def failing() -> None:
        monkeypatch.setattr("scheduling.gateway.heartbeat_batcher.MAX_WAIT_S", 3.0)
        monkeypatch.setattr("scheduling.gateway.heartbeat_batcher.aexecute_autocommit", _away)
        with pytest.raises(psycopg.OperationalError):
            await beats.renew(8, beat(node))

    for each in (heard, late, failing):
        serve(each)
    assert beats.drops.stored == {node.row.pk}
    assert beats.drops.dropped == {7, 8}


async def _away(*_: object) -> None:
    raise psycopg.OperationalError("the database is away")


def pulse_once(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Write one pulse. Return the seconds until the next."""
    waits: list[float] = []

    async def one_pulse() -> None:
        pulsed = asyncio.Event()

        async def wait(seconds: float) -> None:
            waits.append(seconds)
            pulsed.set()
            await asyncio.Event().wait()

        monkeypatch.setattr("scheduling.gateway.background.asyncio.sleep", wait)
        keeping = asyncio.create_task(liveness_loop())
        await pulsed.wait()
        keeping.cancel()

    serve(one_pulse)
    return waits


def test_liveness_write_reports_overload_after_dropped_heartbeats(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving_since(3600)
    assert pulse_once(monkeypatch) == [1.0]
    assert Gateway.objects.get().serving_since < ago(3000)
    BATCHER.drops.dropped.add(node.row.pk)
    assert pulse_once(monkeypatch) == [1.0]
    assert Gateway.objects.get().serving_since > ago(5)


def test_gateway_that_pulses_and_is_not_ready_begins_to_serve_when_it_is(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving_since(3600)
    monkeypatch.setattr(HEALTH.write, "succeeded_at", time.monotonic() - 4)
    pulse_once(monkeypatch)
    assert Gateway.objects.get().serving_since < ago(3000)
    monkeypatch.setattr(HEALTH.write, "succeeded_at", time.monotonic() - 6)
    pulse_once(monkeypatch)
    assert Gateway.objects.get().serving_since > ago(60)


def test_write_test_that_failed_is_repeated_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float | None] = []
    pauses: list[float] = []

    class Away:
        def connection(self, timeout: float | None) -> None:
            waited.append(timeout)
            raise PoolTimeout("no connection")

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise asyncio.CancelledError

    monkeypatch.setattr(background, "work_pool", Away)
    monkeypatch.setattr("scheduling.gateway.background.asyncio.sleep", pause)
    monkeypatch.setattr(HEALTH.write, "error", "")
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(background._write_test_loop())
    assert (waited, pauses) == ([None, 1.0], [0.5, 0.5])


def test_overload_report_is_retried_with_the_next_liveness_write(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving_since(3600)
    BATCHER.drops.dropped.add(node.row.pk)

    async def two_pulses() -> None:
        told = asyncio.Event()
        again: list[Callable[..., Any]] = [_away, aexecute_autocommit]

        async def wait(_: float) -> None:
            if not again:
                told.set()
                await asyncio.Event().wait()

        async def pulsed(*words: Any) -> Any:
            return await again.pop(0)(*words)

        monkeypatch.setattr("scheduling.gateway.background.asyncio.sleep", wait)
        monkeypatch.setattr("scheduling.gateway.background.aexecute_autocommit", pulsed)
        keeping = asyncio.create_task(liveness_loop())
        await told.wait()
        keeping.cancel()

    serve(two_pulses)
    assert Gateway.objects.get().serving_since > ago(5)


# --- locked rows ------------------------------------------------------------------------------


def test_heartbeat_with_a_locked_lease_waits_without_delaying_others(
    node: FakeNode,
) -> None:
    other = make_node("node-2")
    a_token(other)

    async def both() -> None:
        with psycopg.connect(conninfo()) as frozen:
            frozen.execute(
                "SELECT FROM scheduling_lease WHERE node_id = %s FOR UPDATE", [node.row.pk]
            )
            mine = asyncio.create_task(ask("heartbeat/", encode(beat(node))))
            for _ in range(3):
                async with asyncio.timeout(2):
                    status, _ = await ask("heartbeat/", encode(beat(other)), "token of node-2")
                assert status == 200
            assert not mine.done()
            frozen.rollback()
        async with asyncio.timeout(2):
            assert (await mine)[0] == 200

    serve(both)


def test_waiting_registrations_use_no_connection_of_commits(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand = make_trader("p", node)
    body = encode(CommitRequest(incarnation=str(node.incarnation), commits=[hand.words(1)]))
    others = [make_node(f"node-{n}") for n in range(2, 2 + WORK_POOL_SIZE + 1)]
    for daemon in others:
        a_token(daemon)
    # They wait until the lease is free, however long the commit takes on a busy machine.
    for limit in ("LOCK_TIMEOUT", "ROW_LOCK_TIMEOUT"):
        monkeypatch.setattr(f"scheduling.gateway.pool.{limit}", "60s")
    monkeypatch.setattr(GatewayConnection, "limit_s", 60.0)
    held_up = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
    """

    async def beside() -> None:
        with psycopg.connect(conninfo()) as frozen:
            frozen.execute(
                "SELECT FROM scheduling_lease WHERE node_id > %s FOR UPDATE", [node.row.pk]
            )
            waiting = [
                asyncio.create_task(
                    ask("register/", encode(register_message()), f"token of {daemon.name}")
                )
                for daemon in others
            ]
            async with asyncio.timeout(30):
                with psycopg.connect(conninfo(), autocommit=True) as looking:
                    while (looking.execute(held_up).fetchone() or (0,)) < (LOCKING_POOL_SIZE,):
                        await asyncio.sleep(0.01)
                status, answer = await ask("commit/", body)
            assert (status, answer["results"][0]["answer"]) == (200, "ok")
            frozen.rollback()
        assert {status for status, _ in await asyncio.gather(*waiting)} <= {200, 503}

    serve(beside)


def test_release_with_a_locked_target_is_left_out_and_others_answered(
    node: FakeNode,
) -> None:
    target = make_node("node-2")
    hand, neighbour = make_trader("p", node), make_trader("q", node)
    handoff = operations.migrate("p", "node-2", actor="ann")
    target.ready(handoff)
    words = [hand.release_words(handoff), neighbour.words(1)]

    async def beside() -> None:
        body = encode(CommitRequest(incarnation=str(node.incarnation), commits=words))
        with psycopg.connect(conninfo()) as frozen:
            frozen.execute("SELECT FROM scheduling_node WHERE name = 'node-2' FOR NO KEY UPDATE")
            async with asyncio.timeout(2):
                status, answer = await ask("commit/", body)
            assert status == 200
            assert [r["portfolio"] for r in answer["results"]] == [neighbour.portfolio.pk]
            frozen.rollback()
        _, answer = await ask("commit/", body)
        assert [r["answer"] for r in answer["results"]] == ["handed_over", "ok"]

    serve(beside)


def test_table_lock_is_reported_with_the_liveness_write_and_the_commit_repeated(
    node: FakeNode,
) -> None:
    hand = make_trader("p", node)
    body = encode(CommitRequest(incarnation=str(node.incarnation), commits=[hand.words(1)]))

    async def beside() -> None:
        keeping = asyncio.create_task(liveness_loop())
        try:
            with psycopg.connect(conninfo()) as indexing, psycopg.connect(conninfo()) as looking:
                looking.autocommit = True
                indexing.execute("LOCK TABLE portfolios_order IN SHARE MODE")
                status = 0
                async with asyncio.timeout(20):
                    while True:
                        asked = asyncio.create_task(ask("commit/", body))
                        status, _ = await asked
                        row = looking.execute(
                            "SELECT commits_stood_at - commits_stand_since >= interval '1 s'"
                            " FROM scheduling_gateway"
                        ).fetchone()
                        if row and row[0]:
                            break
                assert status == 503
                indexing.rollback()
            status, answer = await ask("commit/", body)
            assert (status, answer["results"][0]["answer"]) == (200, "ok")
        finally:
            keeping.cancel()

    serve(beside)


# --- checkpoint ----------------------------------------------------------------------------------


def test_owner_reads_the_checkpoint(node: FakeNode) -> None:
    hand = make_trader("p", node)
    hand.commit(2, state=b"held")
    hand.commit(3)
    at = hand.run()
    words = CheckpointRequest(incarnation=str(node.incarnation), portfolio=hand.portfolio.pk)
    _, answer = post("checkpoint/", words)
    assert (answer["epoch"], answer["last_seq"], answer["state_seq"], answer["state"]) == (
        at.epoch,
        at.last_seq,
        at.last_seq - 3,
        b"held",
    )


def test_handoff_target_reads_the_checkpoint_while_the_handoff_is_active(node: FakeNode) -> None:
    hand = make_trader("p", node)
    target = make_node("node-2")
    a_token(target)
    handoff = operations.migrate("p", "node-2", actor="ann")
    words = CheckpointRequest(
        incarnation=str(target.incarnation), portfolio=hand.portfolio.pk, handoff=handoff.pk
    )
    assert post("checkpoint/", words, token="token of node-2")[0] == 200
    target.fails(handoff)
    status, problem = post("checkpoint/", words, token="token of node-2")
    assert (status, problem["code"]) == (409, "fenced")


# --- commit --------------------------------------------------------------------------------------


def make_order(seq: int, index: int = 0, **given: Any) -> OrderLine:
    values = {"quantity": "10", "price": "12.5", "symbol": "IBM", **given}
    return OrderLine(
        seq, index, values["symbol"], "buy", values["quantity"], values["price"], "open", "", 10**15
    )


def bad_words(hand: OwnerSession, kind: str) -> Commit:
    """Return a commit of the next event with a value that no database can store."""
    at = hand.run().last_seq + 1
    kinds: dict[str, dict[str, Any]] = {
        "index": {"orders": [make_order(at, 40_000)]},
        "negative index": {"orders": [make_order(at, -1)]},
        "overflow": {"orders": [make_order(at, quantity="9" * 39)]},
        "long symbol": {"orders": [make_order(at, symbol="X" * 200)]},
        "nul": {"orders": [make_order(at, symbol="A\0B")]},
        "twice": {"orders": [make_order(at), make_order(at)]},
        "no number": {"orders": [make_order(at, price="ten")]},
        "not a number": {"orders": [make_order(at, price="NaN")]},
        "infinite": {"equity": [EquityLine(at, 10**15, "Infinity")]},
        "far future": {"equity": [EquityLine(at, 2**62, "1")]},
        "fill of nothing": {"fills": [FillLine(7, 7, at, 0, "IBM", "buy", "1", "1", 10**15)]},
        "outside": {"orders": [make_order(at + 1)]},
        "before": {"orders": [make_order(at - 1)]},
        "backwards": {"to_seq": at - 5},
        "huge seq": {"to_seq": 2**63},
        "huge epoch": {"epoch": 2**64 - 1},
        "no batch": {"batch": "batch"},
    }
    return hand.words(1, **kinds[kind])


BAD = (
    "index", "negative index", "overflow", "long symbol", "nul", "twice", "no number",
    "not a number", "infinite", "far future", "fill of nothing", "outside", "before", "backwards",
    "huge seq", "huge epoch", "no batch",
)  # fmt: skip


def test_every_invalid_commit_is_rejected_alone_without_effect(node: FakeNode) -> None:
    Node.objects.update(capacity=50)
    good, last = make_trader("good", node), make_trader("last", node)
    bad = [make_trader(f"bad-{number}", node) for number in range(len(BAD))]
    before = [hand.run().last_seq for hand in bad]
    words = [bad_words(hand, kind) for hand, kind in zip(bad, BAD, strict=True)]
    answers = commit(node, good.words(2), *words, last.words(2))
    assert dict(zip(BAD, [a for a, _ in answers[1:-1]], strict=True)) == dict.fromkeys(
        BAD, "rejected"
    )
    assert [answers[0], answers[-1]] == [("ok", ""), ("ok", "")]
    assert all(detail for _, detail in answers[1:-1])
    assert ([hand.run().last_seq for hand in bad], Order.objects.count()) == (before, 0)
    assert bad[0].commit(1) == "ok"


@pytest.mark.parametrize("kind", ["twice", "fill of nothing", "nul"])
def test_invalid_release_is_rejected_without_a_grant(node: FakeNode, kind: str) -> None:
    hand = make_trader("p", node)
    target = make_node("node-2")
    handoff = operations.migrate("p", "node-2", actor="ann")
    target.ready(handoff)
    words = msgspec.structs.replace(bad_words(hand, kind), release=handoff.pk)
    assert commit(node, words)[0][0] == "rejected"
    assert newest_handoff(hand.portfolio).state == "draining"
    assert commit(node, hand.release_words(handoff)) == [("handed_over", "")]


def test_duplicate_order_rejects_only_its_own_portfolio(node: FakeNode) -> None:
    hand, neighbour = make_trader("p", node), make_trader("q", node)
    at = hand.run().last_seq + 1
    assert hand.commit(1, orders=[make_order(at)]) == "ok"
    Order.objects.update(seq=at + 1, id=f"{hand.portfolio.uid}-{at + 1}-0")
    twice = hand.words(1, orders=[make_order(at + 1)])
    answers = commit(node, twice, neighbour.words(1))
    assert [answer for answer, _ in answers] == ["rejected", "ok"]
    assert Order.objects.count() == 1


def test_request_with_a_portfolio_twice_is_rejected_without_effect(
    node: FakeNode,
) -> None:
    hand, neighbour = make_trader("p", node), make_trader("q", node)
    before = neighbour.run().last_seq
    message = CommitRequest(
        incarnation=str(node.incarnation),
        commits=[hand.words(1), neighbour.words(1), hand.words(1)],
    )
    status, problem = post("commit/", message)
    assert (status, problem["code"]) == (400, "invalid")
    assert problem["message"] == (
        f"Portfolio {hand.portfolio.pk} occurs twice in one request; nothing was done."
    )
    assert neighbour.run().last_seq == before


def test_commits_and_releases_of_one_request_are_each_answered(node: FakeNode) -> None:
    stays, goes = make_trader("stays", node), make_trader("goes", node)
    target = make_node("node-2")
    handoff = operations.migrate("goes", "node-2", actor="ann")
    target.ready(handoff)
    answers = commit(node, goes.release_words(handoff, 2, state=b"last"), stays.words(1))
    assert [answer for answer, _ in answers] == ["handed_over", "ok"]
    assert bytes(Checkpoint.objects.get(portfolio=goes.portfolio).state) == b"last"


def test_an_empty_request_has_no_results(node: FakeNode) -> None:
    assert commit(node) == []


def test_every_answer_of_the_fence_reaches_the_node(node: FakeNode) -> None:
    hand = make_trader("p", node)
    words = hand.words(1)
    assert commit(node, words) == [("ok", "")]
    assert commit(node, words)[0][0] == "ok"
    assert commit(node, hand.words(1, from_seq=0))[0][0] == "conflict"
    assert commit(node, hand.words(1, epoch=99))[0][0] == "ahead"
    make_node("node-1")
    assert commit(node, hand.words(1, epoch=words.epoch))[0][0] == "fenced"
    assert Event.objects.filter(kind="commit_refused").count() == 1


def test_silent_database_is_answered_503(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ginkgo_site.database.conninfo", lambda: "host=/nowhere dbname=none")
    monkeypatch.setattr("psycopg_pool.AsyncConnectionPool.connection", no_connection)
    status, problem = post("heartbeat/", beat(node))
    assert (status, problem["code"]) == (503, "unavailable")


def no_connection(*_: Any, **__: Any) -> Any:
    raise PoolTimeout("no connection in 5 s")


def test_one_dead_connection_replaces_all_connections(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ginkgo_site.deadline.FRESH_S", -1.0)

    async def scenario() -> float:
        async with AsyncExitStack() as all_of_them:
            taken = [
                await all_of_them.enter_async_context(work_pool().connection())
                for _ in range(WORK_POOL_SIZE)
            ]
            dead = [connection.info.backend_pid for connection in taken]
        await asyncio.to_thread(end_sessions, dead)
        began = asyncio.get_running_loop().time()
        async with work_pool().connection() as connection:
            await connection.execute("SELECT 1")
        return asyncio.get_running_loop().time() - began

    # By itself the pool waits 1 s before it looks at a third one, and 2 s before a fourth.
    assert serve(scenario) < 2.5


def end_sessions(pids: list[int]) -> None:
    with psycopg.connect(conninfo(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(p, 5000) FROM unnest(%s) p", [pids])


def test_answers_to_nodes_are_counted_for_prometheus(node: FakeNode) -> None:
    name = "ginkgo_gateway_request_seconds_count"

    def answered(status: str) -> float:
        found = REGISTRY.get_sample_value(name, {"kind": "heartbeat", "status": status})
        return found or 0.0

    before = answered("200"), answered("400")
    assert post("heartbeat/", beat(node))[0] == 200
    post_all("heartbeat/", b"\xc1")
    assert (answered("200"), answered("400")) == (before[0] + 1, before[1] + 1)
