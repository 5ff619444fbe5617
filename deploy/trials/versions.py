"""Two versions of Ginkgo on one machine, and processes that run in one and then in the other."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from machine import CHECKOUT, command

from ginkgo_site.launcher.spawn import spawn

#: The longest wait on a busy machine: for a process to start or end, a handoff, an empty node.
LIMIT_S = 300.0


@dataclass(frozen=True)
class Version:
    """A checkout with the packages that it pins."""

    name: str
    checkout: Path

    @property
    def python(self) -> str:
        return str(self.checkout / ".venv/bin/python")


@contextlib.contextmanager
def checked_out(commit: str, folder: Path) -> Iterator[Version]:
    """Yield the version `old`: a worktree of the commit in `folder`, removed at the end.
    It has the packages of this checkout if it pins the same, else packages of its own."""
    git = ("git", "-C", str(CHECKOUT), "worktree")
    command(*git, "add", "--detach", str(folder), commit)
    try:
        pins = ("requirements.txt", "requirements-node.txt")
        if all((folder / pin).read_bytes() == (CHECKOUT / pin).read_bytes() for pin in pins):
            (folder / ".venv").symlink_to((CHECKOUT / ".venv").resolve())
        else:
            print("OLD pins other packages, which are installed …", flush=True)
            command(sys.executable, str(folder / "bin/environment.py"), "control-plane", "-c", "")
        yield Version("old", folder)
    finally:
        command(*git, "remove", "--force", str(folder))


@dataclass
class Unit:
    """A process of the installation, in the version that runs now."""

    name: str
    argv: list[str]  #: without the interpreter
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self, version: Version) -> None:
        """Start the process in a version. Its output is appended to the log."""
        paths = {"PYTHONPATH": str(version.checkout)}
        with self.log.open("ab") as output:
            output.write(f"--- {version.name}\n".encode())
            output.flush()
            self.process = spawn(
                [version.python, *self.argv],
                environment=self.environment | paths,
                output=output,
                folder=version.checkout,
                death_signal=signal.SIGTERM,
            )

    def end(self) -> None:
        """End the process with SIGTERM, as systemd does; do nothing if it does not run.
        Kill it and raise TimeoutExpired after LIMIT_S."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
