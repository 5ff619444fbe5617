"""A command whose reader has gone ends without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ginkgo_site.env import CHECKOUT
from portfolios.runtime.closed_output import EXIT_STATUS
from tests.support.python_process import run_python

PRINTS = (
    "from portfolios.runtime.closed_output import exits_on_closed_output\n"
    "with exits_on_closed_output():\n"
    "    print('a line')\n"
)


def run_without_reader(*arguments: str, buffers: bool) -> tuple[int, str]:
    """Return exit status and stderr of a Python whose stdout is a pipe that nobody reads."""
    reads, writes = os.pipe()
    os.close(reads)
    environment = {**os.environ, "PYTHONUNBUFFERED": "" if buffers else "1"}
    try:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=CHECKOUT, env=environment, stdout=writes,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    finally:
        os.close(writes)
    return done.returncode, done.stderr


@pytest.mark.parametrize("buffers", [True, False])
def test_output_to_a_closed_pipe_is_dropped_and_has_its_own_exit_status(buffers: bool) -> None:
    assert run_without_reader("-c", PRINTS, buffers=buffers) == (EXIT_STATUS, "")


@pytest.mark.parametrize("command", [("-m", "chaos", "--list"), ("manage.py", "help")])
def test_commands_end_when_the_reader_of_their_output_is_gone(command: tuple[str, ...]) -> None:
    assert run_without_reader(*command, buffers=True) == (EXIT_STATUS, "")


@pytest.mark.parametrize(
    ("line", "status"),
    [("manage.py help >&-", 0), ("manage.py none >&- 2>&-", 1)],
)
def test_commands_run_without_an_output_from_the_start(line: str, status: int) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} {line}"], cwd=CHECKOUT, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (status, "")


def test_a_broken_pipe_other_than_that_of_the_output_is_an_error() -> None:
    done = run_python("-c", PRINTS.replace("print('a line')", "raise BrokenPipeError('a socket')"))
    assert done.returncode == 1 and "BrokenPipeError: a socket" in done.stderr
