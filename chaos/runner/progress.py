"""Progress of a run on stderr: a bar on a terminal, one line per step elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

if TYPE_CHECKING:
    from chaos.runner.run import ChaosRun


class ProgressDisplay:
    """Shows a run's progress on stderr."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.description}", markup=False),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("")
        self._last_activity = ""

    def show(self, run: ChaosRun, text: str) -> None:
        """Show the state of the run.

        `text` is the present activity of the run or of its step, the result of the last step, or
        `VIOLATION` and a sentence; "" while faults are injected.
        Example of a line: `1:03 of 5 min, 0 violations: step 3 (kill-web): injecting the faults`.
        """
        current = run.current
        activity = text or "injecting the faults"
        if current is not None:
            activity = f"step {current.step} ({' + '.join(current.faults)}): {activity}"
        clock = f"{int(run.elapsed_s) // 60:d}:{int(run.elapsed_s) % 60:02d}"
        status = f"{clock} of {run.minutes:g} min, {len(run.findings.violations)} violations"
        if text.startswith("VIOLATION"):
            self._print(f"{clock} {activity}")
        elif self._console.is_terminal:
            self._bar.start()
            self._bar.update(
                self._task,
                total=run.minutes * 60,
                completed=run.elapsed_s,
                description=f"{status}: {activity}",
            )
        # Elsewhere a line for the start of each step, and for each activity between steps.
        elif (not current or not text) and activity != self._last_activity:
            self._last_activity = activity
            self._print(f"{status}: {activity}")

    def end(self) -> None:
        """Stop the bar."""
        self._bar.stop()

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
