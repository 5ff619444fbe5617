"""What others changed of a portfolio while an operator edited it."""

from __future__ import annotations

from scheduling.decide.reasons.figures import Params, Sentence, duration


def _edit_text(edit: Params) -> str:
    ago_s = edit["ago_s"]
    when = "" if ago_s is None else f"{duration(ago_s, ('秒', '分钟', '小时', '天'))}前 "
    who = f"{when}{edit['actor'] or '某人'}"
    revision = f" 在 {edit['revision_name']} 中" if edit["revision_name"] else " "
    return f"{who}{revision}修改了 {'、'.join(map(_changed_field_text, edit['fields']))}"


def _changed_field_text(field: Params) -> str:
    before = "未设置" if field["before"] is None else field["before"]
    after = "未设置" if field["after"] is None else field["after"]
    return f"{field['name']} {before} → {after}"


SENTENCES: dict[str, Sentence] = {
    "changed_meanwhile": lambda p: "；".join(map(_edit_text, p["edits"])) or "已恢复原样",
}
