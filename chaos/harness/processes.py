"""Processes of an installation: suspend them, and tell which are left."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

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
            try:
                process.send_signal(signal.SIGCONT)
            except psutil.NoSuchProcess:
                continue


def process_tree(process: psutil.Process) -> list[psutil.Process]:
    """A process and all of its descendants."""
    return [process, *process.children(recursive=True)]


def still_running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that have not ended."""
    found = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found
