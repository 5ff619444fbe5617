"""Run the bootstrap in a separate Django process and read its progress."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ginkgo_site.env import CHECKOUT
from ginkgo_site.launcher import logfiles
from ginkgo_site.launcher.errors import StartupError


class BootstrapProcess:
    """Run `ginkgo_site.launcher.bootstrap` and read its reports; pass its messages to `say`."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        say: Callable[[str], None],
    ) -> None:
        self._log = log
        self._say = say
        self._reports: dict[str, Any] = {}  #: kind → content
        self._rest = b""  #: of the output: what follows the last complete line
        self.progress = 0  #: number of lines reported so far
        with logfiles.append_to(log) as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ginkgo_site.launcher.bootstrap", *arguments],
                cwd=CHECKOUT,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )

    def report(self, kind: str) -> Any:
        """Return the report of this kind, or None if there is none yet. Wait at most 0.05 s.

        Raises `StartupError` if the process refused or failed.
        """
        if kind not in self._reports:
            self._read(wait_s=0.05)
        return self._reports.get(kind)

    def has(self, kind: str) -> bool:
        """Return whether `kind` is among the reports read so far."""
        return kind in self._reports

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def _read(self, wait_s: float) -> None:
        """Handle the lines that come within `wait_s`, each a JSON object of kind → content."""
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], wait_s)
        if not readable:
            return
        chunk = os.read(self._process.stdout.fileno(), 65536)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self.progress += len(lines)
        for line in lines:
            for kind, content in json.loads(line).items():
                if kind == "say":
                    self._say(content)
                elif kind == "refused":
                    raise StartupError(content)
                else:
                    self._reports[kind] = content
        if not chunk and "settled" not in self._reports:  # it ended before its last report
            raise StartupError(
                "The database could not be prepared: "
                f"{logfiles.last_line(self._log)} (log: {self._log})"
            )
