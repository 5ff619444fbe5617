"""The websocket of a daemon: pushes, the reads that they cause, and when it is closed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from asgiref.testing import ApplicationCommunicator
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from chaos.harness.installation import SLOW_MACHINE_S
from scheduling.db.transaction import execute
from scheduling.enact.notify import bump_desired_versions
from scheduling.gateway import auth, push_socket
from scheduling.models import Lease, Node, NodeToken
from scheduling.wire.messages import DesiredSet, Hello, encode
from tests.support.factories import FakeNode
from tests.support.gateway_requests import admitted_node

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("open_gateway")]


class Socket(ApplicationCommunicator):
    def __init__(self, application: Any = None) -> None:
        headers = [(b"authorization", b"Bearer token of node-1")]
        scope = {
            "type": "websocket", "path": "/ws/agent/", "query_string": b"", "headers": headers,
            "subprotocols": [],
        }  # fmt: skip
        super().__init__(application or push_socket.PushSocket.as_asgi(), scope)

    async def say(self, daemon: FakeNode, **known: int) -> None:
        """Say who speaks, and which version of its set it knows."""
        await self.send_input({"type": "websocket.connect"})
        assert (await self.receive_output(SLOW_MACHINE_S))["type"] == "websocket.accept"
        hello = Hello(incarnation=str(daemon.incarnation), **known)
        await self.send_input({"type": "websocket.receive", "bytes": encode(hello)})

    async def open(self, daemon: FakeNode) -> DesiredSet:
        """Say who speaks and return the set that is pushed."""
        await self.say(daemon)
        return await self.pushed()

    async def pushed(self) -> DesiredSet:
        said = await self.receive_output(SLOW_MACHINE_S)
        assert said["type"] == "websocket.send", said
        return msgspec.msgpack.decode(said["bytes"], type=DesiredSet)

    async def leave(self) -> None:
        """Close as the server would have it: nobody's lease is shortened by a test's end."""
        await self.send_input({"type": "websocket.disconnect", "code": 1012})
        await self.wait(SLOW_MACHINE_S)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait longer for a hello: a slow machine may be late with it."""
    monkeypatch.setattr(push_socket, "HELLO_TIMEOUT_S", 600.0)


make_admitted_node = database_sync_to_async(admitted_node)


def version_of(daemon: FakeNode) -> int:
    return int(Node.objects.get(pk=daemon.row.pk).desired_version)


@database_sync_to_async
def change_without_a_hint(daemon: FakeNode) -> int:
    """Raise the version of the desired set without a hint. Return it."""
    Node.objects.filter(pk=daemon.row.pk).update(desired_version=F("desired_version") + 1)
    return version_of(daemon)


@database_sync_to_async
def change_with_hints(daemon: FakeNode, times: int) -> int:
    """Raise the version of the desired set `times` times in one transaction. Return it."""
    with transaction.atomic():
        for _ in range(times):
            execute(bump_desired_versions([daemon.row.pk]))
    return version_of(daemon)


async def send_wake(daemon: FakeNode) -> None:
    """Send the message that every socket gets after a reconnect of the listener."""
    layer = get_channel_layer()
    assert layer is not None
    await layer.group_send(f"node.{daemon.row.pk}", {"type": "wake"})


async def test_second_message_of_a_daemon_closes_its_socket() -> None:
    daemon = await make_admitted_node("node-1")
    socket = Socket()
    await socket.open(daemon)
    await socket.send_input({"type": "websocket.receive", "bytes": b"x" * 60_000})
    answer = await socket.receive_output(SLOW_MACHINE_S)
    assert (answer["type"], answer["code"]) == ("websocket.close", push_socket.NOT_HELLO)
    await socket.leave()


async def test_closed_socket_is_recorded_although_a_push_over_that_socket_failed_first() -> None:
    failed: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        async def send_if_there(message: Any) -> None:
            if message["type"] == "websocket.send":
                failed.append(message["type"])
                raise BrokenPipeError
            await send(message)

        await push_socket.PushSocket.as_asgi()(scope, receive, send_if_there)

    daemon = await make_admitted_node("node-1")
    socket = Socket(application)
    await socket.say(daemon)
    await socket.send_input({"type": "websocket.disconnect", "code": 1006})
    await socket.wait(SLOW_MACHINE_S)
    assert failed
    assert await Lease.objects.filter(node=daemon.row, socket_loss_pending=True).aexists()


async def test_simultaneous_hints_cause_one_read_and_one_push(monkeypatch: Any) -> None:
    daemon = await make_admitted_node("node-1")
    socket = Socket()
    first = await socket.open(daemon)
    read: list[int] = []
    told = push_socket.desired_set
    monkeypatch.setattr(push_socket, "desired_set", lambda *of: read.append(of[1]) or told(*of))
    newest = await change_with_hints(daemon, 5)
    assert newest == first.version + 5
    assert (await socket.pushed()).version == newest
    # A wake comes after whatever the five still had to say.
    unheard = await change_without_a_hint(daemon)
    await send_wake(daemon)
    assert (await socket.pushed()).version == unheard
    assert read == [first.version, newest]
    await socket.leave()


async def test_reconnected_daemon_is_pushed_only_a_newer_set() -> None:
    daemon = await make_admitted_node("node-1")
    socket = Socket()
    first = await socket.open(daemon)
    await socket.leave()
    again = Socket()
    await again.say(daemon, have_version=first.version)
    assert await again.receive_nothing(0.5)
    newer = await change_without_a_hint(daemon)
    await send_wake(daemon)
    assert (await again.pushed()).version == newer
    await again.leave()
    late = Socket()
    await late.say(daemon, have_version=first.version)
    assert (await late.pushed()).version == newer
    await late.leave()


async def test_socket_whose_hello_names_an_incarnation_that_is_not_admitted_is_closed() -> None:
    daemon = await make_admitted_node("node-1")
    socket = Socket()
    await socket.send_input({"type": "websocket.connect"})
    await socket.receive_output(SLOW_MACHINE_S)
    hello = Hello(incarnation="00000000-0000-4000-8000-000000000000")
    await socket.send_input({"type": "websocket.receive", "bytes": encode(hello)})
    said = await socket.receive_output(SLOW_MACHINE_S)
    assert (said["type"], said["code"]) == ("websocket.close", push_socket.SUPERSEDED)
    assert daemon.row.name == "node-1"
    await socket.leave()


async def test_socket_with_a_revoked_token_is_closed_without_a_push(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(auth, "CACHE_S", 0.0)
    daemon = await make_admitted_node("node-1")
    socket = Socket()
    await socket.open(daemon)
    revoked = NodeToken.objects.filter(node=daemon.row)
    await database_sync_to_async(revoked.update)(revoked_at=timezone.now())
    await change_with_hints(daemon, 1)
    said = await socket.receive_output(SLOW_MACHINE_S)
    assert (said["type"], said.get("code")) == ("websocket.close", push_socket.UNAUTHENTICATED)
    await socket.leave()
