"""What processes tell systemd, received on a real socket as systemd does."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduling import systemd
from tests.support.python_process import run_python


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield receiver


def test_event_loop_reports_readiness_to_systemd_and_then_each_watchdog_interval(
    told: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "INTERVAL_S", 0.01)

    async def turn() -> list[bytes]:
        alive = asyncio.create_task(systemd.tell_alive())
        received = [await asyncio.to_thread(told.recv, 100) for _ in range(3)]
        alive.cancel()
        return received

    assert asyncio.run(turn()) == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]


#: A process of its own: other tests of this one may listen.
SERVER = """
import asyncio, os, socket
from scheduling import systemd

async def answer(reader, writer):
    writer.close()

def told(receiver):
    try:
        return receiver.recv(100).decode()
    except BlockingIOError:
        return "nothing"

async def main():
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind("")
    receiver.setblocking(False)
    os.environ["NOTIFY_SOCKET"] = receiver.getsockname().decode().replace("\\0", "@", 1)
    systemd.LISTENING_POLL_S = 0
    alive = asyncio.create_task(systemd.tell_alive_once_listening())
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    for _ in range(20):
        await asyncio.sleep(0)
    print(told(receiver))
    async with await asyncio.start_server(answer, "127.0.0.1", 0):
        receiver.setblocking(True)
        print(await asyncio.to_thread(told, receiver))

asyncio.run(main())
"""


def test_server_reports_readiness_to_systemd_once_its_port_is_open() -> None:
    ended = run_python("-c", SERVER)
    assert (ended.stdout.split(), ended.stderr) == (["nothing", "READY=1"], "")


def test_each_watchdog_report_touches_the_file_that_a_probe_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "alive"
    monkeypatch.setenv("GINKGO_ALIVE_FILE", str(file))
    systemd.tell(systemd.STOPPING)
    assert not file.exists()
    systemd.Alive().tell()
    os.utime(file, (0, 0))
    systemd.tell(systemd.ALIVE)
    assert file.stat().st_mtime > 0


def test_watchdog_is_told_at_most_once_an_interval(
    told: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("scheduling.systemd.time.monotonic", lambda: now)
    alive = systemd.Alive()
    alive.tell()
    alive.tell()
    now += systemd.INTERVAL_S
    alive.tell()
    systemd.tell(systemd.STOPPING)
    received = [told.recv(100) for _ in range(3)]
    assert received == [b"READY=1\nWATCHDOG=1", b"WATCHDOG=1", b"STOPPING=1"]


@pytest.mark.parametrize("address", ["", "/nobody/listens", "vsock:2:1234"])
def test_notifying_without_a_listener_has_no_effect(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("GINKGO_ALIVE_FILE", "/no/such/folder/alive")
    systemd.tell(systemd.READY)
    systemd.tell(systemd.ALIVE)
