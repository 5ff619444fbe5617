"""The sentences of a what-if answer in Chinese, in the order of `wording`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from scheduling.decide.planner.fleet_state import HOSTING
from scheduling.decide.reasons import number
from scheduling.decide.types import Policy
from scheduling.decide.what_if.answer import Answer, source_names
from scheduling.decide.what_if.hypothetical import added_nodes


def summary_clauses(answer: Answer) -> list[tuple[str, str]]:
    """Return the parts of the summary as (text, tone)."""
    pending, plan = answer.unplaced, answer.plan
    counts = (
        (len(plan.place), "放置", ""),
        (len(plan.move), "移动", ""),
        (len(pending.no_place), "无处可放", "warn"),
        (len(answer.stay), "留在原处", "warn"),
        (len(pending.waiting), "等待", "warn"),
    )
    return [(f"{number(many)} 个组合{what}", tone) for many, what, tone in counts if many]


def empty_summary(answer: Answer) -> str:
    """Return the summary of an answer without moves."""
    return "没有组合会移动。" if answer.scenario else "无需操作。"


def notes(answer: Answer, lease_ttl_s: float) -> list[str]:
    """Return the sentences below the summary: side effects and assumptions."""
    parts: list[str] = []
    scenario, plan = answer.scenario, answer.plan
    lost = set(scenario.lose)
    if lost:
        other_sources = source_names(plan.move) - lost
        is_node_left = any(node.status in HOSTING for node in answer.hypothetical.nodes)
        if is_node_left and not other_sources:
            parts.append("其他节点上的组合不会因此移动。")
        if answer.failovers:
            parts.append("没有事件被处理两次，没有订单下两次；组合从最后一次提交继续。")
    if answer.storm:
        parts.append(
            f"同时失去这么多节点属于风暴：故障转移先暂停 {number(lease_ttl_s)} 秒，以待其恢复。"
        )
    if scenario.drain:
        parts.append("被排空的组合运行到新节点就绪为止，因此都不会没有所有者。")
    if answer.is_complete and len(plan.move) > answer.failovers:
        limits = Policy()
        parts.append(
            f"这是最终结果；一轮最多开始 {limits.max_moves} 次移动，每个节点同时 "
            f"{limits.handoffs_per_node} 次。"
        )
    if added_nodes(answer.hypothetical):
        parts.append("假定新节点具有每个策略的最新版本和所有行情源。")
    if answer.already_pending:
        parts.append(f"另有 {number(answer.already_pending)} 个组合本就待放置，未计入。")
    return parts


def _outcome(p: Mapping[str, Any]) -> str:
    """Return how many portfolios would still have no place, as the end of a sentence."""
    return "则全部有处可放" if not p["left"] else f"则 {number(p['left'])} 个无处可放"


def _more_room_sentence(p: Mapping[str, Any]) -> str:
    places, _, labels = p["add"].partition(":")
    one = f"添加一个容量为 {number(int(places))} 的节点" + (f"（{labels}）" if labels else "")
    if not p["nodes"]:
        return f"{one}：{_outcome(p)}。"
    names = " 或 ".join(p["nodes"])
    return f"将 {names} 的容量增加 {number(p['places'])}，或{one}：{_outcome(p)}。"


def _suspects_sentence(p: Mapping[str, Any]) -> str:
    names = " 和 ".join(p["nodes"])
    return f"方案使用了可疑的 {names}。若不计入，{number(p['left'])} 个无处可放。"


REMEDY_SENTENCES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "uncordon": lambda p: f"解除 {p['node']} 的封锁：{number(p['free'])} 个空位，{_outcome(p)}。",
    "undrain": lambda p: f"结束 {p['node']} 的排空：{_outcome(p)}。",
    "more_room": _more_room_sentence,
    "suspects_counted": _suspects_sentence,
}
