"""What an operator is told about one node, or about one portfolio."""

from __future__ import annotations

from scheduling.decide.reasons.chinese.parts import artifact_python, load, python
from scheduling.decide.reasons.figures import Params, Sentence, number


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
                f"{node} 的版本是 Python {p['node_python']}，而该组合上次在 {python(p)} 下运行："
                "可用 accept_python 允许另一版本"
            )
        case "artifact":
            return f"{node} 的版本是 Python {p['node_python']}，而该组合需要 {artifact_python(p)}"
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
                f"该组合需要 {number(p['weight'])}"
            )
        case "failed_there":
            return f"在 {node} 上启动它失败两次"
        case "same_node":
            return f"它正在 {node} 上运行"
        case "suspect":
            return f"{node} 可疑：缺少一次心跳"
        case "fits":
            loads = load(p["load"], p["load"] + p["weight"], p["capacity"])
            return f"{node} 可以接收：负载 {loads}"
    return f"{node} 忙于其他交接"


def _why_older_revision(p: Params) -> str:
    if p.get("artifact"):
        return (
            f"运行 {p['running']}：{p['node']} 的版本是 Python {p['node_python']}，目标修订 "
            f"{p['wanted']} 需要 {artifact_python(p)}，{number(p['nodes'])} 个节点中 "
            f"{number(p['having'])} 个可以运行它；请迁移到这样的节点"
        )
    return (
        f"运行 {p['running']}：{p['node']} 缺少目标修订 {p['wanted']} 所需的策略 {p['strategy']}，"
        f"{number(p['nodes'])} 个节点中 {number(p['having'])} 个具备；请在 {p['node']} 上安装它"
    )


SENTENCES: dict[str, Sentence] = {
    "on_node": on_node,
    "would_place": lambda p: (
        f"将放置到 {p['node']}：负载 {load(p['load_before'], p['load_after'], p['capacity'])}"
    ),
    "would_wait": lambda p: "将处于待放置状态",
    "in_handoff": lambda p: "已在交接中；请等待交接结束",
    "needs_start": lambda p: "未在运行：已停止、已叫停或已隔离；请先启动",
    "symbol_in_use": lambda p: (
        f"平仓之前运行 {p['running']}：它持有或已下单 {'、'.join(p['symbols'])}，"
        f"而目标修订 {p['wanted']} 不含这些标的"
    ),
    "older_revision": _why_older_revision,
}
