"""Sentences in the reader's language, with the texts that they contain."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.utils import translation

from portfolios import strategy_inspection
from portfolios.sentences import Sentence
from portfolios.sentences import sentence as _
from portfolios.strategies import registry
from scheduling.errors import Refused
from scheduling.observe.localized_reason import localized_text
from scheduling.operations import artifacts
from scheduling.recorded_feeds.jetstream import stream
from tests.support.patches import raising


def chinese(text: str) -> str:
    with translation.override("zh-hans"):
        return localized_text(text)


def test_exception_in_a_sentence_is_shown_as_its_text_in_the_same_language() -> None:
    told = _("It cannot be: {problem}.", problem=ValueError(_("{name} is away.", name="node-1")))
    assert told == "It cannot be: node-1 is away.."
    assert isinstance(told.values["problem"], Sentence)  # and holds no traceback
    assert not isinstance(_("{why}", why=OSError("gone")).values["why"], OSError)


def test_why_an_artifact_cannot_be_used_is_told_in_the_readers_language(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    why = _(
        "Artifact {artifact} cannot be inspected: {problem}.",
        artifact="0" * 12,
        problem="two of its strategies have the same name",
    )

    failed = strategy_inspection.CheckFailed(why)
    monkeypatch.setattr(artifacts, "code_of_upload", raising(failed))
    with pytest.raises(Refused) as refused:
        artifacts._inspect("demo 1.0", "0" * 64, b"", "", "")
    assert refused.value.message == f"demo 1.0 cannot be used: {why}"
    assert chinese(refused.value.message) == f"demo 1.0 无法使用：{chinese(why)}"
    assert chinese(why) != why
    stray = artifacts.CodeUnavailable("no uv")
    monkeypatch.setattr(artifacts, "code_of_upload", raising(stray))
    with pytest.raises(Refused, match=r"^demo 1\.0 cannot be used: no uv\.$"):
        artifacts._inspect("demo 1.0", "0" * 64, b"", "", "")


def test_an_unknown_strategy_beside_a_broken_module_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_in_two_languages.py").write_text("import what_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("GINKGO_STRATEGIES", "broken_in_two_languages")
    with pytest.raises(registry.UnknownStrategy) as unknown:
        registry.get("mine")
    text = str(unknown.value)
    assert text.startswith("unknown strategy 'mine'; there are: buy_and_hold, ")
    assert "sma_cross; GINKGO_STRATEGIES names broken_in_two_languages" in text
    assert chinese(text).startswith("没有策略 'mine'；可用的有：buy_and_hold、")


def test_sentence_about_a_nats_server_without_answer_is_in_the_readers_language() -> None:
    away = stream._no_answer(TimeoutError())
    assert str(away) == "The NATS server does not answer (TimeoutError)."
    assert chinese(str(away)) == "NATS 服务器没有响应（TimeoutError）。"
