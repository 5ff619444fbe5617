"""A gateway whose connections, rows or tables are locked, or which drops heartbeats."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.errors import DiskFull
from psycopg_pool import PoolTimeout

from chaos.harness.installation import SLOW_MACHINE_S
from ginkgo_site.database import conninfo
from portfolios.models import Checkpoint
from scheduling import operations
from scheduling.db.disk_space import DiskSpace
from scheduling.db.transaction import aexecute_autocommit
from scheduling.gateway import auth, background, health, pool
from scheduling.gateway.background import liveness_loop
from scheduling.gateway.health import HEALTH
from scheduling.gateway.heartbeat import BATCHER
from scheduling.gateway.heartbeat_batcher import HeartbeatBatcher, HeartbeatExpired
from scheduling.gateway.pool import (
    LOCKING_POOL_SIZE,
    WORK_POOL_SIZE,
    GatewayConnection,
    lease_pool,
    work_pool,
)
from scheduling.models import Gateway, Lease
from scheduling.timing import Timing
from scheduling.wire.messages import CheckpointRequest, encode
from tests.support.factories import FakeNode, ago, make_node, make_trader, serving_since
from tests.support.gateway_requests import (
    Answer,
    admitted_node,
    ask,
    beat,
    commit_request,
    post,
    register_message,
    serve,
)
from tests.support.patches import raising

pytestmark = pytest.mark.django_db(transaction=True)


#: As a process that freezes inside a transaction does.
HOLD_LEASE = "SELECT FROM scheduling_lease WHERE node_id = %s FOR UPDATE"


async def _all_taken(stack: AsyncExitStack) -> list[Any]:
    each = range(WORK_POOL_SIZE)
    return [await stack.enter_async_context(work_pool().connection()) for _ in each]


def test_heartbeat_does_not_wait_for_work_connections(node: FakeNode) -> None:
    body = encode(beat(node, have_version=post("heartbeat/", beat(node))[1]["desired"]["version"]))

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
    daemons = [node] + [admitted_node(f"node-{n}") for n in range(2, 8)]
    daemons[3] = FakeNode(daemons[3].row, uuid4())

    def one(daemon: FakeNode) -> Awaitable[Answer]:
        return ask("heartbeat/", encode(beat(daemon)), f"token of {daemon.name}")

    async def all_at_once() -> Any:
        return await asyncio.gather(*(one(daemon) for daemon in daemons for _ in range(2)))

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
    assert beats.drops.stored_nodes == {node.row.pk}
    assert beats.drops.dropped_nodes == {7, 8}


def test_process_counts_as_overloaded_while_a_heartbeat_waits_too_long(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats = HeartbeatBatcher()
    written = asyncio.Event()

    async def slow(connection: Any, transaction: Any) -> Any:
        await written.wait()
        return await aexecute_autocommit(connection, transaction)

    monkeypatch.setattr("scheduling.gateway.heartbeat_batcher.aexecute_autocommit", slow)

    async def waits() -> list[str]:
        beating = asyncio.create_task(beats.renew(node.row.pk, beat(node)))
        async with asyncio.timeout(60):
            while not beats._writing:
                await asyncio.sleep(0)
        monkeypatch.setattr("scheduling.gateway.heartbeat_batcher.OVERLOADED_S", 600.0)
        reasons = [beats.overload_reason()]
        monkeypatch.setattr("scheduling.gateway.heartbeat_batcher.OVERLOADED_S", -1.0)
        reasons.append(beats.overload_reason())
        written.set()
        await beating
        return [*reasons, beats.overload_reason()]

    quiet, waiting, answered = serve(waits)
    assert (quiet, answered) == ("", "")
    assert waiting.startswith("a heartbeat waits for ")


def test_heartbeat_that_waits_for_a_locked_row_does_not_count_as_overload(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats = HeartbeatBatcher()
    monkeypatch.setattr("scheduling.gateway.heartbeat_batcher.OVERLOADED_S", -1.0)

    async def waits() -> str:
        async with lease_pool().connection() as other, other.transaction():
            await other.execute(HOLD_LEASE, [node.row.pk])
            beating = asyncio.create_task(beats.renew(node.row.pk, beat(node)))
            async with asyncio.timeout(60):
                while not beats._locked:
                    await asyncio.sleep(0)
                while beats._locked:  # until the statement that repeats it runs
                    await asyncio.sleep(0)
            reason = beats.overload_reason()
        await beating
        return reason

    assert serve(waits) == ""


@pytest.fixture
def no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no pulse be late, as it is on a machine that keeps the test waiting for 3 s."""
    monkeypatch.setattr(Timing, "pulse_gap_s", property(lambda _: 600.0))


