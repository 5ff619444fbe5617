"""Translate texts that are stored in English, without data, into Chinese.

Orders, handoffs, tenures, alerts and verifications have such texts. Names and figures are taken
from the text. What a strategy said stays as it is, and so does a text that is not known here.
"""

from __future__ import annotations

import re
from functools import cache, partial

from scheduling.decide.reasons.plain_alerts import ALERTS
from scheduling.decide.reasons.plain_verdicts import VERDICTS

#: Placeholders of the sentences below: a figure, a name, a time, names with commas between them.
#: Their patterns have a group for each, to which \1, \2 … of the Chinese text refer (`~` has none).
_PLACEHOLDERS = {
    "#": r"(-?[\d.,]*\d)",
    "@": r"(\S+)",
    "&": r"((?:\d{4}-\d\d-\d\d )?\d\d:\d\d(?::\d\d)?(?: UTC|Z)?)",
    "~": r"[^\s;]+(?:, [^\s;]+)*(?: and [\d,]+ more)?",
}
#: Characters of a text with all that it quotes. A longer text is shown as it is.
MAX_TEXT = 1_000

#: (English sentence with placeholders, Chinese text with references to their groups).
_SENTENCES = (
    # Orders (portfolios/runtime)
    ("decided on a stale event", r"基于过时事件的决策"),
    ("not filled at the first bar after its decision", r"决策后的第一根 K 线未能成交"),
    ("replaced by order # of seq #", r"被 seq \2 的订单 \1 替换"),
    ("the equity is # or # % below its peak of #, limit # %",
     r"权益低于峰值 \3 达 \1，即 \2 %，上限 \4 %"),
    ("the portfolio halts: (.+)", r"组合叫停：\1"),
    ("order of # is over the largest, #", r"订单数量 \1 超过最大值 \2"),
    ("order of # in value is over the largest, #", r"订单金额 \1 超过最大值 \2"),
    ("position of # would be over the largest, #", r"持仓将达 \1，超过最大值 \2"),
    ("would be short by #, and short positions are not allowed", r"将做空 \1，而不允许做空"),
    ("needs # of cash, # is free", r"需要现金 \1，可用 \2"),
    ("# orders were placed in this minute of feed time, the most is #",
     r"此行情分钟内已下 \1 笔订单，上限 \2"),
    ("@ is not one of the portfolio's symbols", r"\1 不是该组合的标的"),
    ("no price of @ is known at this event", r"此事件时 \1 的价格未知"),
    ("# limit and stop orders are open, the most there may be",
     r"已有 \1 笔限价单和止损单未成交，已达上限"),
    # Handoffs and tenures (scheduling/enact)
    ("# portfolios? taken over", r"接管 \1 个组合"),
    ("the daemon of @ ended and started again", r"\1 的守护进程结束后重新启动"),
    ("@ started again with Python #, and (?:it|the portfolio) last ran under Python #",
     r"\1 以 Python \2 重新启动，而此前在 Python \3 下运行"),
    ("@ started again before it was ready", r"\1 在就绪之前重新启动"),
    ("@ started again before it released", r"\1 在释放之前重新启动"),
    ("@ started again while (?:it was granted|the portfolio was granted to it)",
     r"\1 在获得授权时重新启动"),
    ("@ started again", r"\1 重新启动"),
    ("@ was lost before it was ready", r"\1 在就绪之前失联"),
    ("@ was lost before the grant", r"\1 在授权之前失联"),
    ("@ was lost before its first commit", r"\1 在首次提交之前失联"),
    ("@ could not prepare in # s", r"\1 在 \2 秒内未能准备好"),
    ("@ did not release in # s: the epoch was raised without it",
     r"\1 在 \2 秒内没有释放：未经其释放即提高了纪元"),
    ("@ is gone: the epoch was raised without it", r"\1 已不在：未经其释放即提高了纪元"),
    ("@, which ran it, was lost", r"运行它的 \1 失联"),
    ("@ sends heartbeats again and keeps it", r"\1 恢复心跳并保留它"),
    ("@ did not commit in # s", r"\1 在 \2 秒内没有提交"),
    ("@ was forgotten", r"\1 已被移除"),
    ("@ is no longer the incarnation that prepared", r"\1 已不是准备时的化身"),
    ("every epoch was raised by #", r"所有纪元提高了 \1"),
    ("its process ended: (.+)", r"其进程终止：\1"),
    ("it halted before a stale event", r"它在过时事件之前叫停"),
    ("a failover came first", r"故障转移在先"),
    ("a migrate came first", r"迁移在先"),
    ("a reload came first", r"重新加载在先"),
    ("a stop came first", r"停止在先"),
    ("stopped after seq #: (.+); start resumes there", r"在 seq \1 之后停止：\2；启动后从此处继续"),
    ("stopped before seq #: the next events are # s old, limit # s, and catch_up is halt; "
     "start resumes there",
     r"在 seq \1 之前停止：后续事件已过 \2 秒，上限 \3 秒，而 catch_up 为 halt；启动后从此处继续"),
    ("attempt # of # ended after seq #: (.+)", r"第 \1 次尝试（共 \2 次）在 seq \3 之后终止：\4"),
    ("failed # times on @: (.+)", r"在 \2 上失败 \1 次：\3"),
    ("could not start on the node chosen \\(# of #\\): (.+)", r"在所选节点上启动失败（\1/\2）：\3"),
    ("could not start on @: (.+)", r"在 \1 上启动失败：\2"),
    ("could not start in time: (.+)", r"未能及时启动：\1"),
    ("r# is wanted", r"目标修订为 r\1"),
    ("(?:stopped is wanted|the wanted state is stopped)", r"目标状态是停止"),
    ("r# was rejected: (.+)", r"r\1 被拒绝：\2"),
    ("roll-out #", r"发布 \1"),
    ("stopped at @: (.+)", r"停在 \1：\2"),
    ("stopped at @", r"停在 \1"),
    ("stopped by @: (.+)", r"由 \1 停止：\2"),
    ("stopped by @", r"由 \1 停止"),
    ("way back of roll-out #", r"撤回发布 \1"),
    ("# attempts ended after seq #: (.+); start it again once it is fixed",
     r"在 seq \2 之后尝试 \1 次均告终止：\3；修复后请重新启动"),
    ("the service refused it or did not answer in time", r"服务拒绝了它，或没有及时应答"),
    # Lines of the audit log have the reason of a move without its data.
    ("no other node has room; @ again, where it failed to start twice: load # → # of #",
     r"其他节点没有空位，只能再选 \1，此前在该节点启动失败两次：负载 \2 → \3，共 \4"),
    ("no alive node has room; @ is suspect but has room: load # → # of #",
     r"没有在线节点有空位，可疑的 \1 有空位：负载 \2 → \3，共 \4"),
    ("rebalances load: @ # → # of #, @ # → # of #",
     r"均衡负载：\1 \2 → \3，共 \4；\5 \6 → \7，共 \8"),
    ("needs ([^ :]+): 0 of # (?:other )?nodes? ha(?:s|ve) it; add the label to one node or drop the"
     " selector", r"需要 \1：\2 个节点中 0 个具备；给一个节点加上该标签，或去掉选择器"),
    ("r# by @", r"r\1，由 \2"),
    ("@ is lost; (.+)", r"\1 失联；\2"),
    ("@ has left; (.+)", r"\1 已离开；\2"),
    ("@ is lost", r"\1 失联"),
    ("@ has left", r"\1 已离开"),
    ("its node is no longer known; (.+)", r"原节点已无记录；\1"),
    ("@ is draining; (.+)", r"\1 排空中；\2"),
    ("@ has already prepared it: load # → # of #", r"\1 已准备就绪：负载 \2 → \3，共 \4"),
    ("@ has the lowest load of # nodes: # → # of #", r"\1 在 \2 个节点中负载最低：\3 → \4，共 \5"),
    ("@ is the only eligible node: load # → # of #", r"\1 是唯一可用的节点：负载 \2 → \3，共 \4"),
    ("pinned to ([^ :]+): load # → # of #", r"固定在 \1：负载 \2 → \3，共 \4"),
    ("waits for the next pass", r"等待下一轮"),
    # What-if scenarios (scheduling/decide/what_if/hypothetical.py)
    ("@ cannot be both lost and drained; choose one of the two",
     r"\1 不能既失联又排空；请选择其一"),
    ("at most # nodes can be added, not #", r"最多可添加 \1 个节点，不能是 \2 个"),
    ("must be (CAPACITY or CAPACITY:label=value,label=value, such as 8 or 8:gpu=yes), not (.+): "
     "(.+)", r"应为“容量”或“容量:标签=值,标签=值”，例如 8 或 8:gpu=yes，而不是 \2：\3"),
    ("the capacity is not a whole number of at least 1", r"容量不是大于等于 1 的整数"),
    ("the capacity is over #", r"容量超过 \1"),
    ("(.+) is not label=value", r"\1 不是“标签=值”的形式"),
    ("label @ is given twice", r"标签 \1 给出了两次"),
    ("the portfolio was granted again meanwhile", r"其间组合再次被授权"),
)  # fmt: skip


