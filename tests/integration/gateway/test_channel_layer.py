"""The channel layer over LISTEN and NOTIFY: hints reach their groups, also after a reconnect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import psutil
import psycopg
import pytest
from django.db import connection

from chaos.harness.installation import eventually
from ginkgo_site.database import conninfo
from scheduling import channel_layer
from scheduling.channel_layer import MAX_PAYLOAD, WAKE, PayloadTooLarge, PostgresChannelLayer
from scheduling.db.listener_echo import Echo, NotListening
from scheduling.db.transaction import execute
from scheduling.enact.notify import bump_desired_versions, notify_watchers
from tests.support.factories import make_node

pytestmark = pytest.mark.django_db

SOON_S = 60.0  #: what comes, comes at once; a busy machine is waited for
NOTHING_S = 0.2
HINT = {"type": "desired.changed", "version": 7}

#: Sessions that listen, by their newest statement.
LISTENERS = (
    "FROM pg_stat_activity WHERE datname = current_database()"
    " AND query ~ '^(LISTEN|NOTIFY) ginkgo_echo'"
)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Wait longer for echo and answer: each that is late on a busy machine means a reconnect, which
    wakes every group. Await the end of the sessions that listen."""
    monkeypatch.setattr(channel_layer, "ECHO_INTERVAL_S", SOON_S)
    monkeypatch.setattr(channel_layer._Connection, "limit_s", SOON_S)
    yield
    eventually(lambda: not listening_sessions(), what="the end of the listening session")


@pytest.fixture
async def layer() -> AsyncIterator[PostgresChannelLayer]:
    found = PostgresChannelLayer()
    yield found
    await found.close()


async def next_of(layer: PostgresChannelLayer, channel: str) -> Any:
    return await asyncio.wait_for(layer.receive(channel), SOON_S)


async def assert_nothing(layer: PostgresChannelLayer, channel: str) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(layer.receive(channel), NOTHING_S)


async def member(layer: PostgresChannelLayer, *groups: str) -> str:
    channel = await layer.new_channel()
    for group in groups:
        await layer.group_add(group, channel)
    return channel


def cut_listeners() -> int:
    """End every listening session of this database, as a restart does. Return their number."""
    with psycopg.connect(conninfo(), autocommit=True) as session:
        rows = session.execute(f"SELECT pg_terminate_backend(pid) {LISTENERS}").fetchall()
    return len(rows)


async def test_hint_reaches_every_member_of_its_group_once(layer: PostgresChannelLayer) -> None:
    first, second = await member(layer, "node.1"), await member(layer, "node.1")
    other = await member(layer, "node.2")
    await layer.group_send("node.1", HINT)
    assert await next_of(layer, first) == HINT
    assert await next_of(layer, second) == HINT
    await assert_nothing(layer, first)
    await assert_nothing(layer, other)


async def test_message_to_a_channel_reaches_only_that_channel(layer: PostgresChannelLayer) -> None:
    first, second = await member(layer, "board"), await member(layer, "board")
    await layer.send(second, HINT)
    assert await next_of(layer, second) == HINT
    await assert_nothing(layer, first)


async def test_channel_that_left_a_group_gets_no_message_of_it(layer: PostgresChannelLayer) -> None:
    channel = await member(layer, "board", "node.1")
    await layer.group_discard("board", channel)
    await layer.group_send("board", {"type": "no"})
    await layer.group_send("node.1", HINT)
    assert await next_of(layer, channel) == HINT
    await layer.group_discard("node.1", channel)
    assert layer._state().groups == {}
    assert channel not in layer._state().queues


@pytest.mark.django_db(transaction=True)
async def test_a_change_of_a_desired_set_hints_its_nodes_and_a_wake_hints_every_board(
    layer: PostgresChannelLayer,
) -> None:
    node = await in_a_thread(lambda: make_node("node-1"))
    mine = await member(layer, f"node.{node.row.pk}")
    board = await member(layer, "board")
    await in_a_thread(lambda: execute(bump_desired_versions([node.row.pk])))
    assert (await next_of(layer, mine))["type"] == "desired.changed"
    assert await next_of(layer, board) == {"type": "wake"}
    await in_a_thread(lambda: execute(notify_watchers()))
    assert await next_of(layer, board) == {"type": "wake"}
    await assert_nothing(layer, mine)


async def in_a_thread(act: Callable[[], Any]) -> Any:
    """Return what `act` returns in a thread whose database connection is closed afterwards."""

    def work() -> Any:
        try:
            return act()
        finally:
            connection.close()

    return await asyncio.to_thread(work)


