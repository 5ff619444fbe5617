"""Chinese for reasons that are stored as text without data."""

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
        for node in ast.walk(ast.parse((CHECKOUT / "portfolios" / "runtime" / name).read_text())):
            value = getattr(node, "value", None)
            if isinstance(node, ast.Return | ast.Assign) and isinstance(value, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "7.5" for p in value.values)
                found.append("".join(map(str, parts)))
    return [*found, SUPPRESSED, NOT_FILLED]


def test_all_sentences_about_refused_orders_are_found_in_the_sources() -> None:
    assert len(sentences()) == 14


@pytest.mark.parametrize("sentence", sentences())
def test_every_reason_of_an_order_is_told_in_chinese(sentence: str) -> None:
    told = localize(sentence, None, "zh-hans")
    assert told != sentence and not re.search(r"[a-z]{4,}", told)
    assert told.count("7.5") == sentence.count("7.5")
    assert localize(sentence, None, "en") == sentence


#: Reasons of handoffs, and where they are made.
DEADLINES = "enact/handoff/deadlines.py"
MOVES = "decide/reasons/english/moves.py"
OF_HANDOFFS = [
    (DEADLINES, "node-3 was lost before it was ready"),
    (DEADLINES, "node-3 could not prepare in 7.5 s"),
    (DEADLINES, "node-3 was lost before the grant"),
    (DEADLINES, "node-3 was lost before its first commit"),
    (DEADLINES, "node-3 did not commit in 7.5 s"),
    (DEADLINES, "node-3 did not release in 7.5 s: the epoch was raised without it"),
    (DEADLINES, "node-3 is gone: the epoch was raised without it"),
    ("passes/sweep.py", "the wanted state is stopped"),
    (MOVES, "node-3 has left; node-3 has already prepared it: load 7.5"),
    (MOVES, "its node is no longer known; node-3 is draining; pinned to"),
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


@pytest.mark.parametrize(
    ("text", "chinese"),
    [
        ("its process ended: KeyError\n  VIX", "其进程终止：KeyError\n  VIX"),
        ("r3 was rejected: its process ended: KeyError VIX", "r3 被拒绝：其进程终止：KeyError VIX"),
        ("a failover came first", "故障转移在先"),
        ("attempt 2 of 5 ended after seq 7: KeyError",
         "第 2 次尝试（共 5 次）在 seq 7 之后终止：KeyError"),
        ("stopped before seq 8: the next events are 90 s old, limit 60 s, and catch_up is halt; "
         "start resumes there",
         "在 seq 8 之前停止：后续事件已过 90 秒，上限 60 秒，"
         "而 catch_up 为 halt；启动后从此处继续"),
        ("not delivered in 600 s: apprise failed with TimeoutError",
         "600 秒内未能送达：发送失败：TimeoutError"),
        ("node-3 is lost", "node-3 失联"),
        ("node-3 has left", "node-3 已离开"),
        ("node-3 is lost; node-1 has the lowest load of 3 nodes: 1 → 2 of 5",
         "node-3 失联；node-1 在 3 个节点中负载最低：1 → 2，共 5"),
        ("the moon is full", "the moon is full"),  # unknown: shown as it is
    ],
)  # fmt: skip
def test_reason_is_told_in_chinese(text: str, chinese: str) -> None:
    assert localize(text, None, "zh-hans") == chinese


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
    "7.5 of 7.5 nodes were lost within 7.5 s, so failover is held",
    "no complete pass since {} although a watcher runs, limit 7.5 s: lost nodes are not failed"
    " over; see the log of the watcher",
    "no complete pass since the start although a watcher runs, limit 7.5 s: lost nodes are not"
    " failed over; see the log of the watcher",
    "no watcher has looked since {}, limit 7.5 s: a lost node waits for the next pass of a worker;"
    " start a watcher, or see its log",
    "no watcher has looked since {}, limit 7.5 s: no worker runs passes either, so nothing fails"
    " over; start a watcher, or see its log",
    "7.5 portfolios are pending: able, fx, gpu and 7 more; needs gpu=7.5: 0 of 7.5 nodes have it;"
    " add the label to one node or drop the selector",
    "7.5 portfolios are pending: able; needs 7.5 places: no room on 7.5 nodes: node-1 8 of 8;"
    " undo the drain of node-3 or add a node",
    "7.5 portfolios are pending: able; needs 7.5 places on one node: the largest of 7.5 nodes has"
    " 7.5; raise a node's capacity or lower the weight",
    "needs 7.5 places: 0 of 7.5 nodes are alive; start one again or add one",
    "able on node-3 has lagged by more than 7.5 s since {}: give it a faster node or less to do",
    "7.5 portfolios on node-3 have lagged by more than 7.5 s since {}: able, fx and 2 more;"
    " decisions on events that old are not placed: give it a faster node or less to do",
    "roll-out 7.5 stopped at able: r7.5 was rejected: KeyError; take it back, or give that"
    " portfolio another revision",
    "its orders and fills up to seq 7.5 were archived, and it is verified up to seq 7.5 only: look"
    " at its verification; the archive has every row",
    "no commit gets through since {} though the database answers: look for a session that locks a"
    " table or for commits that wait for a disk or a standby; no deadline is judged meanwhile",
    "pid 7.5 (no name, user fx) has held a snapshot since {}, limit 7.5 s: nothing is vacuumed and"
    " commits get slower; end it with pg_terminate_backend(7.5) if it is not a dump",
    "records are stored in fx, since no partition was attached for them: another session may hold"
    " the table; run manage.py archive_records",
    "the database grows by 7.5 GB a day, most of it fx, and its disk has 7.5 GB free: full in 7.5"
    " days; keep records for a shorter time or give it more room",
    "the disk of the database is full: commits are refused; free space on it, or attach more",
    "the disk of the database has 7.5 MB free, 7.5 %; free space on it, or attach more",
    "7.5 schedules of the queue are not those of Ginkgo and are refused: 'fx'; another program "
    "wrote to django_q_schedule: find it, and delete the rows",
    "the database lacks acknowledged commits (portfolios: 7.5, events: 7.5, placed orders: 7.5 or"
    " more); run manage.py raise_epoch_floor",
    "the database lacks acknowledged commits (portfolios: 7.5, events: 7.5, placed orders: 7.5);"
    " unverified portfolios: 7.5; run manage.py raise_epoch_floor",
    "the database went on as timeline 7.5 without a synchronous standby, so acknowledged commits"
    " may be missing; no daemon has reported any; run manage.py raise_epoch_floor",
    "its verification is different at seq 7.5: order 7.5 at seq 7.5 (buy 1 IBM at 2, open): price "
    "is 7.5, the reference run has 7.5; epoch 7.5 on node-3, r7.5 by migrate (handoff 3), from seq"
    " 7.5 to 9",
]
#: Where the texts of alerts are made.
OF_STATEMENTS = ("alerts", "pass_lock", "storage", "timeline")


