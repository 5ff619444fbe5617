"""Progress on the terminal: a bar that stays on its line, or one line a step elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaos.runner.run import ChaosRun

WIDTH = 24


class Progress:
    """Shows what a run does, on stderr."""

    def __init__(self) -> None:
        self._is_live = sys.stderr.isatty()
        self._shown_at = 0.0
        self._last = ""

    def show(self, run: ChaosRun, text: str) -> None:
        """Show the bar; `text` is what happens now, or how a step ended."""
        current = run.current
        what = f"{current.step} {' + '.join(current.faults)}" if current else ""
        if text.startswith("VIOLATION"):
            self._line(f"{_clock(run.elapsed_s)} {text}")
        elif self._is_live:
            if time.monotonic() - self._shown_at > 0.2 or not current:
                self._shown_at = time.monotonic()
                bar = self._bar(run)
                sys.stderr.write(f"\r\x1b[2K{bar} {what} {text}"[:160])
                sys.stderr.flush()
        elif not current or not text:
            self._line(f"{self._bar(run)} {what} {text}")

    def end(self) -> None:
        """Leave the line of the bar."""
        if self._is_live:
            sys.stderr.write("\n")

    def _bar(self, run: ChaosRun) -> str:
        share = min(run.elapsed_s / (run.minutes * 60), 1.0)
        full = int(share * WIDTH)
        count = len(run.findings.violations)
        return (
            f"[{'█' * full}{'·' * (WIDTH - full)}] {_clock(run.elapsed_s)}"
            f" of {run.minutes:g} min, {count} violations"
        )

    def _line(self, text: str) -> None:
        said = text.split("]", 1)[-1]
        body = said.split("violations", 1)[-1]
        if body != self._last:
            self._last = body
            sys.stderr.write(("\n" if self._is_live else "") + text.rstrip() + "\n")
            sys.stderr.flush()


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:d}:{int(seconds) % 60:02d}"
