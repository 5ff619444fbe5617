"""The commands that a page offers, and the actions that it repeats, while the server is away."""

from __future__ import annotations

import shlex
import subprocess
import sys

from django.core.management import get_commands
from django.urls import resolve

from scheduling.dashboard.actions import offline_help
from scheduling.presentation.shell_command import shell_line


def test_every_form_has_a_command_that_exists_and_an_address() -> None:
    for key, command in offline_help()["commands"].items():
        assert command.split()[0] in get_commands(), command
        words = key.split("/")
        name = {"halts": "4", "fleet": "", "halt": "", "migrate": ""}.get(words[0], "x")
        address = "/".join(word for word in (words[0], name, *words[1:]) if word)
        assert resolve(f"/{address}/"), key


def test_only_actions_that_are_safe_to_repeat_are_sent_again_automatically() -> None:
    repeatable = set(offline_help()["repeatable"])
    assert {"halt", "nodes/drain", "portfolios/stop", "portfolios/edit"} <= repeatable
    # The balancer would move several portfolios away from where the first request moved them.
    assert not {"portfolios/reload", "migrate"} & repeatable
    assert not any("token" in key or "create" in key for key in repeatable)


def test_shell_line_runs_from_any_folder() -> None:
    words = [word for word in shlex.split(shell_line("help drain_node")) if "=" not in word]
    assert words[0] == sys.executable
    done = subprocess.run(words, cwd="/", capture_output=True, text=True, check=False)
    assert "drain_node" in done.stdout, done.stderr