def test_every_alert_text_in_the_statements_has_a_translation() -> None:
    """A text of a statement is a literal with a space, within the columns of a cause."""
    known = re.sub(r"\s+", " ", " ".join(OF_ALERTS))
    unknown = []
    for name in OF_STATEMENTS:
        source = (CHECKOUT / "scheduling" / "enact" / f"{name}.py").read_text()
        for text in re.findall(
            r"(?:\|\| |THEN |ELSE |^\s+)'([^']*[a-z] [a-z][^']*)'", source, re.M
        ):
            unknown += [text] if text.strip() not in known else []
    assert unknown == []


#: Of verifications: sentences, notes, and what became of one without a verdict.
OF_VERIFICATIONS = [
    "identical over 7.5 events, 1 order, 7.5 fills, 7.5 equity points, 7.5 handoffs, seq 7.5–7.5",
    "identical over 1 replayed event, 7.5 orders, 1 fill, 7.5 equity points, 7.5 handoffs, seq"
    " 7.5–7.5; 7.5 of the events replayed now, from seq 7.5, the others verified by {}",
    "different at seq 7.5: equity point at seq 7.5: row is missing, the reference run has 7.5;"
    " epoch 7.5 on node-3, r7.5 by KeyError, from seq 7.5 on",
    "different at seq 7.5: fill 7.5 at seq 7.5: row is 7.5, the reference run has none; epoch 7.5"
    " on node-3, r7.5 by KeyError (handoff 3), from seq 7.5 on",
    "history differs: able",
    "able was deleted at {}.",
    "Rows or inputs before seq 7.5 have changed since the verification at {}, so the replay began"
    " before them.",
    "Orders and fills before seq 7.5 are archived, so the replay began at seq 7.5, after them.",
    "Orders and fills before seq 7.5 are archived, so they were not compared.",
    "Some of the history ran under Python 3.12; all was replayed under Python 3.13.",
    "Some of it ran under Python 3.12; it was replayed under Python 3.13.",
    "7.5 equity points were not compared: they are older than 7.5 days and no longer kept.",
    "7.5 orders and fills were not compared: they are archived.",
    "The time limit of 7.5 s ended the verification at seq 7.5 of 7.5; the next one continues from"
    " there. The state was not compared.",
    "The time limit of 7.5 s ended it at seq 7.5 of 7.5; the next verification continues from"
    " there. The state was not compared.",
    "The state was not compared: only the newest is kept, as of seq 7.5, and the comparison ended"
    " at seq 7.5.",
    "Events are counted from seq 7.5 on: an older version, which did not count events, made the"
    " state before it.",
    "The state has no event count: an older version, which did not count events, made it. The count"
    " begins with the next commit; until then a lost event shows only by its effect.",
    "Its runner was not heard of for 7.5 s; verify again.",
    "No worker took it within 7.5 s; look whether the worker runs, then verify again.",
    "Waits for its turn.",
    "Reads the log.",
    "Identical so far, at seq 7.5 of 7.5.",
    "able has not been verified yet.",
    "able cannot be verified: Feed fx keeps its records from seq 7.5 on, and seq 7.5 is needed.",
    "able cannot be verified: Feed fx has no record of seq 7.5, which was recorded: restore its"
    " records from a backup.",
    "able cannot be verified: The records of feed fx from seq 7.5 to 7.5 are not those that were"
    " recorded, since their hash differs from the chain: restore them from a backup.",
]


NAMES = re.compile(
    r"node-\d|seq|UTC|Ginkgo|able|fx|gpu|KeyError|pid|Python|manage.py \w+|pg_\w+|django_\w+"
    r"|price|migrate|row\b"
)


def test_texts_of_alerts_and_verifications_are_told_in_chinese() -> None:
    for text in (*OF_ALERTS, *OF_VERIFICATIONS):
        reason = text.replace("{}", "20:32:41 UTC")
        told = localize(reason, None, "zh-hans")
        assert not re.search(r"[a-z]{2,}", NAMES.sub("", told)), told
        assert told.count("7.5") == reason.count("7.5"), told
        assert told.count("20:32:41 UTC") == reason.count("20:32:41 UTC"), told