async def receive_one(layer: PostgresChannelLayer, send: Callable[[], Awaitable[Any]]) -> Any:
    """Return what a member of the group hears after `send`, and close the layer."""
    channel = await member(layer, "board")
    await send()
    heard = await next_of(layer, channel)
    await layer.close()
    return heard


def test_one_layer_serves_two_event_loops_of_one_process() -> None:
    layer = PostgresChannelLayer()

    def once() -> Any:
        return asyncio.run(receive_one(layer, lambda: layer.group_send("board", HINT)))

    assert [once() for _ in range(2)] == [HINT, HINT]


async def test_after_a_reconnect_every_group_is_woken_once(layer: PostgresChannelLayer) -> None:
    first, second = await member(layer, "node.1"), await member(layer, "board")
    assert await asyncio.to_thread(cut_listeners) == 1  # one for all channels of a process
    assert await next_of(layer, first) == {"type": "wake"}
    assert await next_of(layer, second) == {"type": "wake"}
    await assert_nothing(layer, first)
    await layer.group_send("node.1", HINT)
    assert await next_of(layer, first) == HINT


async def test_silent_listener_session_is_replaced(
    layer: PostgresChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket stays open and the kernel acknowledges: only the echo shows it."""
    monkeypatch.undo()  # with the product's limits
    channel = await member(layer, "node.1")
    (pid,) = await asyncio.to_thread(listening_sessions)
    silent = psutil.Process(pid)
    silent.suspend()
    try:
        assert await next_of(layer, channel) == WAKE
        await layer.group_send("node.1", HINT)
        while (heard := await next_of(layer, channel)) == WAKE:
            pass  # a busy machine is late with an echo again
        assert heard == HINT
    finally:
        silent.resume()
        psutil.wait_procs([silent], timeout=SOON_S)


def listening_sessions() -> list[int]:
    with psycopg.connect(conninfo(), autocommit=True) as session:
        rows = session.execute(f"SELECT pid {LISTENERS}").fetchall()
    return [pid for (pid,) in rows]


def test_session_that_does_not_receive_its_own_notification_is_not_listening() -> None:
    echo = Echo()
    echo.send()
    assert not echo.receive(psycopg.Notify("ginkgo", "{}", 1))
    with pytest.raises(NotListening, match="must be in session mode"):
        echo.send()
    assert echo.receive(psycopg.Notify(echo.channel, "", 1))
    assert echo.send() == f"NOTIFY {echo.channel}".encode()


async def test_sender_retries_once_on_a_new_connection(layer: PostgresChannelLayer) -> None:
    channel = await member(layer, "board")
    await layer.group_send("board", HINT)
    sender = layer._state()._sender
    assert sender is not None
    await sender.close()
    await layer.group_send("board", HINT)
    assert [await next_of(layer, channel) for _ in range(2)] == [HINT, HINT]


async def test_payload_over_the_limit_is_refused_before_sending(
    layer: PostgresChannelLayer,
) -> None:
    frame = len('{"groups":["board"],"message":{"type":"x","text":""}}')
    channel = await member(layer, "board")
    largest = {"type": "x", "text": "a" * (MAX_PAYLOAD - frame)}
    await layer.group_send("board", largest)
    assert await next_of(layer, channel) == largest
    with pytest.raises(PayloadTooLarge, match="send ids instead of state"):
        await layer.group_send("board", {**largest, "text": largest["text"] + "a"})


async def test_malformed_notification_is_ignored(layer: PostgresChannelLayer) -> None:
    channel = await member(layer, "board")
    await asyncio.to_thread(notify_raw, "", "[]", "null", "{}", '{"groups": ["board"]}', "\u00fc")
    await layer.group_send("board", HINT)
    assert await next_of(layer, channel) == HINT


def notify_raw(*payloads: str) -> None:
    with psycopg.connect(conninfo(), autocommit=True) as session:
        for payload in payloads:
            session.execute("SELECT pg_notify('ginkgo', %s)", [payload])


async def test_full_queue_keeps_the_newest_hints_and_blocks_no_other(
    layer: PostgresChannelLayer,
) -> None:
    slow, quick = await member(layer, "board"), await member(layer, "board")
    layer._state().queues[slow] = asyncio.Queue(maxsize=2)
    for version in range(4):
        await layer.group_send("board", {"type": "x", "version": version})
    assert [(await next_of(layer, quick))["version"] for _ in range(4)] == [0, 1, 2, 3]
    assert [(await next_of(layer, slow))["version"] for _ in range(2)] == [2, 3]


async def test_receiving_without_a_group_leaves_no_queue(layer: PostgresChannelLayer) -> None:
    channel = await layer.new_channel()
    await assert_nothing(layer, channel)
    assert layer._state().queues == {}
