"""The TCP proxy ends in order while connections are being accepted."""

from __future__ import annotations

import gc
import socket
import time
from urllib.parse import urlsplit

import pytest

from chaos.harness.tcp_proxy import TcpProxy


def test_a_proxy_that_ends_during_connects_leaves_no_task(caplog: pytest.LogCaptureFixture) -> None:
    proxy = TcpProxy("http://127.0.0.1:9")
    with proxy.open():
        at = urlsplit(proxy.url)
        proxy._loop.call_soon_threadsafe(time.sleep, 0.3)  # so that it accepts them at the end
        calls = [socket.create_connection((at.hostname, at.port), 5) for _ in range(20)]
    gc.collect()
    assert [record.getMessage() for record in caplog.records] == []
    for call in calls:
        call.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((at.hostname, at.port), 5)
