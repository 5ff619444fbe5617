"""Client of the forkserver: start processes, and learn when they end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from portfolios.runtime.environment import HIDES_VARIABLE, strategy_environment
from scheduling.node_daemon.clock import boottime_s
from scheduling.node_daemon.errors import ChildFailed, ForkserverDied
from scheduling.node_daemon.forkserver import EXITED, LIST, READY, REPLY, REQUEST, STARTED
from scheduling.node_daemon.logs import LOG
from scheduling.node_daemon.process_output import LineSink, ProcessOutput

PROJECT_ROOT = Path(__file__).resolve().parents[2]
LIST_LIMIT_S = 120.0  #: external strategies may import large libraries, on a slow machine
RELAUNCH_S = 0.2  #: a forkserver that cannot start must not occupy a core
MAX_RELAUNCH_S = 30.0  #: RELAUNCH_S doubles up to this after each start without READY
PRELOAD_LIMIT_S = 120.0  #: for the packages of an environment
#: A forked process does not have the threads of its parent, and the result of a sum may depend on
#: their number.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}


@dataclass(frozen=True, slots=True)
class Artifact:
    """The unpacked artifact that a process runs."""

    sha256: str
    folder: Path


@dataclass(frozen=True, slots=True)
class PackageEnvironment:
    """A virtual environment with the dependencies of artifacts."""

    sha256: str  #: of its lock
    python: Path  #: its interpreter
    modules: tuple[str, ...]  #: imported before processes are forked
    artifacts: Path  #: the folder of all artifacts


class SpawnedProcess:
    """A requested process: its pid once it runs, its wait status once it has ended."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.pid: asyncio.Future[int] = loop.create_future()
        self.status: asyncio.Future[int] = loop.create_future()
        self.output: ProcessOutput | None = None
        self.vanished = False  #: ended with its forkserver, perhaps by the fault of another process

    def last_output(self) -> str:
        """Return the end of the process's output as one line, or an empty text."""
        return self.output.last_output() if self.output is not None else ""

    def note(self, text: str) -> None:
        """Add a text about the process to its output."""
        if self.output is not None:
            self.output.note(text)

    def kill(self) -> None:
        """Kill the process and its group, if it was started."""
        if self.pid.done() and not self.pid.exception():
            kill_group(self.pid.result())

    def mark_gone(self) -> None:
        """Mark the process as ended together with its forkserver."""
        self.vanished = True
        if not self.pid.done():
            self.pid.set_exception(ForkserverDied(process_was_busy=False))
            self.pid.exception()  # mark it as retrieved: there may be no waiter
        if not self.status.done():
            self.status.set_result(signal.SIGKILL)  # the wait status of a killed process


