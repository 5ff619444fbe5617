"""Strategies that fail on purpose, for tests of what happens then.

They exist only where GINKGO_STRATEGIES names this module.
"""

from __future__ import annotations

import contextlib
import decimal
import gc
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from typing import Annotated, Any

import msgspec

from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.events import Event
from portfolios.runtime.messages import Loaded, Result, encode_message
from portfolios.runtime.results import BatchResult
from portfolios.strategies.base import Context, FieldError, Strategy


class EventParameters(msgspec.Struct, frozen=True):
    """At which of its events the strategy does it, counted from 1."""

    at_event: Annotated[int, msgspec.Meta(ge=1)] = 1


class SleepParameters(msgspec.Struct, frozen=True):
    """How long each event takes."""

    seconds: Annotated[float, msgspec.Meta(ge=0)] = 1.0


class RaiseOnLoad(Strategy):
    """Cannot be loaded."""

    name = "raise_on_load"

    def __init__(self, parameters: Any) -> None:
        raise RuntimeError("this strategy cannot be loaded")


class FailsAtEvent(Strategy):
    """Base of those that wait for their n-th event."""

    parameters_type = EventParameters

    def initial(self) -> dict[str, Any]:
        return {"events": 0}

    def on_event(self, ctx: Context, state: dict[str, Any], event: Event) -> None:
        state["events"] += 1
        if state["events"] >= self.parameters.at_event:
            self.fail(event)

    def fail(self, event: Event) -> None:
        """Do what the strategy is for."""
        raise NotImplementedError


class RaiseAt(FailsAtEvent):
    """Raises at its n-th event and at each after it."""

    name = "raise_at"

    def fail(self, event: Event) -> None:
        raise KeyError(event.symbol)


class Looper(FailsAtEvent):
    """Never comes back from its n-th event."""

    name = "looper"

    def fail(self, event: Event) -> None:
        while True:
            pass


class Exiter(FailsAtEvent):
    """Ends its process at its n-th event."""

    name = "exiter"

    def fail(self, event: Event) -> None:
        print("my last words")
        os._exit(3)


class Sleeper(Strategy):
    """Takes `seconds` for each event."""

    name = "sleeper"
    parameters_type = SleepParameters

    def on_event(self, ctx: Context, state: dict[str, Any], event: Event) -> None:
        time.sleep(self.parameters.seconds)


class ActionParameters(EventParameters, frozen=True):
    """What a misbehaving strategy does, and from which of its events on."""

    what: str = "sleep"


class Misbehaving(FailsAtEvent):
    """Does from its n-th event on what `what` names: one of the functions of `Actions`."""

    name = "misbehaving"
    parameters_type = ActionParameters

    def fail(self, event: Event) -> None:
        getattr(Actions, self.parameters.what)()

    @classmethod
    def check(cls, parameters: Any, symbols: Any) -> list[FieldError]:
        if parameters.what in vars(Actions) and not parameters.what.startswith("_"):
            return []
        known = ", ".join(name for name in vars(Actions) if not name.startswith("_"))
        return [FieldError("what", "unknown_choice", f"what: choose from {known}.")]


class CheckParameters(msgspec.Struct, frozen=True):
    """What its check does, and for how long."""

    what: str = "report"
    seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0


class MisbehavingInCheck(Strategy):
    """Misbehaves where parameters are checked, not at an event."""

    name = "misbehaving_in_check"
    version = 7
    parameters_type = CheckParameters

    @classmethod
    def check(cls, parameters: Any, symbols: Any) -> list[FieldError]:
        until = time.monotonic() + parameters.seconds
        while parameters.what == "loop" and time.monotonic() < until:
            pass
        if parameters.what == "sleep":
            time.sleep(parameters.seconds)
        if parameters.what == "exit":
            os._exit(3)
        if parameters.what == "raise":
            raise KeyError("fast")
        if parameters.what == "eat":
            Actions.eat_fast()
        if parameters.what == "report":
            seen = [str(os.getpid()), str(os.getuid()), os.environ.get("GINKGO_SECRET_KEY", "-")]
            return [FieldError("what", "report", " ".join(seen))]
        return []


