"""Why a portfolio is placed or moved."""

from __future__ import annotations

from scheduling.decide.reasons.chinese.parts import load
from scheduling.decide.reasons.figures import Params, Sentence, number, per_cent


def _why_target(p: Params) -> str:
    """Explain the choice of the target: `node-3 在 2 个节点中负载最低：2 → 3，共 5`."""
    loads = load(p["load_before"], p["load_after"], p["capacity"])
    name = p["target"]
    match p["how"]:
        case "pinned":
            return f"固定在 {name}：负载 {loads}"
        case "prepared":
            return f"{name} 已准备就绪：负载 {loads}"
        case "suspect":
            return f"没有在线节点有空位，可疑的 {name} 有空位：负载 {loads}"
        case "failed":
            return f"其他节点没有空位，只能再选 {name}，此前在该节点启动失败两次：负载 {loads}"
    if p["of"] == 1:
        return f"{name} 是唯一可用的节点：负载 {loads}"
    return f"{name} 在 {number(p['of'])} 个节点中负载最低：{loads}"


def _why_placed(p: Params) -> str:
    if p["pinned"]:
        return f"固定在 {p['pinned']}，但该节点目前无法接收；{_why_target(p)}"
    return _why_target(p)


def _why_failed_over(p: Params) -> str:
    if p["source"] is None:
        gone = "原节点已无记录"
    elif p["source_status"] == "left":
        gone = f"{p['source']} 已离开"
    else:
        gone = f"{p['source']} 失联"
    return f"{gone}；{_why_target(p)}"


def _why_rebalanced_by_cpu(p: Params) -> str:
    source, target, share = p["source_cpu"], p["target_cpu"], p["share"]
    return (
        f"均衡 CPU 占用：{p['source']} {per_cent(source, source - share)}；"
        f"{p['target']} {per_cent(target, target + share)}"
    )


def _source_and_target_loads(p: Params) -> str:
    """Return the loads of source and target, before → after the move."""
    after = p["source_load"] - p["weight"]
    source = load(p["source_load"], after, p["source_capacity"])
    target = load(p["load_before"], p["load_after"], p["capacity"])
    return f"{p['source']} {source}；{p['target']} {target}"


SENTENCES: dict[str, Sentence] = {
    "place": _why_placed,
    "failover": _why_failed_over,
    "drain": lambda p: f"{p['source']} 排空中；{_why_target(p)}",
    "pin": _why_target,
    "rebalance": lambda p: f"均衡负载：{_source_and_target_loads(p)}",
    "rebalance_cpu": _why_rebalanced_by_cpu,
    "makes_room": lambda p: f"为 {p['for']} 腾出空位：{_source_and_target_loads(p)}",
    "rule_broken": lambda p: f"{p['source']} 不再满足其要求；{_why_target(p)}",
    "spread": lambda p: f"{p['source']} 上已有分散组 {p['group']} 的另一组合；{_why_target(p)}",
}
