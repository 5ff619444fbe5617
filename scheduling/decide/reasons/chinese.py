"""The catalogue of reasons in Chinese, in the terms of a trading desk.

Names of nodes and portfolios, labels, strategies and `seq` are not translated; punctuation is
full-width. A number that English spells out (twice) is spelled out here too.
"""

from __future__ import annotations

from scheduling.decide.reasons.english import Params, Sentence, clock_of, duration, number, plain


def _load(before: float, after: float, capacity: float) -> str:
    return f"{number(before)} → {number(after)}，共 {number(capacity)}"


def _places(p: Params) -> str:
    return f"{number(p['weight'])} 个空位"


# Placements and moves


def _target(p: Params) -> str:
    """Explain the choice of the target: `node-3 在 2 个节点中负载最低：2 → 3，共 5`."""
    load = _load(p["load_before"], p["load_after"], p["capacity"])
    name = p["target"]
    match p["how"]:
        case "pinned":
            return f"固定在 {name}：负载 {load}"
        case "prepared":
            return f"{name} 已准备就绪：负载 {load}"
        case "suspect":
            return f"没有在线节点有空位，可疑的 {name} 有空位：负载 {load}"
        case "failed":
            return f"其他节点没有空位，只能再选 {name}，此前在该节点启动失败两次：负载 {load}"
    if p["of"] == 1:
        return f"{name} 是唯一可用的节点：负载 {load}"
    return f"{name} 在 {number(p['of'])} 个节点中负载最低：{load}"


def _place(p: Params) -> str:
    if p["pinned"]:
        return f"固定在 {p['pinned']}，但该节点目前无法接收；{_target(p)}"
    return _target(p)


def _failover(p: Params) -> str:
    if p["source"] is None:
        gone = "原节点已无记录"
    elif p["source_status"] == "left":
        gone = f"{p['source']} 已离开"
    else:
        gone = f"{p['source']} 失联"
    return f"{gone}；{_target(p)}"


def _drain(p: Params) -> str:
    return f"{p['source']} 排空中；{_target(p)}"


def _rebalance(p: Params) -> str:
    return f"均衡负载：{_source_and_target_loads(p)}"


def _rebalance_cpu(p: Params) -> str:
    source, target, share = p["source_cpu"], p["target_cpu"], p["share"]
    return (
        f"均衡 CPU 占用：{p['source']} {_per_cent(source, source - share)}；"
        f"{p['target']} {_per_cent(target, target + share)}"
    )


def _per_cent(before: float, after: float) -> str:
    return f"{round(before)} → {round(after)} %"


def _makes_room(p: Params) -> str:
    return f"为 {p['for']} 腾出空位：{_source_and_target_loads(p)}"


def _source_and_target_loads(p: Params) -> str:
    """Return the loads of source and target, before → after the move."""
    after = p["source_load"] - p["weight"]
    source = _load(p["source_load"], after, p["source_capacity"])
    target = _load(p["load_before"], p["load_after"], p["capacity"])
    return f"{p['source']} {source}；{p['target']} {target}"


def _rule_broken(p: Params) -> str:
    return f"{p['source']} 不再满足其要求；{_target(p)}"


def _spread(p: Params) -> str:
    return f"{p['source']} 上已有分散组 {p['group']} 的另一组合；{_target(p)}"


# No node takes it


def _nodes(p: Params) -> str:
    """Return `3 个节点`, or `其他 2 个节点` for a portfolio that runs and should leave its node."""
    counted = f"{number(p['nodes'])} 个节点"
    return f"其他 {counted}" if p["other"] else counted


def _zero_of(p: Params) -> str:
    return f"{_nodes(p)}中 0 个具备"


def _suitable(p: Params) -> str:
    """Return `具备 gpu=yes 的 3 个节点`."""
    if not p["selector"]:
        return _nodes(p)
    return f"具备 {p['selector']} 的{'' if p['other'] else ' '}{_nodes(p)}"


def _no_nodes(p: Params) -> str:
    return f"需要 {_places(p)}：还没有节点；用 run_node 启动一个"


