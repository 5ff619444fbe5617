"""When bin/up and its siblings install packages, and when they do not."""

from __future__ import annotations

import importlib.util
import sys
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
    for name in module.CONTAINED_IN:
        (tmp_path / f"{name}.txt").write_text(f"{name} 1\n")
    return module


def installed(module: ModuleType, name: str) -> None:
    module._marker(name).write_text(module._fingerprint(name))


def test_nothing_is_installed_twice(bootstrap: ModuleType) -> None:
    assert not bootstrap._is_current("requirements")
    installed(bootstrap, "requirements")
    assert bootstrap._is_current("requirements")


def test_the_larger_set_counts_for_the_smaller_but_not_the_other_way(bootstrap: ModuleType) -> None:
    installed(bootstrap, "requirements")
    assert bootstrap._is_current("requirements-node")
    assert not bootstrap._is_current("requirements-dev")


def test_a_changed_file_is_installed_again(bootstrap: ModuleType, tmp_path: Path) -> None:
    installed(bootstrap, "requirements")
    (tmp_path / "requirements.txt").write_text("requirements 2\n")
    assert not bootstrap._is_current("requirements")


def test_an_environment_whose_python_is_gone_counts_for_nothing(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(bootstrap, "requirements")
    monkeypatch.setattr(bootstrap, "PYTHON", tmp_path / "gone")
    assert not bootstrap._is_current("requirements")


@pytest.mark.parametrize("name", ["requirements-node", "requirements", "requirements-dev"])
def test_every_pin_has_a_hash_and_names_no_index(name: str) -> None:
    text = (CHECKOUT / f"{name}.txt").read_text(encoding="utf-8")
    assert "http" not in text.replace("httptools", "").replace("aiohttp", "")
    assert str(CHECKOUT) not in text
    pins = [part for part in text.split("\n") if "==" in part and not part.startswith(" ")]
    assert pins
    assert all(pin.endswith("\\") for pin in pins)
    if name == "requirements-node":
        assert not any(pin.startswith(("django", "psycopg", "uvicorn")) for pin in pins)
