"""What others changed of a portfolio while an operator edited it."""

from __future__ import annotations

from scheduling.decide.reasons.figures import Params, Sentence, duration


def _edit_text(e: Params) -> str:
    """Return `r3 by ann 5 s ago changed quantity 100 → 200`."""
    revision = f"{e['revision_name']} by " if e["revision_name"] else ""
    who = revision + (e["actor"] or "an unknown person")
    ago_s = e["ago_s"]
    when = "" if ago_s is None else f" {duration(ago_s, ('s', 'min', 'h', 'days'))} ago"
    return f"{who}{when} changed {', '.join(map(_changed_field_text, e['fields']))}"


def _changed_field_text(f: Params) -> str:
    before = "unset" if f["before"] is None else f["before"]
    after = "unset" if f["after"] is None else f["after"]
    return f"{f['name']} {before} → {after}"


SENTENCES: dict[str, Sentence] = {
    "changed_meanwhile": lambda p: (
        "; ".join(map(_edit_text, p["edits"])) or "it is as it was again"
    ),
}
