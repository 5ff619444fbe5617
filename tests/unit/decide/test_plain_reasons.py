"""Reasons without data in Chinese: each that a strategy's process gives of an order is known."""

from __future__ import annotations

import ast
import re

import pytest

from ginkgo_site.env import CHECKOUT
from portfolios.runtime.order_book import SUPPRESSED
from portfolios.runtime.paper_broker import NOT_FILLED
from scheduling.decide.reasons import localize


def sentences() -> list[str]:
    """Return the sentences in the sources, with a figure for each value."""
    found = []
    for name in ("limits.py", "order_book.py"):
        tree = ast.parse((CHECKOUT / "portfolios" / "runtime" / name).read_text())
        for node in ast.walk(tree):
            value = getattr(node, "value", None)
            if isinstance(node, ast.Return | ast.Assign) and isinstance(value, ast.JoinedStr):
                found.append("".join(_shown(part) for part in value.values))
    return [*found, SUPPRESSED, NOT_FILLED]


def _shown(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else "7.5"


def test_sentences_are_found() -> None:
    assert len(sentences()) == 14


@pytest.mark.parametrize("sentence", sentences())
def test_every_reason_of_an_order_is_told_in_chinese(sentence: str) -> None:
    told = localize(sentence, None, "zh-hans")
    assert told != sentence and not re.search(r"[a-z]{4,}", told)
    assert told.count("7.5") == sentence.count("7.5")
    assert localize(sentence, None, "en") == sentence


#: Reasons of handoffs that miss a deadline, and where they are made.
DEADLINES = "enact/handoff/deadlines.py"
OF_HANDOFFS = [
    (DEADLINES, "node-3 was lost before it was ready"),
    (DEADLINES, "node-3 could not prepare in 7.5 s"),
    (DEADLINES, "node-3 was lost before the grant"),
    (DEADLINES, "node-3 was lost before its first commit"),
    (DEADLINES, "node-3 did not commit in 7.5 s"),
    (DEADLINES, "node-3 did not release in 7.5 s: the epoch was raised without it"),
    (DEADLINES, "node-3 is gone: the epoch was raised without it"),
    ("passes/sweep.py", "stopped is wanted"),
    ("decide/reasons/english.py", "node-3 has left; node-3 has already prepared it: load 7.5"),
    ("decide/reasons/english.py", "its node is no longer known; node-3 is draining; pinned to"),
]


@pytest.mark.parametrize(("module", "reason"), OF_HANDOFFS)
def test_every_reason_of_a_handoff_is_told_in_chinese(module: str, reason: str) -> None:
    source = (CHECKOUT / "scheduling" / module).read_text()
    for part in re.split(r"node-3|7\.5 s|7\.5|[:;]", reason):
        assert part.strip() in source
    # The end of a move's reason.
    reason = re.sub(r"7\.5$", "7.5 → 8 of 9", reason)
    reason = re.sub(r"pinned to$", "pinned to node-3: load 7.5 → 8 of 9", reason)
    told = localize(reason, None, "zh-hans")
    assert not re.search(r"[a-z]{2,}", told.replace("node-3", "")), told
    assert told.count("7.5") == reason.count("7.5")
    assert told.count("node-3") == reason.count("node-3")


def test_what_a_strategy_says_may_have_several_lines() -> None:
    told = localize("its process ended: KeyError\n  VIX", None, "zh-hans")
    assert told == "其进程终止：KeyError\n  VIX"


def test_unknown_reason_is_shown_as_it_is() -> None:
    assert localize("the moon is full", None, "zh-hans") == "the moon is full"
    told = localize("r3 was rejected: its process ended: KeyError VIX", None, "zh-hans")
    assert told == "r3 被拒绝：其进程终止：KeyError VIX"


def test_reason_of_a_move_in_the_audit_log_is_told_in_chinese() -> None:
    text = "node-3 is lost; node-1 has the lowest load of 3 nodes: 1 → 2 of 5"
    assert localize(text, None, "zh-hans") == (
        "node-3 失联；node-1 在 3 个节点中负载最低：1 → 2，共 5"
    )


#: Of alerts and of a portfolio in quarantine; braces stand for a time.
OF_ALERTS = [
    "node-3 is lost since {}: its connection closed {} and it did not return in 7.5 s",
    "node-3 is lost since {}: its process was found ended at {}",
    "7.5 s without a heartbeat after 7.5 s without an answer, limit 7.5 s",
    "feed fx has no record since {}, limit 7.5 s; portfolios that need it: able",
    "no order was placed since {}: each was refused by a limit or decided on stale events; see its"
    " orders",
    "no progress since {} while events wait, limit 7.5 s",
    "no node takes a portfolio: of 7.5 alive, 7.5 drain and 7.5 are cordoned; uncordon one or add"
    " one",
    "7.5 of 7.5 nodes were lost within 7.5 s, so failover is held until a person releases it",
    "7.5 attempts ended after seq 7.5: KeyError; start it again once it is fixed",
    "needs gpu=7.5: 0 of 7.5 other nodes have it; add the label to one node or drop the selector",
    "rebalances load: node-3 7.5 → 7.5 of 9, node-3 7.5 → 7.5 of 9",
    "orders refused: the cause is gone",
]


@pytest.mark.parametrize("reason", OF_ALERTS)
def test_reason_of_an_alert_is_told_in_chinese(reason: str) -> None:
    reason = reason.replace("{}", "20:32:41 UTC")
    told = localize(reason, None, "zh-hans")
    names = r"node-3|seq|UTC|able|fx|gpu|KeyError"
    assert not re.search(r"[a-z]{2,}", re.sub(names, "", told)), told
    assert told.count("7.5") == reason.count("7.5")
    assert told.count("20:32:41 UTC") == reason.count("20:32:41 UTC")
