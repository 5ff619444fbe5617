"""Why a node is lost or suspect."""

from __future__ import annotations

from scheduling.decide.reasons.figures import Params, Sentence, clock_time, tenths


def _why_lost(p: Params) -> str:
    silent, limit = tenths(p["silent_s"]), tenths(p["limit_s"])
    match p["cause"]:
        case "closed":
            return f"连接于 {clock_time(p['at'])} 断开，{tenths(p['grace_s'])} 秒内未恢复"
        case "ended":
            return f"{clock_time(p['at'])} 发现其进程已退出"
        case "unheard":
            unheard = tenths(p["unheard_s"])
            return f"{unheard} 秒未收到应答，之后 {silent} 秒没有心跳，上限 {limit} 秒"
    return f"{silent} 秒没有心跳，上限 {limit} 秒"


def _why_suspect(p: Params) -> str:
    if p["closed_at"]:
        return f"连接于 {clock_time(p['closed_at'])} 断开"
    return f"{tenths(p['silent_s'])} 秒没有心跳，上限 {tenths(p['limit_s'])} 秒"


SENTENCES: dict[str, Sentence] = {
    "lost": _why_lost,
    "suspect": _why_suspect,
    "node_lost": lambda p: (
        f"{p['node']} 自 {clock_time(p['since'])} 起失联：{_why_lost(p['loss'])}"
    ),
}
