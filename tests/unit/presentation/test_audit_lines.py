"""Sentences of audit lines, in both languages."""

from __future__ import annotations

import re
from string import Formatter
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils import translation

from scheduling.presentation.audit_lines import SENTENCES, audit_links, audit_sentence


def line(kind: str, /, **data: Any) -> Any:
    return SimpleNamespace(kind=kind, data=data)


def test_both_languages_have_the_same_parts() -> None:
    def parts(text: str) -> list[str]:
        return sorted(name for _, name, _, _ in Formatter().parse(text) if name)

    for kind, (english, chinese) in SENTENCES.items():
        assert parts(english) == parts(chinese), kind
        assert re.search(r"[\u4e00-\u9fff]", chinese), kind


@pytest.mark.parametrize(
    ("event", "english", "chinese"),
    [
        (line("granted", epoch=1234, revision=2, from_seq=9000, cause="migrate"),
         "owner from seq 9,000 on: epoch 1234, r2, by migrate",
         "自 seq 9,000 起成为所有者：纪元 1234，r2，原因 迁移"),
        (line("handoff_done", handoff=4182, kind="reload", pause_ms=18.2),
         "handoff 4182 done: reload, pause 18 ms", "交接 4182 完成：重新加载，停顿 18 ms"),
        (line("portfolio_changed", fields=["config", "symbols"], revision=3),
         "changed config, symbols; wants r3", "修改了 config, symbols；目标修订 r3"),
        # Without a part of its sentence, or without a sentence, its data is shown.
        (line("portfolio_changed", fields=["config"]),
         "portfolio changed: fields config", "修改组合：fields config"),
        (line("new_kind", a=1, incarnation="x"), "new kind: a 1", "new kind：a 1"),
    ],
)  # fmt: skip
def test_sentence(event: Any, english: str, chinese: str) -> None:
    assert audit_sentence(event) == english
    with translation.override("zh-hans"):
        assert audit_sentence(event) == chinese


def test_links_lead_to_what_the_line_names() -> None:
    event = line("granted", handoff=7, roll_out=None, halt=2)
    assert [(link.view, link.argument) for link in audit_links(event)] == [
        ("handoff", 7),
        ("halted", 2),
    ]
