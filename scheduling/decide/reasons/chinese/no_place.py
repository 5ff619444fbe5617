"""Why no node takes a portfolio."""

from __future__ import annotations

from scheduling.decide.reasons.chinese.parts import artifact_python, places, python
from scheduling.decide.reasons.figures import Params, Sentence, number

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


def _nodes(p: Params) -> str:
    """Return `3 个节点`, or `其他 2 个节点` for a portfolio that runs and should leave its node."""
    counted = f"{number(p['nodes'])} 个节点"
    return f"其他 {counted}" if p["other"] else counted


def _none_has(p: Params) -> str:
    """Return `3 个节点中 0 个具备`."""
    return f"{_nodes(p)}中 0 个具备"


def _suitable(p: Params) -> str:
    """Return `具备 gpu=yes 的 3 个节点`."""
    if not p["selector"]:
        return _nodes(p)
    return f"具备 {p['selector']} 的{'' if p['other'] else ' '}{_nodes(p)}"


def _why_no_match(p: Params) -> str:
    parts = (
        p["selector"],
        f"策略 {p['strategy']}" if p["strategy"] else "",
        python(p),
        f"行情源 {p['feed']}" if p["feed"] else "",
        artifact_python(p),
    )
    needs = "、".join(part for part in parts if part)
    return f"需要 {needs}：{_nodes(p)}中 0 个同时具备；补齐一个节点，或减少要求"


def _why_no_room(p: Params) -> str:
    states = "，".join(
        f"{state['node']} {_short_state(state, p['group'])}" for state in p["states"]
    )
    if p["more"]:
        rest = "，".join(f"{number(n)} 个{STATES.get(code, code)}" for code, n in p["more"].items())
        states = f"{states}，另有 {number(sum(p['more'].values()))} 个（{rest}）"
    every = "" if p["nodes"] == 1 else "都"
    return f"需要 {places(p)}：{_suitable(p)}{every}没有空位：{states}；{_remedy(p)}"


def _short_state(state: Params, group: str) -> str:
    """Return `8/8`, `排空中`, `已有 alpha 的另一组合`."""
    match state["state"]:
        case "full":
            return f"{number(state['load'])}/{number(state['capacity'])}"
        case "spread":
            return f"已有 {group} 的另一组合"
    return STATES.get(state["state"], str(state["state"]))


def _remedy(p: Params) -> str:
    match p["remedy"]:
        case "cordoned":
            return f"解除 {p['remedy_node']} 的封锁，或增加节点"
        case "draining":
            return f"结束 {p['remedy_node']} 的排空，或增加节点"
        case "flapping":
            return "等频繁失联的节点稳定下来，或增加节点"
        case "spread":
            return "增加节点，或将分散组设为软约束"
    return "增加节点、提高容量，或停止一个组合"


SENTENCES: dict[str, Sentence] = {
    "no_nodes": lambda p: f"需要 {places(p)}：还没有节点；用 run_node 启动一个",
    "no_other_node": lambda p: f"需要在别处有 {places(p)}：没有其他节点；请增加一个",
    "no_live_node": lambda p: f"需要 {places(p)}：{_nodes(p)}中 0 个在线；重新启动一个，或增加一个",
    "no_selector": lambda p: (
        f"需要 {p['selector']}：{_none_has(p)}；给一个节点加上该标签，或去掉选择器"
    ),
    "no_strategy": lambda p: (
        f"需要策略 {p['strategy']}：{_none_has(p)}；在一个节点上安装，或更换组合的策略"
    ),
    "no_feed": lambda p: (
        f"需要行情源 {p['feed']}（sha256 {p['feed_sha']}…）：{_none_has(p)}；"
        "在一个节点上安装相同的数据"
    ),
    "no_python": lambda p: (
        f"上次在 {python(p)} 下运行：{_none_has(p)}，它们的版本是 Python {'、'.join(p['found'])}；"
        "启动一个具备它的节点，或用 accept_python 允许另一版本"
    ),
    "no_artifact_python": lambda p: (
        f"需要 {artifact_python(p)}：{_none_has(p)}，它们的版本是 Python {'、'.join(p['found'])}；"
        "启动一个具备它的节点，或为其中一个版本构建该制品"
    ),
    "no_match": _why_no_match,
    "too_heavy": lambda p: (
        f"需要一个节点上有 {places(p)}：{_suitable(p)}中最大容量为 {number(p['largest'])}；"
        "提高某个节点的容量，或降低权重"
    ),
    "no_room": _why_no_room,
}
