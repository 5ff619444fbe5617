"""A limit on open files that is too low is reported in one sentence, or raised."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from ginkgo_site.env import CHECKOUT

NODE = ["-m", "scheduling.node_daemon", "--name", "n", "--server", "http://127.0.0.1:9"]


def run_limited(
    argv: list[str], home: Path, soft: int, hard: int
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *argv],
        cwd=CHECKOUT,
        env={**os.environ, "GINKGO_HOME": str(home), "GINKGO_NODE_TOKEN": "t"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "argv", [["-m", "ginkgo_site.launcher", "--port", "0"], NODE], ids=["bin/up", "bin/node"]
)
def test_too_low_limit_of_open_files_is_refused(argv: list[str], tmp_path: Path) -> None:
    done = run_limited(argv, tmp_path, 64, 64)
    assert done.returncode in (1, 2)
    (line,) = done.stderr.strip().splitlines()
    assert "may open 64 files and sockets, and Ginkgo needs 256: raise its hard limit" in line


PRINTS = "; import resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
RAISES = "from portfolios.runtime.open_files import raise_open_file_limit as it; it()"
LIMITS = "from portfolios.runtime.sandbox import limit_process as it; it(1 << 30)"


def test_a_low_limit_of_open_files_is_raised_where_that_is_allowed(tmp_path: Path) -> None:
    done = run_limited(["-c", RAISES + PRINTS], tmp_path, 64, 1000)
    assert done.stdout.split() == ["1000", "1000"]


def test_portfolio_process_keeps_a_limit_of_open_files_below_its_own(tmp_path: Path) -> None:
    assert run_limited(["-c", LIMITS + PRINTS], tmp_path, 64, 64).stdout.split() == ["64", "64"]