def _no_other_node(p: Params) -> str:
    return f"需要在别处有 {_places(p)}：没有其他节点；请增加一个"


def _no_live_node(p: Params) -> str:
    return f"需要 {_places(p)}：{_nodes(p)}中 0 个在线；重新启动一个，或增加一个"


def _no_selector(p: Params) -> str:
    return f"需要 {p['selector']}：{_zero_of(p)}；给一个节点加上该标签，或去掉选择器"


def _no_strategy(p: Params) -> str:
    return f"需要策略 {p['strategy']}：{_zero_of(p)}；在一个节点上安装，或更换组合的策略"


def _no_feed(p: Params) -> str:
    return (
        f"需要行情源 {p['feed']}（sha256 {p['feed_sha']}…）：{_zero_of(p)}；"
        "在一个节点上安装相同的数据"
    )


def _python(p: Params) -> str:
    """Return `Python 3.11`, or with an accepted version `Python 3.11 或 3.12`, or ``."""
    versions = (p.get("python"), p.get("accept_python"))
    found = " 或 ".join(version for version in versions if version)
    return f"Python {found}" if found else ""


def _no_python(p: Params) -> str:
    return (
        f"上次在 {_python(p)} 下运行：{_zero_of(p)}，它们的版本是 Python {'、'.join(p['found'])}；"
        "启动一个具备它的节点，或用 accept_python 允许另一版本"
    )


def _artifact_python(p: Params) -> str:
    """Return `Python >=3.12（momentum 2.0）`, or an empty string."""
    needs = p.get("artifact_python")
    return f"Python {needs}（{p['artifact']}）" if needs else ""


def _no_artifact_python(p: Params) -> str:
    return (
        f"需要 {_artifact_python(p)}：{_zero_of(p)}，它们的版本是 Python {'、'.join(p['found'])}；"
        "启动一个具备它的节点，或为其中一个版本构建该策略包"
    )


def _no_match(p: Params) -> str:
    parts = (
        p["selector"],
        f"策略 {p['strategy']}" if p["strategy"] else "",
        _python(p),
        f"行情源 {p['feed']}" if p["feed"] else "",
        _artifact_python(p),
    )
    needs = "、".join(part for part in parts if part)
    return f"需要 {needs}：{_nodes(p)}中 0 个同时具备；补齐一个节点，或减少要求"


def _too_heavy(p: Params) -> str:
    return (
        f"需要一个节点上有 {_places(p)}：{_suitable(p)}中最大容量为 {number(p['largest'])}；"
        "提高某个节点的容量，或降低权重"
    )


def _no_room(p: Params) -> str:
    states = "，".join(f"{state['node']} {_short(state, p['group'])}" for state in p["states"])
    if p["more"]:
        rest = "，".join(f"{number(n)} 个{STATES.get(code, code)}" for code, n in p["more"].items())
        states = f"{states}，另有 {number(sum(p['more'].values()))} 个（{rest}）"
    every = "" if p["nodes"] == 1 else "都"
    return f"需要 {_places(p)}：{_suitable(p)}{every}没有空位：{states}；{_help(p)}"


#: Short names of node states, for lists of nodes.
STATES = {
    "lost": "失联",
    "left": "已离开",
    "selector": "缺少标签",
    "strategy": "缺少策略",
    "feed": "缺少行情源",
    "draining": "排空中",
    "cordoned": "已封锁",
    "spread": "已有同组组合",
    "full": "已满",
    "flapping": "频繁失联",
    "suspect": "可疑",
    "busy": "交接繁忙",
}


def _short(state: Params, group: str) -> str:
    """Return `8/8`, `排空中`, `已有 alpha 的另一组合`."""
    match state["state"]:
        case "full":
            return f"{number(state['load'])}/{number(state['capacity'])}"
        case "spread":
            return f"已有 {group} 的另一组合"
    return STATES.get(state["state"], str(state["state"]))


def _help(p: Params) -> str:
    match p["remedy"]:
        case "cordoned":
            return f"解除 {p['remedy_node']} 的封锁，或增加节点"
        case "draining":
            return f"撤销 {p['remedy_node']} 的排空，或增加节点"
        case "flapping":
            return "等频繁失联的节点稳定下来，或增加节点"
        case "spread":
            return "增加节点，或将分散组设为软约束"
    return "增加节点、提高容量，或停止一个组合"


