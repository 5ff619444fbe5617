"""Answers about an artifact are checked again, since code of the artifact ran in the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from portfolios import strategy_inspection
from portfolios.artifacts.declared import problem_in
from portfolios.artifacts.inspection import _inspect
from portfolios.runtime.messages import Examined, FoundStrategy, Inspected, Loaded
from portfolios.strategies.buy_and_hold import BuyAndHold
from portfolios.strategy_inspection import CheckFailed, check_with_code, inspect_artifact
from portfolios.verify.replay_process import ArtifactCode

GOOD = FoundStrategy("momentum", "mine.strategies:Momentum", 1, 1, "{}", False, False, None, "Buy.")
CODE = ArtifactCode("0" * 64, Path("/nowhere"), None)


def test_valid_inspection_answer_is_accepted() -> None:
    assert problem_in([GOOD, replace(GOOD, name="other", warm_up=20_000)]) == ""


@pytest.mark.parametrize(
    ("forged", "problem"),
    [
        ([GOOD] * 2, "two of its strategies have the same name"),
        ([replace(GOOD, name=f"s{n}") for n in range(51)], "it has 51 strategies, limit 50"),
        ([replace(GOOD, name="../x")], "has the name '../x'"),
        ([replace(GOOD, name="x" * 81)], "use at most 80 letters"),
        ([replace(GOOD, version=-1)], "are (-1, 1, 0); each has to be from 0"),
        ([replace(GOOD, state_version=2**31)], "are (1, 2147483648, 0)"),
        ([replace(GOOD, warm_up=-5)], "are (1, 1, -5)"),
        ([replace(GOOD, schema="é" * 40_000)], "has 80,000 bytes, limit 65,536"),
        ([replace(GOOD, class_path="os.system")], "it has to be MODULE:CLASS"),
        ([replace(GOOD, class_path=f"m:{'x' * 300}")], "it has to be MODULE:CLASS"),
        ([replace(GOOD, summary="x" * 301)], "has 301 characters, limit 300"),
    ],
)
def test_inspection_answer_with_invalid_facts_is_refused(
    forged: list[FoundStrategy], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert problem in problem_in(forged)
    answer_with(monkeypatch, Inspected(forged))
    with pytest.raises(CheckFailed, match=r"^Artifact \w{12} cannot be inspected: "):
        inspect_artifact(CODE)


def test_a_class_whose_path_is_too_long_to_be_stored_is_refused_and_not_stored_cut() -> None:
    long = type("X" * 300, (BuyAndHold,), {"__doc__": "Buy."})
    assert "of at most 300 characters" in problem_in([_inspect("momentum", long)])


def answer_with(monkeypatch: pytest.MonkeyPatch, reply: Any) -> None:
    @contextmanager
    def process(*_: Any, **__: Any) -> Iterator[Any]:
        yield lambda request: reply

    monkeypatch.setattr(strategy_inspection, "_process", process)


def test_answer_of_another_type_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, Loaded(1, False))
    for ask in (lambda: inspect_artifact(CODE), lambda: check_with_code(CODE, GOOD, {}, [])):
        with pytest.raises(CheckFailed, match="process answered Loaded instead of"):
            ask()


def test_errors_of_a_check_are_bounded_and_printable(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, Examined(1, False, [("f", "c", "\x1b[31m" + "x" * 9_000)] * 5_000))
    found = check_with_code(CODE, GOOD, {}, [])
    assert len(found) == 100
    assert found[0].message.startswith("\\x1b[31mxxx")
    assert len(found[0].message) == 500
