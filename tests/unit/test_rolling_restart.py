"""How a rolling restart recognises and orders the processes of an installation."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from ginkgo_site.env import CHECKOUT
from scheduling.operations.rolling_restart import KINDS, is_daemon_of, kind_of

UNITS = sorted((CHECKOUT / "deploy" / "systemd").glob("*.service"))


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_process_kind_of_each_unit_is_recognised_by_its_command_line(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith("ExecStart=")]
    expected = next((kind for kind in KINDS if kind in str(path)), None)
    words = shlex.split(line.removeprefix("ExecStart="))
    assert kind_of(words) == expected
    assert is_daemon_of("%i", words) == ("ginkgo-node" in str(path))


def test_web_processes_come_before_watchers_and_those_before_workers() -> None:
    assert list(KINDS) == ["web", "watcher", "worker", "recorder"]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "python manage.py migrate",
        "python manage.py feed list",
        "grep run_watcher",
        "/usr/bin/tini -- python -m uvicorn ginkgo_site.asgi:application",
        "sudo python manage.py run_watcher",
    ],
)
def test_other_commands_are_not_recognised_as_processes_to_restart(line: str) -> None:
    assert kind_of(line.split()) is None


@pytest.mark.parametrize(
    ("line", "is_daemon"),
    [
        ("python bin/environment.py node -m scheduling.node_daemon --name=n1", True),
        ("python manage.py run_node --name n1", True),
        ("python -m scheduling.node_daemon --name n2", False),
        ("python -m scheduling.node_daemon.forkserver 13 n1", False),
        ("sudo python -m scheduling.node_daemon --name n1", False),
        ("vi n1", False),
    ],
)
def test_daemon_of_a_node_is_recognised_by_its_module_and_node_name(
    line: str, is_daemon: bool
) -> None:
    assert is_daemon_of("n1", line.split()) is is_daemon


def test_an_upgrade_installs_at_low_priority_then_migrates_then_restarts(tmp_path: Path) -> None:
    for name in ("upgrade", "python.sh"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        shutil.copy(CHECKOUT / "bin" / name, tmp_path / "bin")
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\n[ "$1" = -c ] || echo "$(nice) $*"\n')
    python.chmod(0o755)
    words = [str(tmp_path / "bin/upgrade"), "--drain-wait", "5"]
    ran = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
    own, environment = os.nice(0), "bin/environment.py control-plane"
    low, packages = min(own + 10, 19), "ginkgo_site portfolios scheduling"
    assert ran == [
        f"{low} {environment} manage.py rolling_restart --check-options --drain-wait 5",
        f"{low} {environment} -m compileall -q {packages}",
        f"{own} {environment} manage.py migrate",
        f"{own} {environment} manage.py rolling_restart --drain-wait 5",
    ]