# Waiting


def _waits_for_room(p: Params) -> str:
    moves = "、".join(f"{move['portfolio']} 移到 {move['target']}" for move in p["moves"])
    once = f"{moves} 后" if moves else "正在离开的组合移走后"
    return f"需要 {_places(p)}：{once}，{p['node']} 即有空位"


def _pin_waits(p: Params) -> str:
    return f"无法进入固定的节点：{on_node(p['state'])}；取消固定，或在该节点腾出空位"


def _frozen(p: Params) -> str:
    what = {"drain": "所在节点排空中", "pin": "已固定到其他节点"}.get(
        p["cause"], "所在节点不再满足其要求"
    )
    return f"{what}，但自动移动已冻结；解冻，或手动迁移"


def _its_node(p: Params) -> str:
    """Return the start of a sentence: `node-2 `, or `所在节点` if the node is unknown."""
    return f"{p['node']} " if p["node"] else "所在节点"


def _frozen_failover(p: Params) -> str:
    return f"{_its_node(p)}失联，但故障转移已冻结；解冻，或手动迁移"


def _storm_hold(p: Params) -> str:
    if p.get("by"):
        return f"{_its_node(p)}失联，但 {p['by']} 暂缓了故障转移；解除暂缓，或迁移它"
    return f"{_its_node(p)}与许多其他节点同时失联，故障转移暂缓；节点恢复后自动继续，或手动解除暂缓"


def _storm_late(p: Params) -> str:
    late = "、".join(p["late"])
    return f"{_its_node(p)}失联，{late} 心跳迟到：确认它们是否一同失联之前，故障转移等待"


def _after_storm(p: Params) -> str:
    return (
        f"{_its_node(p)}与许多节点一同失联：故障转移已恢复，每轮 {number(p['limit'])} 个，正在排队"
    )


def _backing_off(p: Params) -> str:
    return f"上次尝试失败；{number(max(1, round(p['wait_s'])))} 秒后再试"


def _halted_all(p: Params) -> str:
    why = f"：{p['why']}" if p["why"] else ""
    return (
        f"{p['actor']} 紧急停止了全部组合{why}；"
        f"单独启动它，或撤销第 {p['halt']} 号紧急停止，重新启动当时停止的全部组合"
    )


# One node, as shown to an operator


def on_node(p: Params) -> str:
    """Return whether one node takes a portfolio, and if not, why: `node-2 缺少 gpu=yes`."""
    node = p["node"]
    match p["state"]:
        case "lost":
            return f"{node} 失联"
        case "left":
            return f"{node} 已离开"
        case "selector":
            return f"{node} 缺少 {p['selector']}"
        case "strategy":
            return f"{node} 缺少策略 {p['strategy']}"
        case "feed":
            return f"{node} 缺少行情源 {p['feed']}（sha256 {p['feed_sha']}…）"
        case "python":
            return (
                f"{node} 的版本是 Python {p['node_python']}，而它上次在 {_python(p)} 下运行："
                "可用 accept_python 允许另一版本"
            )
        case "artifact":
            return f"{node} 的版本是 Python {p['node_python']}，而它需要 {_artifact_python(p)}"
        case "draining":
            return f"{node} 排空中：不接收新的组合"
        case "cordoned":
            return f"{node} 已封锁：不接收新的组合"
        case "flapping":
            return f"{node} 多次失联：{number(round(p['wait_s']))} 秒后可再次选用"
        case "spread":
            return f"{node} 上已有分散组 {p['group']} 的另一组合"
        case "full":
            return (
                f"{node} 已满：负载 {number(p['load'])}/{number(p['capacity'])}，"
                f"它需要 {number(p['weight'])}"
            )
        case "failed_there":
            return f"在 {node} 上启动它失败两次"
        case "same_node":
            return f"它正在 {node} 上运行"
        case "suspect":
            return f"{node} 可疑：缺少一次心跳"
        case "fits":
            load = _load(p["load"], p["load"] + p["weight"], p["capacity"])
            return f"{node} 可以接收：负载 {load}"
    return f"{node} 忙于其他交接"


