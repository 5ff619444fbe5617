"""What became of a roll-out, or of one portfolio in it."""

from __future__ import annotations

from scheduling.decide.reasons.chinese.parts import artifact_python
from scheduling.decide.reasons.figures import Params, Sentence, number

_PHASES = {"stopped": "已停止", "halted": "已叫停", "quarantined": "已隔离"}


def _phase_text(p: Params) -> str:
    return _PHASES.get(p["state"]) or str(p["state"])


def _why_stopped(p: Params) -> str:
    inner = SENTENCES.get(p["code"])
    return f"停在 {p['portfolio']}" + (f"：{inner(p['params'])}" if inner else "")


SENTENCES: dict[str, Sentence] = {
    "roll_out_deleted": lambda p: "已被删除",
    "roll_out_changed": lambda p: f"期间操作员已将其改为 {p['revision']}，故保持不变",
    "roll_out_not_running": lambda p: f"{_phase_text(p)}，故保持不变；请先启动，再重新发布",
    "roll_out_interrupted": lambda p: (
        f"{p['revision']} 尚未得到验证时{_phase_text(p)}；启动后将运行该修订"
    ),
    "roll_out_no_owner": lambda p: f"{number(p['limit_s'])} 秒内没有节点运行它，故保持不变",
    "roll_out_in_handoff": lambda p: f"{number(p['limit_s'])} 秒内一直处于另一次交接，故保持不变",
    "roll_out_no_good": lambda p: (
        f"{number(p['limit_s'])} 秒内没有可退回的已验证修订，故保持不变；"
        "请在其修订通过验证后重新发布，或单独修改它"
    ),
    "roll_out_python": lambda p: (
        f"{p['node']} 的版本是 Python {p['node_python']}，而该组合需要 {artifact_python(p)}，"
        "故保持不变；请先迁移"
    ),
    "roll_out_rejected": lambda p: f"{p['revision']} 被拒绝：{p['error']}",
    "roll_out_late": lambda p: (
        f"{number(p['limit_s'])} 秒内未能运行 {p['revision']}；请查看其交接记录"
    ),
    "roll_out_unproven": lambda p: (
        f"正在运行 {p['revision']}，但 {number(p['limit_s'])} 秒内没有事件验证该修订"
    ),
    "roll_out_not_begun": lambda p: "轮到它之前发布已结束，故保持不变",
    "roll_out_returned_stopped": lambda p: f"{_phase_text(p)}；启动后将运行 {p['revision']}",
    "roll_out_stopped": _why_stopped,
    "roll_out_stopped_by": lambda p: (
        f"由 {p['actor']} 停止" + (f"：{p['reason']}" if p["reason"] else "")
    ),
}