_away = raising(psycopg.OperationalError("the database is away"))


def pulse(monkeypatch: pytest.MonkeyPatch, times: int = 1) -> list[float]:
    """Write pulses. Return the seconds that passed after each until the next."""
    waits: list[float] = []

    async def pulses() -> None:
        pulsed = asyncio.Event()

        async def wait(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == times:
                pulsed.set()
                await asyncio.Event().wait()

        monkeypatch.setattr("scheduling.gateway.background.asyncio.sleep", wait)
        keeping = asyncio.create_task(liveness_loop())
        await pulsed.wait()
        keeping.cancel()

    serve(pulses)
    return waits


def drop_a_heartbeat(node: FakeNode) -> None:
    BATCHER.drops.dropped_nodes.add(node.row.pk)


def have_written_nothing(_: FakeNode) -> None:
    HEALTH.write.succeeded_at = time.monotonic() - health.MAX_AGE_S - 1


def fill_the_disk(_: FakeNode) -> None:
    """As it takes every gateway out of a proxy: no silence may count then."""
    background.DISK_SPACE.note_refused(DiskFull())


@pytest.mark.usefixtures("no_gap")
@pytest.mark.parametrize("fail", [drop_a_heartbeat, have_written_nothing, fill_the_disk])
def test_pulse_of_a_gateway_that_may_not_hear_every_heartbeat_resets_its_serving_since(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch, fail: Callable[[FakeNode], None]
) -> None:
    serving_since(3600)
    monkeypatch.setattr(health, "MAX_AGE_S", 600.0)
    monkeypatch.setattr(HEALTH.write, "succeeded_at", time.monotonic())
    monkeypatch.setattr(background, "DISK_SPACE", DiskSpace())
    assert pulse(monkeypatch) == [1.0]
    assert Gateway.objects.get().serving_since < ago(3000)
    fail(node)
    assert pulse(monkeypatch) == [1.0]
    assert Gateway.objects.get().serving_since > ago(600)


def test_failed_write_test_of_the_gateway_is_repeated_after_half_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
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


def test_overload_report_that_was_not_stored_is_repeated_with_the_next_pulse(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving_since(3600)
    BATCHER.drops.dropped_nodes.add(node.row.pk)

    again: list[Callable[..., Any]] = [_away, aexecute_autocommit]

    async def write(*words: Any) -> Any:
        return await again.pop(0)(*words)

    monkeypatch.setattr("scheduling.gateway.background.aexecute_autocommit", write)
    assert pulse(monkeypatch, times=2) == [1.0, 1.0]
    assert Gateway.objects.get().serving_since > ago(600)


def test_heartbeat_with_a_locked_lease_waits_without_delaying_others(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = admitted_node("node-2")
    # It waits until the lease is free, however long the others take on a busy machine.
    monkeypatch.setattr("scheduling.gateway.heartbeat_batcher.MAX_WAIT_S", 600.0)

    async def both() -> None:
        with psycopg.connect(conninfo()) as frozen:
            frozen.execute(HOLD_LEASE, [node.row.pk])
            mine = asyncio.create_task(ask("heartbeat/", encode(beat(node))))
            for _ in range(3):
                async with asyncio.timeout(60):
                    status, _ = await ask("heartbeat/", encode(beat(other)), "token of node-2")
                assert status == 200
            assert not mine.done()
            frozen.rollback()
        async with asyncio.timeout(60):
            assert (await mine)[0] == 200

    serve(both)


def test_waiting_registrations_use_no_connection_of_commits(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = encode(commit_request(node, make_trader("p", node).next_commit(1)))
    others = [admitted_node(f"node-{n}") for n in range(2, 2 + WORK_POOL_SIZE + 1)]
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
            frozen.execute(HOLD_LEASE.replace("=", ">"), [node.row.pk])
            asked = [
                ask("register/", encode(register_message()), f"token of {daemon.name}")
                for daemon in others
            ]
            waiting = [asyncio.create_task(each) for each in asked]
            async with asyncio.timeout(SLOW_MACHINE_S):
                with psycopg.connect(conninfo(), autocommit=True) as looking:
                    while (looking.execute(held_up).fetchone() or (0,)) < (LOCKING_POOL_SIZE,):
                        await asyncio.sleep(0.01)
                status, answer = await ask("commit/", body)
            assert (status, answer["results"][0]["answer"]) == (200, "ok")
            frozen.rollback()
        assert {status for status, _ in await asyncio.gather(*waiting)} <= {200, 503}

    serve(beside)


def test_release_to_a_locked_target_has_no_result_and_other_commits_are_answered(
    node: FakeNode,
) -> None:
    target = make_node("node-2")
    hand, neighbour = make_trader("p", node), make_trader("q", node)
    handoff = operations.migrate("p", "node-2", actor="ann")
    target.ready(handoff)
    words = [hand.release_message(handoff, 2, state=b"last"), neighbour.next_commit(1)]

    async def beside() -> None:
        body = encode(commit_request(node, *words))
        with psycopg.connect(conninfo()) as frozen:
            frozen.execute("SELECT FROM scheduling_node WHERE name = 'node-2' FOR NO KEY UPDATE")
            async with asyncio.timeout(60):
                status, answer = await ask("commit/", body)
            assert status == 200
            assert [r["portfolio"] for r in answer["results"]] == [neighbour.portfolio.pk]
            frozen.rollback()
        _, answer = await ask("commit/", body)
        assert [r["answer"] for r in answer["results"]] == ["handed_over", "ok"]

    serve(beside)
    assert bytes(Checkpoint.objects.get(portfolio=hand.portfolio).state) == b"last"


def test_commits_blocked_by_a_table_lock_are_reported_and_accepted_after_it(node: FakeNode) -> None:
    body = encode(commit_request(node, make_trader("p", node).next_commit(1)))

    async def beside() -> None:
        keeping = asyncio.create_task(liveness_loop())
        try:
            with psycopg.connect(conninfo()) as indexing, psycopg.connect(conninfo()) as looking:
                looking.autocommit = True
                indexing.execute("LOCK TABLE portfolios_order IN SHARE MODE")
                status = 0
                async with asyncio.timeout(SLOW_MACHINE_S):
                    while True:
                        status, _ = await asyncio.create_task(ask("commit/", body))
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


def test_silent_database_is_answered_503(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ginkgo_site.database.conninfo", lambda: "host=/nowhere dbname=none")
    late = raising(PoolTimeout("no connection in 5 s"))
    monkeypatch.setattr("psycopg_pool.AsyncConnectionPool.connection", late)
    status, problem = post("heartbeat/", beat(node))
    assert (status, problem["code"]) == (503, "unavailable")


def test_one_dead_connection_makes_the_gateway_replace_its_whole_pool(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ginkgo_site.deadline.FRESH_S", -1.0)
    found_dead: list[Any] = []

    async def check(connection: Any) -> None:
        try:
            await check_as_it_is(connection)
        except psycopg.OperationalError:
            found_dead.append(connection)
            raise

    check_as_it_is = pool._check
    monkeypatch.setattr(pool, "_check", check)

    async def scenario() -> None:
        async with AsyncExitStack() as all_of_them:
            taken = await _all_taken(all_of_them)
            dead = [connection.info.backend_pid for connection in taken]
        await asyncio.to_thread(end_sessions, dead)
        async with work_pool().connection() as connection:
            await connection.execute("SELECT 1")

    # By itself the pool waits 1 s before it looks at a third one, and 2 s before a fourth.
    serve(scenario)
    assert len(found_dead) == 1


def end_sessions(pids: list[int]) -> None:
    with psycopg.connect(conninfo(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(p, 5000) FROM unnest(%s) p", [pids])