def _would_place(p: Params) -> str:
    load = _load(p["load_before"], p["load_after"], p["capacity"])
    return f"将放置到 {p['node']}：负载 {load}"


def _would_wait(p: Params) -> str:
    return "将处于待放置状态"


def _in_handoff(p: Params) -> str:
    return "已在交接中；请等待交接结束"


def _needs_start(p: Params) -> str:
    return "未在运行：已停止、已叫停或已隔离；请先启动"


def _symbol_in_use(p: Params) -> str:
    return (
        f"平仓之前运行 {p['running']}：它持有或已下单 {'、'.join(p['symbols'])}，"
        f"而目标版本 {p['wanted']} 不含这些标的"
    )


def _older_revision(p: Params) -> str:
    if p.get("artifact"):
        return (
            f"运行 {p['running']}：{p['node']} 的版本是 Python {p['node_python']}，目标版本 "
            f"{p['wanted']} 需要 {_artifact_python(p)}，{number(p['nodes'])} 个节点中 "
            f"{number(p['having'])} 个可以运行它；请迁移到这样的节点"
        )
    return (
        f"运行 {p['running']}：{p['node']} 缺少目标版本 {p['wanted']} 所需的策略 {p['strategy']}，"
        f"{number(p['nodes'])} 个节点中 {number(p['having'])} 个具备；请在 {p['node']} 上安装它"
    )


# Lost nodes


def _lost(p: Params) -> str:
    silent, limit = plain(p["silent_s"]), plain(p["limit_s"])
    match p["cause"]:
        case "closed":
            return f"连接于 {clock_of(p['at'])} 断开，{plain(p['grace_s'])} 秒内未恢复"
        case "ended":
            return f"{clock_of(p['at'])} 发现其进程已退出"
        case "unheard":
            unheard = plain(p["unheard_s"])
            return f"{unheard} 秒未收到应答，之后 {silent} 秒没有心跳，上限 {limit} 秒"
    return f"{silent} 秒没有心跳，上限 {limit} 秒"


def _suspect(p: Params) -> str:
    if p["closed_at"]:
        return f"连接于 {clock_of(p['closed_at'])} 断开"
    return f"{plain(p['silent_s'])} 秒没有心跳，上限 {plain(p['limit_s'])} 秒"


def _node_lost(p: Params) -> str:
    return f"{p['node']} 自 {clock_of(p['since'])} 起失联：{_lost(p['loss'])}"


# Edits

UNITS = ("秒", "分钟", "小时", "天")


def _changed_meanwhile(p: Params) -> str:
    return "；".join(map(_edit, p["edits"])) or "已恢复原样"


def _edit(e: Params) -> str:
    when = "" if e["ago_s"] is None else f"{duration(e['ago_s'], UNITS)}前 "
    who = f"{when}{e['actor'] or '某人'}"
    revision = f" 在 {e['revision_name']} 中" if e["revision_name"] else " "
    return f"{who}{revision}修改了 {'、'.join(map(_changed_field, e['fields']))}"


def _changed_field(f: Params) -> str:
    before = "未设置" if f["before"] is None else f["before"]
    after = "未设置" if f["after"] is None else f["after"]
    return f"{f['name']} {before} → {after}"


# Roll-outs

_PHASES = {"stopped": "已停止", "halted": "已暂停", "quarantined": "已隔离"}


def _phase(p: Params) -> str:
    return _PHASES.get(p["state"]) or str(p["state"])


def _roll_out_deleted(p: Params) -> str:
    return "已被删除"


def _roll_out_changed(p: Params) -> str:
    return f"期间操作员已将其改为 {p['revision']}，故保持不变"


def _roll_out_not_running(p: Params) -> str:
    return f"{_phase(p)}，故保持不变；请先启动，再重新发布"


def _roll_out_interrupted(p: Params) -> str:
    return f"{p['revision']} 尚未得到验证时{_phase(p)}；启动后将运行该版本"


