"""What became of a roll-out, or of one portfolio in it."""

from __future__ import annotations

from scheduling.decide.reasons.english.parts import artifact_python
from scheduling.decide.reasons.figures import Params, Sentence, number


def _why_stopped(p: Params) -> str:
    inner = SENTENCES.get(p["code"])
    return f"stopped at {p['portfolio']}" + (f": {inner(p['params'])}" if inner else "")


SENTENCES: dict[str, Sentence] = {
    "roll_out_deleted": lambda p: "was deleted",
    "roll_out_changed": lambda p: (
        f"an operator changed it to {p['revision']} meanwhile, so it is left as it is"
    ),
    "roll_out_not_running": lambda p: (
        f"is {p['state']}, so it is left as it is; start it, then roll out again"
    ),
    "roll_out_interrupted": lambda p: (
        f"is {p['state']} before {p['revision']} was proven; it runs once it is started"
    ),
    "roll_out_no_owner": lambda p: (
        f"had no owner for {number(p['limit_s'])} s, so it is left as it is"
    ),
    "roll_out_no_good": lambda p: (
        f"had no proven revision to fall back to for {number(p['limit_s'])} s, so it is left as it "
        "is; roll out again once its revision is good, or edit it by itself"
    ),
    "roll_out_in_handoff": lambda p: (
        f"was in another handoff for {number(p['limit_s'])} s, so it is left as it is"
    ),
    "roll_out_python": lambda p: (
        f"{p['node']} has Python {p['node_python']}, but the portfolio needs {artifact_python(p)}, "
        "so it is left as it is; migrate it first"
    ),
    "roll_out_rejected": lambda p: f"{p['revision']} was rejected: {p['error']}",
    "roll_out_late": lambda p: (
        f"did not run {p['revision']} within {number(p['limit_s'])} s; see its handoffs"
    ),
    "roll_out_unproven": lambda p: (
        f"runs {p['revision']}, which no event has proven within {number(p['limit_s'])} s"
    ),
    "roll_out_not_begun": lambda p: "the roll-out ended before its turn, so it is left as it is",
    "roll_out_returned_stopped": lambda p: (
        f"is {p['state']}; it runs {p['revision']} once it is started"
    ),
    "roll_out_stopped": _why_stopped,
    "roll_out_stopped_by": lambda p: (
        f"stopped by {p['actor']}" + (f": {p['reason']}" if p["reason"] else "")
    ),
}
