"""What the trials do on this machine: run commands, find free ports, and print."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]


def command(*words: str, check: bool = True, **options: Any) -> str:
    """Run a command, with further `options` of `subprocess.run`. Return its stripped output. Raise
    AssertionError if it fails; without `check`, return what it printed on stderr as well."""
    ended = subprocess.run(words, capture_output=True, text=True, **options)
    if check and ended.returncode != 0:
        raise AssertionError(f"{' '.join(words)} failed: {ended.stdout}{ended.stderr}")
    return (ended.stdout + ("" if check else ended.stderr)).strip()


def free_ports(count: int) -> list[int]:
    """Return `count` ports of this machine that nothing listens on now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def say(sentence: str) -> None:
    """Print a sentence at once, even into a pipe."""
    print(sentence, flush=True)
