"""What others changed of a portfolio while an operator edited it."""

from __future__ import annotations

from scheduling.decide.reasons.figures import Params, Sentence, duration


def _edit_text(edit: Params) -> str:
    """Return `r3 by ann 5 s ago changed quantity 100 → 200`."""
    revision = f"{edit['revision_name']} by " if edit["revision_name"] else ""
    who = revision + (edit["actor"] or "an unknown person")
    ago_s = edit["ago_s"]
    when = "" if ago_s is None else f" {duration(ago_s, ('s', 'min', 'h', 'days'))} ago"
    return f"{who}{when} changed {', '.join(map(_changed_field_text, edit['fields']))}"


def _changed_field_text(field: Params) -> str:
    before = "unset" if field["before"] is None else field["before"]
    after = "unset" if field["after"] is None else field["after"]
    return f"{field['name']} {before} → {after}"


SENTENCES: dict[str, Sentence] = {
    "changed_meanwhile": lambda p: (
        "; ".join(map(_edit_text, p["edits"])) or "it is as it was again"
    ),
}
