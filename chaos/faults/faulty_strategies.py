"""Strategies that fail on purpose. Registered where GINKGO_STRATEGIES names this module."""

from __future__ import annotations

import contextlib
import decimal
import gc
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.events import Event
from portfolios.runtime.messages import Loaded, Result, encode_message
from portfolios.runtime.results import BatchResult
from portfolios.strategies.base import (
    Context,
    FieldError,
    OrderIntent,
    Report,
    Secret,
    Strategy,
    WarmUp,
)


class EventParameters(msgspec.Struct, frozen=True):
    """The event at which the strategy fails, counted from 1."""

    at_event: Annotated[int, msgspec.Meta(ge=1)] = 1


class SleepParameters(msgspec.Struct, frozen=True):
    """How long the strategy sleeps at each event."""

    seconds: Annotated[float, msgspec.Meta(ge=0)] = 1.0


class RaiseOnLoad(Strategy):
    """Fails to load."""

    name = "raise_on_load"

    def __init__(self, parameters: Any) -> None:
        raise RuntimeError("this strategy cannot be loaded")


class FailsAtEvent(Strategy):
    """Base of strategies that fail at their n-th event and at each later one."""

    parameters_type = EventParameters

    def initial(self) -> dict[str, Any]:
        return {"events": 0}

    def on_event(self, ctx: Context, state: dict[str, Any], event: Event) -> None:
        state["events"] += 1
        if state["events"] >= self.parameters.at_event:
            self.fail(event)

    def fail(self, event: Event) -> None:
        """Fail in the way of this strategy."""
        raise NotImplementedError


class RaiseAt(FailsAtEvent):
    """Raises KeyError at its n-th event."""

    name = "raise_at"

    def fail(self, event: Event) -> None:
        raise KeyError(event.symbol)


class Looper(FailsAtEvent):
    """Loops without end at its n-th event."""

    name = "looper"

    def fail(self, event: Event) -> None:
        while True:
            pass


class Exiter(FailsAtEvent):
    """Exits its process at its n-th event."""

    name = "exiter"

    def fail(self, event: Event) -> None:
        print("last line before exit")
        os._exit(3)


class Sleeper(Strategy):
    """Sleeps `seconds` at each event."""

    name = "sleeper"
    parameters_type = SleepParameters

    def on_event(self, ctx: Context, state: dict[str, Any], event: Event) -> None:
        time.sleep(self.parameters.seconds)


class ActionParameters(EventParameters, frozen=True):
    """The action of a misbehaving strategy, and the event from which on it acts."""

    action: str = "sleep"


class Misbehaving(FailsAtEvent):
    """Runs one of the functions of `Actions`, from its n-th event on."""

    name = "misbehaving"
    parameters_type = ActionParameters

    def fail(self, event: Event) -> None:
        getattr(Actions, self.parameters.action)()

    @classmethod
    def check(cls, parameters: Any, symbols: Any) -> list[FieldError]:
        if parameters.action in vars(Actions) and not parameters.action.startswith("_"):
            return []
        known = ", ".join(name for name in vars(Actions) if not name.startswith("_"))
        return [FieldError("action", "unknown_choice", f"action: choose from {known}.")]


class HookParameters(msgspec.Struct, frozen=True):
    """The hook that misbehaves, and how: it raises or loops."""

    hook: Literal["on_timer", "on_report", "warm_up"] = "on_timer"
    how: Literal["raise", "loop"] = "raise"


class MisbehavingInHook(Strategy):
    """Misbehaves in one hook; orders and sets timers, so that each hook is called."""

    name = "misbehaving_in_hook"
    parameters_type = HookParameters

    def on_event(
        self, ctx: Context, state: dict[str, Any], event: Event
    ) -> Iterable[OrderIntent] | None:
        ctx.set_timer(event.released + 1_000_000)
        if ctx.held(event.symbol) or ctx.has_open_order(event.symbol):
            return None
        return [OrderIntent(event.symbol, "buy", Decimal(1))]

    def warm_up(self) -> WarmUp:
        self._misbehave_in("warm_up")
        return WarmUp(events=5)

    def on_timer(self, ctx: Context, state: dict[str, Any], due: int) -> None:
        self._misbehave_in("on_timer")

    def on_report(self, ctx: Context, state: dict[str, Any], report: Report) -> None:
        self._misbehave_in("on_report")

    def _misbehave_in(self, hook: str) -> None:
        if self.parameters.hook != hook:
            return
        while self.parameters.how == "loop":
            pass
        raise KeyError(hook)


