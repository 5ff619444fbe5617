"""What others changed of a portfolio while an operator edited it."""

from __future__ import annotations

from scheduling.decide.reasons.figures import Params, Sentence, duration


def _edit_text(e: Params) -> str:
    ago_s = e["ago_s"]
    when = "" if ago_s is None else f"{duration(ago_s, ('秒', '分钟', '小时', '天'))}前 "
    who = f"{when}{e['actor'] or '某人'}"
    revision = f" 在 {e['revision_name']} 中" if e["revision_name"] else " "
    return f"{who}{revision}修改了 {'、'.join(map(_changed_field_text, e['fields']))}"


def _changed_field_text(f: Params) -> str:
    before = "未设置" if f["before"] is None else f["before"]
    after = "未设置" if f["after"] is None else f["after"]
    return f"{f['name']} {before} → {after}"


SENTENCES: dict[str, Sentence] = {
    "changed_meanwhile": lambda p: "；".join(map(_edit_text, p["edits"])) or "已恢复原样",
}