def _roll_out_no_owner(p: Params) -> str:
    return f"{number(p['limit_s'])} 秒内没有节点运行它，故保持不变"


def _roll_out_in_handoff(p: Params) -> str:
    return f"{number(p['limit_s'])} 秒内一直处于另一次交接，故保持不变"


def _roll_out_no_good(p: Params) -> str:
    return (
        f"{number(p['limit_s'])} 秒内没有可退回的已验证版本，故保持不变；"
        "请在其版本通过验证后重新发布，或单独修改它"
    )


def _roll_out_python(p: Params) -> str:
    return (
        f"{p['node']} 的版本是 Python {p['node_python']}，而它需要 {_artifact_python(p)}，"
        "故保持不变；请先迁移"
    )


def _roll_out_rejected(p: Params) -> str:
    return f"{p['revision']} 被拒绝：{p['error']}"


def _roll_out_late(p: Params) -> str:
    return f"{number(p['limit_s'])} 秒内未能运行 {p['revision']}；请查看其交接记录"


def _roll_out_unproven(p: Params) -> str:
    return f"正在运行 {p['revision']}，但 {number(p['limit_s'])} 秒内没有事件验证该版本"


def _roll_out_not_begun(p: Params) -> str:
    return "轮到它之前发布已结束，故保持不变"


def _roll_out_returned_stopped(p: Params) -> str:
    return f"{_phase(p)}；启动后将运行 {p['revision']}"


def _roll_out_stopped(p: Params) -> str:
    inner = SENTENCES.get(p["code"])
    return f"停在 {p['portfolio']}" + (f"：{inner(p['params'])}" if inner else "")


def _roll_out_stopped_by(p: Params) -> str:
    return f"由 {p['actor']} 停止" + (f"：{p['reason']}" if p["reason"] else "")


SENTENCES: dict[str, Sentence] = {
    "place": _place,
    "failover": _failover,
    "drain": _drain,
    "pin": _target,
    "rebalance": _rebalance,
    "rebalance_cpu": _rebalance_cpu,
    "makes_room": _makes_room,
    "rule_broken": _rule_broken,
    "spread": _spread,
    "no_nodes": _no_nodes,
    "no_other_node": _no_other_node,
    "no_live_node": _no_live_node,
    "no_selector": _no_selector,
    "no_strategy": _no_strategy,
    "no_feed": _no_feed,
    "no_python": _no_python,
    "no_artifact_python": _no_artifact_python,
    "no_match": _no_match,
    "too_heavy": _too_heavy,
    "no_room": _no_room,
    "waits_for_room": _waits_for_room,
    "pin_waits": _pin_waits,
    "frozen": _frozen,
    "frozen_failover": _frozen_failover,
    "storm_hold": _storm_hold,
    "storm_late": _storm_late,
    "after_storm": _after_storm,
    "backing_off": _backing_off,
    "halted_all": _halted_all,
    "symbol_in_use": _symbol_in_use,
    "older_revision": _older_revision,
    "on_node": on_node,
    "would_place": _would_place,
    "would_wait": _would_wait,
    "in_handoff": _in_handoff,
    "needs_start": _needs_start,
    "lost": _lost,
    "suspect": _suspect,
    "node_lost": _node_lost,
    "changed_meanwhile": _changed_meanwhile,
    "roll_out_deleted": _roll_out_deleted,
    "roll_out_changed": _roll_out_changed,
    "roll_out_not_running": _roll_out_not_running,
    "roll_out_interrupted": _roll_out_interrupted,
    "roll_out_no_owner": _roll_out_no_owner,
    "roll_out_no_good": _roll_out_no_good,
    "roll_out_in_handoff": _roll_out_in_handoff,
    "roll_out_python": _roll_out_python,
    "roll_out_rejected": _roll_out_rejected,
    "roll_out_late": _roll_out_late,
    "roll_out_unproven": _roll_out_unproven,
    "roll_out_not_begun": _roll_out_not_begun,
    "roll_out_returned_stopped": _roll_out_returned_stopped,
    "roll_out_stopped": _roll_out_stopped,
    "roll_out_stopped_by": _roll_out_stopped_by,
}