class KeyedParameters(msgspec.Struct, frozen=True):
    """A quantity, and a secret, which no configuration may hold."""

    quantity: int = 1
    api_key: Secret = ""


class Keyed(Strategy):
    """Has a secret as a parameter; orders nothing."""

    name = "keyed"
    parameters_type = KeyedParameters

    def on_event(self, ctx: Context, state: dict[str, Any], event: Event) -> None:
        """Order nothing."""


class CheckParameters(msgspec.Struct, frozen=True):
    """What `check` does: `loop` or `sleep` for `seconds`, `exit`, `raise`, `allocate`, `report`."""

    action: str = "report"
    seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0


class MisbehavingInCheck(Strategy):
    """Misbehaves when its parameters are checked; `report` reports pid, uid and the secret key."""

    name = "misbehaving_in_check"
    version = 7
    parameters_type = CheckParameters

    @classmethod
    def check(cls, parameters: Any, symbols: Any) -> list[FieldError]:
        until = time.monotonic() + parameters.seconds
        while parameters.action == "loop" and time.monotonic() < until:
            pass
        if parameters.action == "sleep":
            time.sleep(parameters.seconds)
        if parameters.action == "exit":
            os._exit(3)
        if parameters.action == "raise":
            raise KeyError("fast")
        if parameters.action == "allocate":
            Actions.allocate_fast()
        if parameters.action == "report":
            secret = os.environ.get("GINKGO_SECRET_KEY", "-")
            return [FieldError("action", "report", f"{os.getpid()} {os.getuid()} {secret}")]
        return []


_allocated: list[Any] = []  #: keeps what `Actions` allocates or opens


