"""The progress bar of commands that go through many events."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress_bar(name: str) -> Iterator[Callable[[int, int, int], None]]:
    """Yield a function (first seq, seq reached, last seq) that shows progress on a terminal."""
    if not sys.stderr.isatty():
        yield lambda first, at, last: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("seq {task.fields[at]}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None, at="–")

        def report(first: int, at: int, last: int) -> None:
            bar.update(task, total=last - first + 1, completed=at - first + 1, at=f"{at:,}")

        yield report
