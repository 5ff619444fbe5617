"""Strategies of an artifact: found in it alone, and failures as sentences."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from portfolios.artifacts import load, unpack
from portfolios.runtime.engine import PortfolioEngine
from portfolios.runtime.errors import ArtifactUnusable
from portfolios.strategies.canary import Canary
from tests.support import wheels
from tests.support.market_factories import spec

Install = Callable[[wheels.Wheel], str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return a function that installs a wheel into this process, until the end of the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(load, "_installed", {})
    before = set(sys.modules)

    def run(wheel: wheels.Wheel) -> str:
        sha256 = wheels.sha256_of(wheel.data())
        unpack.unpack(wheels.write(tmp_path, wheel.data()), tmp_path / "code")
        load.install(sha256, str(tmp_path / "code"))
        return sha256

    yield run
    for name in set(sys.modules) - before:
        del sys.modules[name]


def failure(sha256: str, name: str, class_path: str = "") -> str:
    with pytest.raises(ArtifactUnusable) as error:
        load.strategy_class(sha256, name, class_path)
    return str(error.value)


def test_strategy_is_found_by_its_class_or_by_its_entry_point(install: Install) -> None:
    sha256 = install(wheels.counter("x"))
    found = load.strategy_class(sha256, "counter", "counting:Counter")
    assert load.strategy_class(sha256, "counter") is found
    assert load.strategy_classes(sha256) == {"counter": found}


def test_artifact_strategy_is_used_instead_of_a_built_in_one_with_the_same_name(
    install: Install,
) -> None:
    sha256 = install(wheels.counter("x"))
    assert failure(sha256, "canary") == (
        f"artifact {sha256[:12]} has no strategy 'canary'; it has: counter"
    )
    folder = Path(next(iter(load._installed.values())))
    folder.rename(folder.with_name("before"))
    sys.modules.pop("counting", None)
    other = install(wheels.counter("x", name="canary"))
    assert load.strategy_class(other, "canary") is not Canary


def test_class_outside_the_artifact_is_refused(install: Install) -> None:
    wheel = wheels.Wheel(
        {"counting/__init__.py": "from portfolios.strategies.canary import Canary"},
        {"canary": "counting:Canary"},
    )
    sha256 = install(wheel)
    assert "is not part of the artifact: portfolios.strategies.canary" in failure(sha256, "canary")


def test_package_named_like_one_of_ginkgo_is_refused(install: Install) -> None:
    source = wheels.COUNTER.format(mark="x", name="counter")
    sha256 = install(wheels.Wheel({"portfolios/x.py": source}, {"counter": "portfolios.x:Counter"}))
    assert "cannot be imported: ModuleNotFoundError" in failure(sha256, "counter")


def test_artifact_package_shadows_project_packages_but_not_the_standard_library(
    install: Install,
) -> None:
    install(wheels.Wheel({"chaos/__init__.py": "", "colorsys.py": ""}))
    folder = next(iter(load._installed.values()))
    chaos, colorsys = PathFinder.find_spec("chaos"), PathFinder.find_spec("colorsys")
    assert chaos is not None and chaos.origin == f"{folder}/chaos/__init__.py"
    assert colorsys is not None and not str(colorsys.origin).startswith(folder)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("import absent_package", "ModuleNotFoundError: No module named 'absent_package'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def broken(:", "SyntaxError: "),
        ("", "AttributeError: module 'counting' has no attribute 'Counter'"),
    ],
)
def test_strategy_that_does_not_import_is_named(
    install: Install, source: str, sentence: str
) -> None:
    sha256 = install(wheels.Wheel({"counting/__init__.py": source}, {"c": "counting:Counter"}))
    start = f"artifact {sha256[:12]}: counting:Counter cannot be imported: {sentence}"
    assert failure(sha256, "counter").startswith(start)


def test_entry_point_that_is_not_a_strategy_class_is_refused(install: Install) -> None:
    sha256 = install(wheels.Wheel({"counting.py": "Counter = 7"}, {"c": "counting:Counter"}))
    assert failure(sha256, "counter").endswith(
        "counting:Counter is not a subclass of portfolios.strategies.base.Strategy"
    )


def test_wheel_without_entry_points_has_no_strategy(install: Install) -> None:
    assert "declares no entry point of the group ginkgo.strategies" in failure(
        install(wheels.Wheel({"counting.py": ""})), "counter"
    )


def test_strategy_of_an_artifact_that_was_not_given_is_refused(install: Install) -> None:
    sha256 = install(wheels.counter("x"))
    assert failure("f" * 64, "counter", "counting:Counter") == (
        f"artifact ffffffffffff is not installed in this process, which has {sha256[:12]}: a"
        " defect to report"
    )


def test_strategy_of_an_artifact_is_loaded_whatever_its_version(install: Install) -> None:
    sha256 = install(wheels.counter("x"))
    PortfolioEngine.fresh(spec("counter", artifact=sha256, strategy_version=9))