class ForkserverClient:
    """Starts the forkserver, and children through it. Create and launch it in the main thread.

    The parent-death signal belongs to the thread that starts a process; only the main thread lives
    as long as the daemon.
    """

    def __init__(
        self,
        memory_mb: int,
        *,
        sandboxed: bool = True,
        hidden: str = "",
        environment: PackageEnvironment | None = None,
    ) -> None:
        """Start nothing yet. `hidden`: files that children may not read, separated as in PATH.

        Without `environment`, children have the node's own packages.
        """
        self.used_at_s = boottime_s()  #: when a process was last requested, or last ended
        self._memory_mb = memory_mb
        self._sandboxed = sandboxed
        self._hidden_files = hidden
        self._environment = environment
        self._starts_without_ready = 0
        self._numbers = itertools.count(1)  #: ids of requests
        self._processes: dict[int, SpawnedProcess] = {}  #: by the id of the request
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def launch(self) -> None:
        """Start the forkserver. It preloads while the daemon continues."""
        ours, theirs = socket.socketpair()
        arguments = [str(theirs.fileno()), str(os.getpid()), str(self._memory_mb)]
        arguments.append(str(int(self._sandboxed)))
        python, variables = sys.executable, _child_environment(self._hidden_files)
        if (environment := self._environment) is not None:
            # After a start that failed, preload nothing: a package may have ended the forkserver
            # while it was imported. Children import it themselves.
            modules = environment.modules if self._starts_without_ready == 0 else ()
            arguments.append(json.dumps([str(PROJECT_ROOT), str(environment.artifacts), modules]))
            python, variables = str(environment.python), variables | ONE_THREAD
        self._starts_without_ready += 1
        self._server = subprocess.Popen(
            [python, "-m", "scheduling.node_daemon.forkserver", *arguments],
            env=variables,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # the daemon handles Ctrl-C of the terminal
        )
        theirs.close()
        ours.setblocking(False)
        self._control = ours
        if self._environment is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(PRELOAD_LIMIT_S, self._end_if_not_ready, self._server)

    def _end_if_not_ready(self, server: subprocess.Popen[bytes]) -> None:
        """Kill a forkserver that still preloads after its limit; `listen` starts a new one."""
        if self._server is server and self._starts_without_ready:
            LOG.error("%s was not ready within %g s: ending it", self, PRELOAD_LIMIT_S)
            server.kill()

    async def listen(self) -> None:
        """Apply replies of the forkserver until cancelled. Replace a forkserver that ended."""
        loop = asyncio.get_running_loop()
        while True:
            assert self._control is not None
            data = b""
            with contextlib.suppress(ConnectionResetError):
                while chunk := await loop.sock_recv(self._control, 65_536):
                    data += chunk
                    complete = len(data) - len(data) % REPLY.size
                    for reply in REPLY.iter_unpack(data[:complete]):
                        self._handle_reply(*reply)
                    data = data[complete:]
            LOG.error("%s ended, and its children with it: starting a new one", self)
            self._end_server()
            for process in self._processes.values():
                process.mark_gone()
            self._processes.clear()
            failures = max(self._starts_without_ready - 1, 0)
            await asyncio.sleep(min(RELAUNCH_S * 2.0**failures, MAX_RELAUNCH_S))
            self.launch()

    def __str__(self) -> str:
        environment = self._environment
        if environment is None:
            return "the forkserver"
        return f"the forkserver of environment {environment.sha256[:12]}"

    @property
    def is_idle(self) -> bool:
        """Return whether the forkserver has no children."""
        return not self._processes

    def _handle_reply(self, kind: bytes, number: int, pid: int, status: int) -> None:
        """Note that the forkserver is ready, or that a process was started or has ended."""
        if kind == READY:
            self._starts_without_ready = 0
            return
        process = self._processes.get(number)
        if process is None:
            return
        if kind == STARTED and not process.pid.done():
            process.pid.set_result(pid)
        elif kind == EXITED:
            del self._processes[number]
            self.used_at_s = boottime_s()
            if not process.status.done():
                process.status.set_result(status)

    def spawn(
        self, kind: bytes, name: str, sink: LineSink | None = None, artifact: Artifact | None = None
    ) -> tuple[socket.socket, SpawnedProcess]:
        """Request a process: SERVE or LIST. Return the daemon's end of its socket, and the process.

        The lines that it prints are logged with `name`, and given to `sink`. While the forkserver
        is being replaced, no process is started, and the returned one is marked as gone.
        """
        self.used_at_s = boottime_s()
        code = b""
        if artifact is not None:
            code = json.dumps([artifact.sha256, str(artifact.folder)]).encode()
        assert self._control is not None
        ours, theirs = socket.socketpair()
        read_end, write_end = os.pipe()
        number = next(self._numbers)
        process = self._processes[number] = SpawnedProcess()
        try:
            request = REQUEST.pack(kind, number, len(code)) + code
            socket.send_fds(self._control, [request], [theirs.fileno(), write_end])
        except OSError:  # the forkserver is being replaced
            del self._processes[number]
            process.mark_gone()
        finally:
            theirs.close()
            os.close(write_end)
        process.output = ProcessOutput(read_end, name, sink)
        ours.setblocking(False)
        return ours, process

    async def strategies(self) -> dict[str, int]:
        """Return name → version of every strategy, listed by a child process.

        Raise ChildFailed if it does not answer in time. Strategies that fail to load are logged.
        """
        sock, process = self.spawn(LIST, "strategies")
        reader, writer = await asyncio.open_unix_connection(sock=sock)
        try:
            async with asyncio.timeout(LIST_LIMIT_S):
                listing = json.loads(await reader.read())
        except (TimeoutError, ValueError):
            process.kill()
            printed = process.last_output()
            raise ChildFailed(
                "load",
                "the strategies of this node cannot be listed: the process that imports them ended "
                f"or took over {LIST_LIMIT_S:g} s; its last output: {printed or 'none'}",
            ) from None
        finally:
            writer.close()
        for problem in listing["problems"]:
            LOG.warning("%s", problem)
        return dict(listing["versions"])

    def close(self) -> None:
        """Kill every child and the forkserver."""
        for process in self._processes.values():
            process.kill()
        self._end_server()

    def _end_server(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._server is not None:
            self._server.kill()
            self._server.wait()


def kill_group(pid: int) -> None:
    """Kill a portfolio process and its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)  # it may not have created its group yet


def _child_environment(hidden: str = "") -> dict[str, str]:
    """Return the environment variables of children: the allowed ones, the path and a fixed seed.

    `hidden`: files that they may not read, separated as in PATH.
    """
    environment = strategy_environment(os.environ)
    hides = (environment.get(HIDES_VARIABLE, ""), hidden)
    environment[HIDES_VARIABLE] = os.pathsep.join(filter(None, hides))
    paths = [str(PROJECT_ROOT), *(os.path.abspath(path) for path in sys.path)]
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    environment["PYTHONHASHSEED"] = "0"
    return environment