_allocated: list[Any] = []


class Actions:
    """What strategies have done to the process they run in, and tried to do to others."""

    @staticmethod
    def sleep() -> None:
        time.sleep(1e6)

    @staticmethod
    def leave() -> None:
        sys.exit(4)

    @staticmethod
    def interrupt() -> None:
        raise KeyboardInterrupt

    @staticmethod
    def kill_itself() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @staticmethod
    def stop_itself() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    @staticmethod
    def kill_its_parent() -> None:
        os.kill(os.getppid(), signal.SIGKILL)

    @staticmethod
    def kill_everybody() -> None:
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) not in (1, os.getpid()):
                os.kill(int(entry), signal.SIGKILL)

    @staticmethod
    def hear_no_signal() -> None:
        for number in range(1, signal.NSIG):
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            pass

    @staticmethod
    def eat_fast() -> None:
        while True:
            _allocated.append(bytearray(64 << 20))

    @staticmethod
    def eat_slowly() -> None:
        _allocated.append(bytearray(4 << 20))

    @staticmethod
    def recurse() -> None:
        Actions.recurse()

    @staticmethod
    def recurse_without_limit() -> None:
        sys.setrecursionlimit(1 << 30)
        Actions.recurse()

    @staticmethod
    def fork() -> None:
        if os.fork() == 0:
            while True:
                pass

    @staticmethod
    def fork_away() -> None:
        """Leave grandchildren in sessions of their own, which loop."""
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
        subprocess.Popen(["sleep", "1000"], start_new_session=True)  # nosec B607 - the mistake itself

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
    def print_for_ever() -> None:
        while True:
            print("nobody reads this")

    @staticmethod
    def print_a_lot() -> None:
        for _ in range(1000):
            print("x" * 80)

    @staticmethod
    def write_to_stderr() -> None:
        while True:
            os.write(2, b"x" * 60_000 + b"\n")

    @staticmethod
    def write_one_line() -> None:
        while True:
            os.write(1, b"\x1b[2Jx" * 10_000)

    @staticmethod
    def close_everything() -> None:
        os.closerange(0, 4096)

    @staticmethod
    def open_for_ever() -> None:
        while True:
            _allocated.append(open(os.devnull))  # noqa: SIM115 - that is the mistake

    @staticmethod
    def fill_the_disk() -> None:
        with open(f"/tmp/ginkgo-faulty-{os.getpid()}", "wb") as file:  # nosec B108 - likewise
            while True:
                file.write(bytes(1 << 20))

    @staticmethod
    def remove_files() -> None:
        os.unlink(os.environ["GINKGO_FAULTY_PREY"])

    @staticmethod
    def garbage() -> None:
        _write_to_sockets(os.urandom(64))
        time.sleep(1e6)

    @staticmethod
    def announce_too_much() -> None:
        _write_to_sockets(b"\xff\xff\xff\xff" + bytes(1000))
        time.sleep(1e6)

    @staticmethod
    def no_message() -> None:
        _write_to_sockets(b"\0\0\0\x05hello")
        time.sleep(1e6)

    @staticmethod
    def claim_the_future() -> None:
        result = BatchResult(0, 10**12, None, [], [], [], False)
        _write_to_sockets(encode_message(Result(result)))
        time.sleep(1e6)

    @staticmethod
    def chatter() -> None:
        """Answer more often than asked."""
        _write_to_sockets(encode_message(Loaded(1, False)) * 3)

    @staticmethod
    def change_the_process() -> None:
        """Change everything a process shares with itself; none of it may reach another."""
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


def _write_to_sockets(data: bytes) -> None:
    """Write into every socket this process has: one leads to the daemon."""
    for fd in range(3, 256):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, data)