def _pattern_of(sentence: str) -> re.Pattern[str]:
    """Return the pattern of a sentence with placeholders."""
    pattern = re.sub("[#@&~]", lambda found: _PLACEHOLDERS[found[0]], sentence)
    return re.compile(pattern, re.DOTALL)  # what a strategy said may have several lines


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Return the pattern of each sentence, and the sentence in Chinese.

    Compiled at the first text: that takes 50 ms, and most processes show none in Chinese.
    """
    sentences = (*_SENTENCES, *ALERTS, *VERDICTS)
    return tuple((_pattern_of(sentence), chinese) for sentence, chinese in sentences)


def in_chinese(text: str) -> str:
    """Return a plain text, with what it quotes, in Chinese; an unknown text as it is.

    Nodes and strategies choose what some texts say, so no pattern may take more than linear time.
    """
    if len(text) > MAX_TEXT:
        return text
    for pattern, chinese in _patterns():
        found = pattern.fullmatch(text)
        if found:
            return re.sub(r"\\(\d+)", partial(_translate_group, found), chinese)
    return text


def _translate_group(found: re.Match[str], reference: re.Match[str]) -> str:
    """Return the group of `found` that `reference` names by number; a sentence in Chinese."""
    group = found[int(reference[1])] or ""
    return in_chinese(group) if " " in group else group  # names and figures have no space
