"""Processes of an installation: suspend them, and tell which are left."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil


@contextmanager
def suspended(processes: list[psutil.Process]) -> Iterator[None]:
    """Suspend processes with SIGSTOP, and resume them at the end, even if one has ended."""
    try:
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


def process_tree(process: psutil.Process) -> list[psutil.Process]:
    """A process and all of its descendants."""
    return [process, *process.children(recursive=True)]


def kill_processes(processes: Iterable[psutil.Process]) -> None:
    """Kill processes with kill -9. One that has ended meanwhile is no error."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def end_process(process: subprocess.Popen[Any], limit_s: float) -> None:
    """End a process with SIGTERM, or with kill -9 after `limit_s`."""
    process.terminate()
    try:
        process.wait(limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def processes_with(variable: str, value: str) -> list[psutil.Process]:
    """Return the processes that run with this value of an environment variable."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(variable) == value:
                found.append(process)
    return still_running(found)


def still_running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that have not ended."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
