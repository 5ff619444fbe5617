"""From an empty folder to a tested package, a wheel and a backtest, as its README says."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from ginkgo_site.env import CHECKOUT


def lines_of(readme: str) -> str:
    """Return the lines that a reader enters, with the place of Ginkgo."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    return "".join(blocks).replace("/path/to/ginkgo", str(CHECKOUT))


def test_commands_in_the_readme_of_a_new_strategy_lead_to_a_backtest(tmp_path: Path) -> None:
    folder = tmp_path / "mean-gap"
    call_command("new_strategy", "mean-gap", directory=str(folder))

    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", lines_of((folder / "README.md").read_text())],
        cwd=folder,
        # Without a network: a newcomer behind a proxy has none either.
        env={**os.environ, "UV_OFFLINE": "1", "GINKGO_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "Ran 4 tests" in done.stderr
    assert "mean_gap 1 on replay" in done.stdout
    assert "<svg" in (folder / "backtest.html").read_text()
    assert len(list((folder / "dist").glob("mean_gap-0.1.0-py3-none-any.whl"))) == 1


def test_new_strategy_command_overwrites_no_file(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CommandError, match="exists and is not an empty folder: nothing was"):
        call_command("new_strategy", "mean-gap", directory=str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
