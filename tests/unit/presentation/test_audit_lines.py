"""Sentences of audit lines, in both languages."""

from __future__ import annotations

import re
from string import Formatter
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from django.utils import translation

from scheduling.presentation.audit_lines import SENTENCES, audit_links, audit_sentence
from scheduling.presentation.state_words import ORDER_KINDS, order_word, state_word
from scheduling.wire.messages import Stage


def line(kind: str, /, **data: Any) -> Any:
    return SimpleNamespace(kind=kind, data=data)


def test_audit_sentences_of_both_languages_have_the_same_parts() -> None:
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
         "自 seq 9,000 起成为所有者：纪元 1234，r2，起因 迁移"),
        (line("handoff_done", handoff=4182, kind="reload", pause_ms=18.2),
         "handoff 4182 done: reload, pause 18 ms", "交接 4182 完成：重新加载，停顿 18 毫秒"),
        (line("portfolio_changed", fields=["config", "symbols"], revision=3),
         "changed config, symbols; wants r3", "修改了 config, symbols；目标修订 r3"),
        # A node has left; a portfolio of a roll-out has not.
        (line("roll_out_portfolio", roll_out=5, state="left"),
         "roll-out 5: left to the operator", "发布 5：交由操作员"),
        (line("roll_out_portfolio", roll_out=5, state="returned"),
         "roll-out 5: taken back", "发布 5：已撤回"),
        (line("roll_out_portfolio", roll_out=5, state="not_returned"),
         "roll-out 5: not returned", "发布 5：未撤回"),
        (line("process_died", revision=2, seq=9, epoch=3, stage="load"),
         "process of r2 ended at seq 9, epoch 3, stage load",
         "r2 的进程在 seq 9 结束，纪元 3，阶段 加载"),
        (line("granted", epoch=1, revision=2, from_seq=9, cause="quarantine"),
         "owner from seq 9 on: epoch 1, r2, by quarantine",
         "自 seq 9 起成为所有者：纪元 1，r2，起因 隔离"),
        (line("granted", epoch=1, revision=2, from_seq=9, cause="failed_start"),
         "owner from seq 9 on: epoch 1, r2, by failed start",
         "自 seq 9 起成为所有者：纪元 1，r2，起因 启动失败"),
        (line("alert_opened", alert=1234, kind="node_lost", times=1),
         "alert 1234 opened: node lost", "警报 1234 触发：节点失联"),
        (line("frozen", failover=False), "automatic moves stop", "自动迁移停止"),
        (line("frozen", failover=True),
         "automatic moves stop, failover too", "自动迁移停止，故障转移也停止"),
        (line("alert_channel_set", channel="ops", replaced=False),
         "channel ops set", "渠道 ops 已设置"),
        (line("alert_channel_set", channel="ops", replaced=True),
         "channel ops has another address", "渠道 ops 已更换地址"),
        (line("user_changed", user="olive", fields=["is_staff", "password", "gone"]),
         "staff status, password, gone of user olive changed",
         "修改了用户 olive 的 工作人员状态, 密码, gone"),
        (line("user_changed", of="olive", what="user_groups", reverse=False, added=["operator"]),
         "olive: added to group operator", "olive：加入用户组 operator"),
        (line("user_changed", of="operator", what="user_groups", reverse=True, removed=["a", "b"]),
         "a, b: removed from group operator", "a, b：移出用户组 operator"),
        (line("group_changed", of="viewer", what="group_permissions", reverse=False, cleared=[]),
         "viewer: every permission removed", "viewer：失去全部单独权限"),
        # A part that is no text is shown as it is, or is missing.
        (line("verified", verification=3, state=7), "verification 3: 7", "验证 3：7"),
        (line("verified", verification=3, state=None),
         "verified: verification 3, state None", "验证结果：verification 3, state None"),
        # Without a part of its sentence, or without a sentence, its data is shown.
        (line("portfolio_changed", fields=["config"]),
         "portfolio changed: fields config", "修改组合：fields config"),
        (line("new_kind", a=1, incarnation="x"), "new kind: a 1", "new kind：a 1"),
    ],
)  # fmt: skip
def test_audit_line_is_a_sentence_in_both_languages(event: Any, english: str, chinese: str) -> None:
    assert audit_sentence(event) == english
    with translation.override("zh-hans"):
        assert audit_sentence(event) == chinese


def test_in_chinese_an_order_kind_and_a_state_both_called_stop_have_different_words() -> None:
    assert [order_word(kind) for kind in ORDER_KINDS] == ["market", "limit", "stop"]
    with translation.override("zh-hans"):
        assert [order_word(kind) for kind in ORDER_KINDS] == ["市价", "限价", "止损"]
        assert state_word("stop") == "停止"
        stages = [state_word(stage) for stage in get_args(Stage)]
    assert stages == ["加载", "处理事件", "退出", "被终止"]


def test_state_word_of_no_state_is_empty() -> None:
    assert state_word(None) == ""


def test_links_of_an_audit_line_lead_to_what_it_names() -> None:
    event = line("granted", handoff=7, roll_out=None, halt=2)
    links = [(link.view, link.argument) for link in audit_links(event)]
    assert links == [("handoff", 7), ("halted", 2)]
