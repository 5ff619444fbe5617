"""Start, restart and stop one supervised process."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ginkgo_site.env import CHECKOUT
from ginkgo_site.launcher.errors import StartupError
from ginkgo_site.launcher.logfiles import append_to
from ginkgo_site.launcher.spawn import spawn

#: A process that exits sooner than this failed at its start, and is not restarted at once.
QUICK_DEATH_S = 10.0
_MAX_BACK_OFF_S = 30.0
_RETRY_REFUSED_START_S = 5.0


class Startable(Protocol):
    """Anything that can be started as a process, repeatedly."""

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process and return it."""


class Program:
    """A command line, its environment and its log file."""

    def __init__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        self._argv = argv
        self._environment = environment
        self._log = log
        self._death_signal = death_signal

    def start(self) -> subprocess.Popen[bytes]:
        """Start the command in its own session; append its output to the log."""
        with append_to(self._log) as output:
            return spawn(
                self._argv,
                environment=self._environment,
                output=output,
                folder=CHECKOUT,
                death_signal=self._death_signal,
            )


class Service:
    """A process that is kept running.

    Call `poll` often with the current time. It restarts the process at once, or `restart_after_s`
    after its end; a process that keeps failing at its start is retried after 1, 2, 4 … 30 s.
    """

    def __init__(
        self,
        name: str,
        program: Startable,
        say: Callable[[str], None],
        *,
        restart_after_s: float = 0.0,
    ) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self._program = program
        self._say = say
        self._restart_after_s = restart_after_s
        self._started_at = 0.0
        self._start_at: float | None = None  #: when to restart the process, which has exited
        self._quick_deaths = 0

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, now: float) -> None:
        self.process = self._program.start()
        self._started_at = now
        self._start_at = None

    def poll(self, now: float) -> None:
        """Detect that the process has exited, and restart it when it is due."""
        if self._start_at is not None:
            if now >= self._start_at:
                self._restart(now)
            return
        if self.process is None:
            return
        code = self.process.poll()
        if code is None:
            return
        self._kill_session()
        wait_s = self._wait_before_restart(lived_s=now - self._started_at)
        self._start_at = now + wait_s
        when = "at once" if wait_s == 0 else f"in {wait_s:g} s"
        self._say(f"{self.name} exited ({_describe(code)}); restarting {when}.")

    def terminate(self) -> None:
        """Send SIGTERM. The process will not be restarted."""
        self._start_at = None
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def kill(self) -> None:
        """Kill the process and its session."""
        self._start_at = None
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._kill_session()

    def _restart(self, now: float) -> None:
        try:
            self.start(now)
        except StartupError as reason:
            self._start_at = now + _RETRY_REFUSED_START_S
            self._say(f"{self.name}: {reason} Next try in {_RETRY_REFUSED_START_S:g} s.")

    def _wait_before_restart(self, lived_s: float) -> float:
        """Return the seconds until the restart of a process that lived for `lived_s`."""
        if lived_s >= QUICK_DEATH_S:
            self._quick_deaths = 0
            return self._restart_after_s
        self._quick_deaths += 1
        if self._quick_deaths == 1:
            return self._restart_after_s
        again_s = min(2.0 ** (self._quick_deaths - 2), _MAX_BACK_OFF_S)
        return max(again_s, self._restart_after_s)

    def _kill_session(self) -> None:
        """Kill the rest of the session: a queue worker's forks do not notice their parent's death.

        The kernel does not reuse the number of a process group that has members, so this cannot hit
        an unrelated process.
        """
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # no process was left


def wait_for_end(services: Sequence[Service], limit_s: float, hurry: Callable[[], bool]) -> None:
    """Wait until all have exited, `limit_s` is over or `hurry()` is true; kill the rest."""
    deadline = time.monotonic() + limit_s
    while any(s.is_running for s in services) and time.monotonic() < deadline and not hurry():
        time.sleep(0.03)
    for service in services:
        service.kill()


def _describe(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
