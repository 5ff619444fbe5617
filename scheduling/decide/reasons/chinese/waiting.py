"""What a portfolio waits for."""

from __future__ import annotations

from scheduling.decide.reasons.chinese.answers import on_node
from scheduling.decide.reasons.chinese.parts import places
from scheduling.decide.reasons.figures import Params, Sentence, number


def _why_no_room_yet(p: Params) -> str:
    moves = "、".join(f"{move['portfolio']} 移到 {move['target']}" for move in p["moves"])
    once = f"{moves} 后" if moves else "正在离开的组合移走后"
    return f"需要 {places(p)}：{once}，{p['node']} 即有空位"


def _why_frozen(p: Params) -> str:
    what = {"drain": "所在节点排空中", "pin": "已固定到其他节点"}.get(
        p["cause"], "所在节点不再满足其要求"
    )
    return f"{what}，但自动迁移已冻结；解除冻结，或手动迁移"


def _its_node(p: Params) -> str:
    """Return the start of a sentence: `node-2 `, or `所在节点` if the node is unknown."""
    return f"{p['node']} " if p["node"] else "所在节点"


def _why_held_in_storm(p: Params) -> str:
    if p.get("by"):
        return f"{_its_node(p)}失联，但 {p['by']} 暂停了故障转移；放行，或迁移它"
    return f"{_its_node(p)}与许多其他节点同时失联，故障转移暂停；节点恢复后自动继续，或手动放行"


def _why_held_for_late_nodes(p: Params) -> str:
    late = "、".join(p["late"])
    return f"{_its_node(p)}失联，{late} 心跳迟到：确认它们是否一同失联之前，故障转移等待"


def _why_halted(p: Params) -> str:
    why = f"：{p['why']}" if p["why"] else ""
    return (
        f"{p['actor']} 紧急停止了全部组合{why}；"
        f"单独启动它，或撤销第 {p['halt']} 号紧急停止，重新启动当时停止的全部组合"
    )


SENTENCES: dict[str, Sentence] = {
    "waits_for_room": _why_no_room_yet,
    "pin_waits": lambda p: (
        f"无法进入固定的节点：{on_node(p['state'])}；取消固定，或在该节点腾出空位"
    ),
    "frozen": _why_frozen,
    "frozen_failover": lambda p: f"{_its_node(p)}失联，但故障转移已冻结；解除冻结，或手动迁移",
    "storm_hold": _why_held_in_storm,
    "storm_late": _why_held_for_late_nodes,
    "after_storm": lambda p: (
        f"{_its_node(p)}与许多节点一同失联：故障转移已恢复，每轮 {number(p['limit'])} 个，正在排队"
    ),
    "backing_off": lambda p: f"上次尝试失败；{number(max(1, round(p['wait_s'])))} 秒后再试",
    "halted_all": _why_halted,
}
