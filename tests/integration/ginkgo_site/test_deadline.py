"""Limits on the client side: silent database servers are given up, answering ones are not."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import psycopg
import pytest

from chaos.harness.installation import SLOW_MACHINE_S
from ginkgo_site import deadline
from ginkgo_site.database import CONNECTION_DEFAULTS, conninfo, django_database
from ginkgo_site.deadline import (
    AVOID_S,
    RETRY_S,
    AsyncConnection,
    Connection,
    ServerSilent,
    _Hosts,
    limit_statements,
    statement_limit,
)
from ginkgo_site.sessions import merged_options


class MuteServer:
    """A server that lets clients in, answers no statement, and counts what it received."""

    GREETING = b"R" + struct.pack("!ii", 8, 0) + b"Z" + struct.pack("!ic", 5, b"I")

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.closed_by_client = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=u dbname=d sslmode=disable gssencmode=disable"

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._greet, args=(client,), daemon=True).start()

    def _greet(self, client: socket.socket) -> None:
        client.recv(1 << 16)
        client.sendall(self.GREETING)
        while client.recv(1 << 16):
            pass
        self.closed_by_client.set()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def mute() -> Iterator[MuteServer]:
    server = MuteServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def no_process_limit() -> Iterator[None]:
    yield
    limit_statements(None)


def test_a_statement_without_an_answer_ends_at_its_limit_and_closes_the_socket(
    mute: MuteServer,
) -> None:
    limit_statements(0.5)
    connection = Connection.connect(mute.url, autocommit=True)
    began = time.monotonic()
    with pytest.raises(ServerSilent, match=r"did not answer within 0\.5 s; this connection was"):
        connection.execute("SELECT 1")
    assert issubclass(ServerSilent, psycopg.OperationalError)
    assert 0.5 <= time.monotonic() - began < SLOW_MACHINE_S
    assert connection.closed
    assert connection.silent
    assert mute.closed_by_client.wait(SLOW_MACHINE_S)


def test_silent_server_ends_a_statement_without_blocking_the_event_loop(mute: MuteServer) -> None:
    class Ours(AsyncConnection):
        limit_s = 0.5

    async def scenario() -> int:
        connection = await Ours.connect(mute.url, autocommit=True)
        statement = asyncio.create_task(connection.execute("SELECT 1"))
        turns = 0
        while not statement.done():
            await asyncio.sleep(0.02)
            turns += 1
        with pytest.raises(ServerSilent):
            await statement
        return turns

    # A busy machine may stand still for the half second.
    turns = (asyncio.run(asyncio.wait_for(scenario(), SLOW_MACHINE_S)) for _ in range(10))
    assert any(each > 5 for each in turns)


def test_a_context_may_override_the_statement_limit_of_its_process(mute: MuteServer) -> None:
    limit_statements(60)
    connection = Connection.connect(mute.url, autocommit=True)
    with statement_limit(0.25), pytest.raises(ServerSilent, match=r"0\.25 s"):
        connection.execute("SELECT 1")


@pytest.mark.django_db
def test_statement_answered_in_time_returns_its_rows_and_keeps_its_connection() -> None:
    limit_statements(30)
    with Connection.connect(conninfo(), autocommit=True) as connection:
        assert connection.execute("SELECT 7 FROM pg_sleep(0.6)").fetchone() == (7,)
        limit_statements(0.5)
        assert connection.execute("SELECT 8").fetchone() == (8,)
        assert connection.is_fresh
        assert not connection.silent


@pytest.mark.django_db
def test_a_connection_that_its_server_ended_is_not_fresh_however_recent_its_last_answer() -> None:
    connection = Connection.connect(conninfo(), autocommit=True)
    connection.execute("SELECT 1")
    with psycopg.connect(conninfo(), autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])
    connection.answered_at = time.monotonic()
    assert not connection.is_fresh
    with pytest.raises(psycopg.OperationalError):
        connection.check()


@pytest.mark.django_db
def test_a_wait_for_notifications_has_no_statement_limit() -> None:
    limit_statements(SLOW_MACHINE_S)
    with Connection.connect(conninfo(), autocommit=True) as connection:
        connection.execute("LISTEN x")
        limit_statements(0.25)
        assert list(connection.notifies(timeout=0.8)) == []
        limit_statements(SLOW_MACHINE_S)
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.django_db
def test_an_answer_that_arrived_in_time_while_this_process_was_busy_is_accepted() -> None:
    class Busy(Connection):
        def wait(self, gen: object, *args: object, **options: object) -> object:  # type: ignore
            def slow() -> object:
                ready = yield next(gen)  # type: ignore
                select.select([self.pgconn.socket], [], [], SLOW_MACHINE_S)
                time.sleep(1.0)  # the answer lies in the socket meanwhile
                while True:
                    try:
                        ready = yield gen.send(ready)  # type: ignore
                    except StopIteration as stop:
                        return stop.value

            return super().wait(slow(), *args, **options)  # type: ignore[arg-type]

    with Connection.connect(conninfo(), autocommit=True) as plain, statement_limit(0.5):
        busy = Busy(plain.pgconn)
        assert busy.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.django_db
def test_the_statement_limit_holds_in_a_forked_process_too(mute: MuteServer) -> None:
    limit_statements(0.5)
    with Connection.connect(conninfo(), autocommit=True) as connection:
        connection.execute("SELECT 1")  # the thread runs here, and is not inherited
    child = os.fork()
    if child == 0:
        try:
            Connection.connect(mute.url, autocommit=True).execute("SELECT 1")
        except ServerSilent:
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


# --- addresses -----------------------------------------------------------------------------------


def test_every_connection_notices_a_dead_host_unless_its_address_says_otherwise() -> None:
    address = "postgresql://u@db/g?tcp_user_timeout=900&connect_timeout=4"
    options = django_database(address)["OPTIONS"]
    assert (options["tcp_user_timeout"], options["connect_timeout"]) == ("900", "4")
    assert options["keepalives_idle"] == CONNECTION_DEFAULTS["keepalives_idle"] == "3"
    plain = django_database("postgresql://u@db/g")["OPTIONS"]
    assert (plain["connect_timeout"], plain["tcp_user_timeout"]) == ("2", "5000")
    assert (plain["keepalives_interval"], plain["keepalives_count"]) == ("2", "3")
    assert "target_session_attrs" not in plain


def test_address_with_several_hosts_connects_to_the_primary_unless_it_says_otherwise() -> None:
    database = django_database("postgresql://u:p@a:1,b:2/g")
    assert (database["HOST"], database["PORT"]) == ("a,b", "1,2")
    assert database["OPTIONS"]["target_session_attrs"] == "read-write"
    other = django_database("postgresql://u@a,b/g?target_session_attrs=any")
    assert other["OPTIONS"]["target_session_attrs"] == "any"


def test_silent_database_hosts_are_tried_last_and_by_some_attempts_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: now))
    hosts, options = _Hosts(), merged_options("host=a,b,c port=1,2,3", {})
    assert hosts.order(options) == {"host": "a,b,c", "port": "1,2,3"}
    hosts.note_silence("a", "1")
    tried = hosts.order(options)
    assert tried == {"host": "b,c,a", "port": "2,3,1"}, "it may have been slow once"
    assert hosts.order(options) == {"host": "b,c", "port": "2,3"}, "two attempts wait for it"
    now += 2
    hosts.note_attempt(tried, None, 2.0)  # it did not answer
    assert hosts.order(options)["host"] == "b,c"
    now += RETRY_S - 2
    assert hosts.order(options)["host"] == "b,c,a"
    now += RETRY_S
    hosts.note_attempt(hosts.order(options), ("b", "2"), 0.1)  # not asked after all
    assert hosts.order(options)["host"] == "b,c"
    now += RETRY_S
    hosts.note_attempt(hosts.order(options), None, 0.1)  # all refused, so it answers
    assert hosts.order(options)["host"] == "a,b,c"
    for pair in (("a", "1"), ("b", "2"), ("c", "3")):
        hosts.note_silence(*pair)
    assert hosts.order(options)["host"] == hosts.order(options)["host"] == "a,b,c", (
        "no host is tried"
    )
    hosts.note_attempt(hosts.order(options), ("b", "2"), 2.0)
    assert hosts.order(options)["host"] == "b"
    now += AVOID_S
    assert hosts.order(options)["host"] == "a,b,c"


def test_hosts_are_read_from_options_and_address_and_silent_ones_ordered_last() -> None:
    hosts = _Hosts()
    hosts.note_silence("a", "1")
    found = hosts.order(merged_options("host=x", {"host": "a,b", "port": "1"}))
    assert found == {"host": "b,a", "port": "1,1"}
    assert hosts.order(merged_options("host=a port=1", {})) == {}


def test_only_the_first_connection_waits_for_a_host_that_does_not_answer(mute: MuteServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:  # the kernel accepts, nobody answers
        port = frozen.getsockname()[1]
        address = f"host=127.0.0.1,127.0.0.1 port={port},{mute.port} connect_timeout=2 user=u"
        address += " dbname=d sslmode=disable gssencmode=disable"
        for _ in range(2):
            Connection.connect(address).close()
        frozen.setblocking(False)
        frozen.accept()[0].close()  # of the first connection
        with pytest.raises(BlockingIOError):
            frozen.accept()
