"""One supervised process: start it, notice its end, start it again, stop it."""

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
from ginkgo_site.launcher.postgres import EmbeddedPostgres
from ginkgo_site.launcher.spawn import spawn

#: A process that lived shorter than this died of its start, and is not started again at once.
QUICK_DEATH_S = 10.0
_LONGEST_WAIT_S = 30.0
_AFTER_REFUSAL_S = 5.0


class Startable(Protocol):
    """Something that can be started as a process, again and again."""

    def start(self) -> subprocess.Popen[bytes]:
        """Start it and return the process."""


class Program:
    """A command line with its environment and log."""

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
        """Start it in a session of its own, its output appended to the log."""
        with append_to(self._log) as output:
            return spawn(
                self._argv,
                environment=self._environment,
                output=output,
                folder=CHECKOUT,
                death_signal=self._death_signal,
            )


class PostgresProgram:
    """The embedded server as something to start again."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server

    def start(self) -> subprocess.Popen[bytes]:
        """Clear what a killed server left, then start."""
        self._server.prepare()
        return self._server.start()


class Service:
    """A process that should be there.

    `look` is called often with the present time and starts it again when it is due: at once, or
    `restart_after_s` after its end; one that keeps dying of its start waits 1, 2, 4 … 30 s.
    """

    def __init__(
        self,
        name: str,
        program: Startable,
        say: Callable[[str], None],
        *,
        restart_after_s: float = 0.0,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self._program = program
        self._say = say
        self._restart_after_s = restart_after_s
        self._stop_signal = stop_signal
        self._started_at = 0.0
        self._start_at: float | None = None
        self._quick_deaths = 0

    @property
    def is_running(self) -> bool:
        """Whether the process was there at the last look."""
        return self.process is not None and self.process.poll() is None

    def start(self, now: float) -> None:
        """Start the process."""
        self.process = self._program.start()
        self._started_at = now
        self._start_at = None

    def poll(self, now: float) -> None:
        """Notice an end and start again when it is time."""
        if self._start_at is not None:
            if now >= self._start_at:
                self._start_again(now)
            return
        if self.process is None:
            return
        code = self.process.poll()
        if code is None:
            return
        self._end_what_it_left()
        wait_s = self._wait_before_restart(lived_s=now - self._started_at)
        self._start_at = now + wait_s
        when = "at once" if wait_s == 0 else f"in {wait_s:g} s"
        self._say(f"{self.name} ended ({_describe(code)}); it is started again {when}.")

    def terminate(self) -> None:
        """Send the stop signal; the process is not started again."""
        self._start_at = None
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(self._stop_signal)

    def kill(self) -> None:
        """End the process and all it started, now."""
        self._start_at = None
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._end_what_it_left()

    def forget(self) -> None:
        """Clean up after a process that ended as asked."""
        if self.process is not None and self.process.poll() is not None:
            self._end_what_it_left()

    def _start_again(self, now: float) -> None:
        try:
            self.start(now)
        except StartupError as reason:
            self._start_at = now + _AFTER_REFUSAL_S
            self._say(f"{self.name}: {reason} The next try is in {_AFTER_REFUSAL_S:g} s.")

    def _wait_before_restart(self, lived_s: float) -> float:
        if lived_s >= QUICK_DEATH_S:
            self._quick_deaths = 0
            return self._restart_after_s
        self._quick_deaths += 1
        if self._quick_deaths == 1:
            return self._restart_after_s
        again_s = min(2.0 ** (self._quick_deaths - 2), _LONGEST_WAIT_S)
        return max(again_s, self._restart_after_s)

    def _end_what_it_left(self) -> None:
        """Kill the rest of its session: a queue worker's forks do not notice their parent's death.

        The group's number is not given away while one of its members lives, so this cannot hit a
        stranger.
        """
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # nothing was left


def wait_for_end(services: Sequence[Service], limit_s: float, hurry: Callable[[], bool]) -> None:
    """Wait until all have ended or the time is over or somebody is in a hurry; kill the rest."""
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
