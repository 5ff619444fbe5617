"""The registry of strategies: built-in ones, and those of modules named by the environment."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from portfolios.strategies import registry

BUILT_IN = ["buy_and_hold", "canary", "mean_reversion", "sma_cross"]
FAULTY = [
    "exiter", "keyed", "looper", "misbehaving", "misbehaving_in_check", "misbehaving_in_hook",
    "raise_at", "raise_on_load", "sleeper",
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_modules_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GINKGO_STRATEGIES", raising=False)


def test_built_in_strategies_are_always_registered() -> None:
    assert registry.versions() == dict.fromkeys(BUILT_IN, 1)
    assert registry.problems() == []


def test_strategy_module_named_by_the_environment_adds_its_strategies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GINKGO_STRATEGIES", " chaos.faults.faulty_strategies ,")
    assert list(registry.versions()) == sorted(BUILT_IN + FAULTY)
    assert registry.get("raise_at").name == "raise_at"


def test_error_about_an_unknown_strategy_lists_the_known_ones() -> None:
    with pytest.raises(registry.UnknownStrategy) as failure:
        registry.get("raise_at")
    assert str(failure.value) == (
        "unknown strategy 'raise_at'; there are: buy_and_hold, canary, mean_reversion, sma_cross"
    )


def test_a_broken_strategy_module_is_reported_and_affects_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_by_its_author.py").write_text("import what_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("GINKGO_STRATEGIES", "broken_by_its_author")
    assert registry.get("canary").name == "canary"
    assert list(registry.versions()) == BUILT_IN
    (problem,) = registry.problems()
    assert problem.startswith("GINKGO_STRATEGIES names broken_by_its_author, which did not load")
    with pytest.raises(registry.UnknownStrategy, match="which did not load"):
        registry.get("mine")


def test_built_in_strategy_is_found_without_importing_external_strategy_modules(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "slow_to_import.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("GINKGO_STRATEGIES", "slow_to_import")
    assert registry.get("sma_cross").name == "sma_cross"
    assert "slow_to_import" not in sys.modules


def test_an_external_strategy_cannot_shadow_a_built_in_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "impostor.py").write_text(
        "from portfolios.strategies.base import Strategy\n"
        "class Impostor(Strategy):\n    name = 'canary'\n    version = 9\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("GINKGO_STRATEGIES", "impostor")
    assert registry.versions()["canary"] == registry.get("canary").version == 1