class Actions:
    """What a strategy may do to its own process and to others, by the name of `action`."""

    sleep = staticmethod(lambda: time.sleep(1e6))
    exit_process = staticmethod(lambda: sys.exit(4))
    kill_itself = staticmethod(lambda: os.kill(os.getpid(), signal.SIGKILL))
    stop_itself = staticmethod(lambda: os.kill(os.getpid(), signal.SIGSTOP))
    kill_parent = staticmethod(lambda: os.kill(os.getppid(), signal.SIGKILL))
    close_everything = staticmethod(lambda: os.closerange(0, 4096))
    remove_files = staticmethod(lambda: os.unlink(os.environ["GINKGO_FAULTY_PREY"]))

    @staticmethod
    def interrupt() -> None:
        raise KeyboardInterrupt

    @staticmethod
    def kill_all_processes() -> None:
        for pid in range(2, 65_536):
            if pid != os.getpid():
                os.kill(pid, signal.SIGKILL)

    @staticmethod
    def ignore_signals() -> None:
        for number in range(1, signal.NSIG):
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            pass

    @staticmethod
    def allocate_fast() -> None:
        while True:
            _allocated.append(bytearray(64 << 20))

    @staticmethod
    def allocate_slowly() -> None:
        _allocated.append(bytearray(4 << 20))

    @staticmethod
    def recurse() -> None:
        Actions.recurse()

    @staticmethod
    def fork() -> None:
        if os.fork() == 0:
            while True:
                pass

    @staticmethod
    def fork_daemons() -> None:
        """Leave looping grandchildren, each in its own session."""
        for _ in range(3):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    os.setsid()
                    while True:
                        pass
                os._exit(0)
        time.sleep(0.2)

    @staticmethod
    def fork_bomb() -> None:
        while True:
            os.fork()

    @staticmethod
    def spawn() -> None:
        subprocess.Popen(["sleep", "1000"], start_new_session=True)  # nosec B607 - on purpose

    @staticmethod
    def thread_bomb() -> None:
        while True:
            threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()

    @staticmethod
    def spin_in_a_thread() -> None:
        def spin() -> None:
            while True:
                pass

        if threading.active_count() < 4:
            threading.Thread(target=spin, daemon=True).start()

    @staticmethod
    def print_endlessly() -> None:
        while True:
            print("endless output")

    @staticmethod
    def print_and_raise() -> None:
        print("  about to raise")
        raise RuntimeError("raised after a print")

    @staticmethod
    def print_a_lot() -> None:
        for _ in range(1000):
            print("x" * 80)

    @staticmethod
    def write_to_stderr() -> None:
        while True:
            os.write(2, b"x" * 60_000 + b"\n")

    @staticmethod
    def write_long_line() -> None:
        while True:
            os.write(1, b"\x1b[2Jx" * 10_000)

    @staticmethod
    def open_files_endlessly() -> None:
        while True:
            _allocated.append(open(os.devnull))  # noqa: SIM115 - on purpose

    @staticmethod
    def fill_the_disk() -> None:
        with open(f"/tmp/ginkgo-faulty-{os.getpid()}", "wb") as file:  # nosec B108 - on purpose
            while True:
                file.write(bytes(1 << 20))

    @staticmethod
    def steal_secrets() -> None:
        """Try to read secrets, and print for each whether it was refused or stolen."""
        home = Path(os.environ["GINKGO_HOME"])
        hidden = os.environ["GINKGO_STRATEGY_HIDES"].split(os.pathsep)
        parent = os.getppid()  # the daemon has a lower pid, the other portfolios higher ones
        others = [1, *(p for p in range(parent - 20, parent + 100) if p != os.getpid())]
        attempts: dict[str, Callable[[], object]] = {
            "access file": lambda: (home / "access.json").read_bytes(),
            "encryption keys": lambda: (home / "secrets" / "encryption_keys").read_bytes(),
            "token file": lambda: Path(hidden[-1]).read_bytes(),
            "environment of others": lambda: _open_first(f"/proc/{p}/environ" for p in others),
            "memory of others": lambda: _open_first(f"/proc/{p}/mem" for p in others),
            "command lines": lambda: _open_first(f"/proc/{p}/cmdline" for p in others),
            "internet": lambda: socket.create_connection(("127.0.0.1", 9)),
            "local socket": lambda: socket.socket(socket.AF_UNIX),
            "own environment": lambda: os.environ["GINKGO_NODE_TOKEN"],
        }
        for name, attempt in attempts.items():
            try:
                attempt()
            except (PermissionError, KeyError):
                print(f"refused: {name}")
            except ConnectionRefusedError:  # the call was allowed, and nobody listens there
                print(f"stolen: {name}")
            else:
                print(f"stolen: {name}")
        raise RuntimeError(f"fails on purpose after {len(attempts)} attempts to read secrets")

    @staticmethod
    def send_garbage() -> None:
        _write_to_sockets(os.urandom(64))
        time.sleep(1e6)  # no other reply: the daemon kills it

    @staticmethod
    def announce_oversized_reply() -> None:
        _write_to_sockets(b"\xff\xff\xff\xff" + bytes(1000))
        time.sleep(1e6)  # no other reply: the daemon kills it

    @staticmethod
    def send_malformed_reply() -> None:
        _write_to_sockets(b"\0\0\0\x05hello")
        time.sleep(1e6)  # no other reply: the daemon kills it

    @staticmethod
    def report_future_seq() -> None:
        """Reply that events were handled that the daemon never sent."""
        result = BatchResult(
            from_seq=0, to_seq=10**12, state=None, orders=[], fills=[], equity=[], suppress=False
        )
        _write_to_sockets(encode_message(Result(result)))
        time.sleep(1e6)  # no other reply: the daemon kills it

    @staticmethod
    def reply_too_often() -> None:
        """Send three replies to one request."""
        _write_to_sockets(encode_message(Loaded(1, False)) * 3)

    @staticmethod
    def change_process_globals() -> None:
        """Change global state of the process, none of which may affect another portfolio."""
        os.chdir("/")
        os.environ.clear()
        os.umask(0o777)
        decimal.getcontext().prec = 1
        decimal.DefaultContext.prec = 1
        random.seed(1)
        gc.disable()
        sys.path.clear()
        time.time = lambda: 0.0
        PortfolioEngine.run = None  # type: ignore[assignment, method-assign]
        raise RuntimeError("the process was changed")


def _open_first(paths: Iterable[str]) -> None:
    """Open the first file that can be opened. Raise PermissionError if none can."""
    for path in paths:
        with contextlib.suppress(OSError), open(path, "rb"):
            return
    raise PermissionError


def _write_to_sockets(data: bytes) -> None:
    """Write into every socket of this process: one leads to the daemon."""
    for fd in range(3, 256):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, data)
