"""When bin/up and its siblings install packages, and when they do not."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from ginkgo_site.env import CHECKOUT


@pytest.fixture
def bootstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("environment", CHECKOUT / "bin/environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "CHECKOUT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "PYTHON", Path(sys.executable))
    (tmp_path / ".venv").mkdir()
    for name in (*module.EXPORTED.values(), "uv.lock"):
        (tmp_path / name).write_text("1\n")
    return module


def test_packages_are_installed_once_for_a_group_and_those_within_until_a_file_changes(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not bootstrap._is_current("control-plane")
    bootstrap._marker("control-plane").write_text(bootstrap._fingerprint("control-plane"))
    assert bootstrap._is_current("control-plane")
    assert bootstrap._is_current("node")
    assert not bootstrap._is_current("dev")
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(bootstrap, "PYTHON", tmp_path / "gone")
        assert not bootstrap._is_current("control-plane")
    (tmp_path / "requirements.txt").write_text("2\n")
    assert not bootstrap._is_current("control-plane")


@pytest.mark.parametrize("name", ["requirements-node", "requirements", "bin/uv"])
def test_every_pin_has_a_hash_and_names_no_index(name: str) -> None:
    text = (CHECKOUT / f"{name}.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert str(CHECKOUT) not in text
    pins = [part for part in text.split("\n") if "==" in part and not part.startswith(" ")]
    assert pins
    assert all(pin.endswith("\\") for pin in pins)
    if name == "requirements-node":
        assert not any(pin.startswith(("django", "psycopg", "uvicorn")) for pin in pins)


def test_relative_home_is_below_the_folder_of_the_caller(tmp_path: Path) -> None:
    script = f'. {CHECKOUT}/bin/python.sh; echo "$GINKGO_HOME"'
    for given, wanted in {"a home": f"{tmp_path}/a home", "/b": "/b", "~/c": "~/c", "": ""}.items():
        done = subprocess.run(
            ["sh", "-euc", script, f"{CHECKOUT}/bin/up"],
            cwd=tmp_path,
            env=os.environ | {"GINKGO_HOME": given},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == f"{wanted}\n"


def test_paths_that_a_node_is_given_are_relative_to_the_folder_of_the_caller(
    tmp_path: Path,
) -> None:
    (tmp_path / "node.token").touch(mode=0o600)
    command = [f"{CHECKOUT}/bin/node", "--name", "n", "--server", "http://127.0.0.1:9"]
    done = subprocess.run(
        [*command, "--token-file", "node.token"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert f"'{tmp_path}/node.token' must contain one token" in done.stderr


def test_upgrade_changes_nothing_for_its_help_or_a_wrong_option() -> None:
    nowhere = {"DATABASE_URL": "postgresql://u@127.0.0.1:1/d"}
    for option, code, said in (("--help", 0, "--drain-wait SECONDS"), ("--nope", 2, "--nope")):
        done = subprocess.run(
            [f"{CHECKOUT}/bin/upgrade", option],
            env=os.environ | nowhere,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr
        assert said in done.stdout + done.stderr
        assert "127.0.0.1" not in done.stderr  # no attempt to migrate


def test_uv_lock_names_the_public_index_alone() -> None:
    hosts = set(re.findall(r"https?://([^/\"]+)", (CHECKOUT / "uv.lock").read_text("utf-8")))
    assert hosts == {"pypi.org", "files.pythonhosted.org"}


def test_the_group_of_a_node_is_part_of_what_the_control_plane_needs() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))
    assert set(project["dependency-groups"]["node"]) <= set(project["project"]["dependencies"])
