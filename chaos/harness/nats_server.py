"""A real NATS server with JetStream, in a folder of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

from chaos.harness.installation import SLOW_MACHINE_S
from ginkgo_site.launcher.address import free_address

PROGRAM = shutil.which("nats-server") or "/usr/sbin/nats-server"
MISSING = (
    "nats-server was not found: tests and faults of feeds in JetStream need it. On Debian or Ubuntu"
    " run apt-get install nats-server, then start again."
)


class NatsServer:
    """One server process, which can be killed and started again on its data."""

    def __init__(self, folder: Path) -> None:
        """Choose a free port; start nothing. Raise AssertionError if nats-server is missing."""
        if not Path(PROGRAM).exists():
            raise AssertionError(MISSING)
        self.port = free_address("127.0.0.1", 0).port
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the address of the server."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server, and wait until it listens."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "-js", "-sd", str(self._folder / "data"), "-a", "127.0.0.1",
                 "-p", str(self.port)],
                stdout=log, stderr=log,
            )  # fmt: skip
        until = time.monotonic() + SLOW_MACHINE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None, f"nats-server ended: see {self._folder}/log"
                assert time.monotonic() < until, f"nats-server does not listen: {self._folder}/log"
                time.sleep(0.02)

    def kill(self) -> None:
        """Kill the server with kill -9, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    @property
    def pid(self) -> int:
        """Return the process id of the running server."""
        assert self._process is not None
        return self._process.pid
