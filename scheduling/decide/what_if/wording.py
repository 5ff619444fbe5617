"""Sentences of a what-if answer: summary, notes and remedies, in English or Chinese.

Reasons for single portfolios are in `reasons/`. An outage budget is how long a failover may take:
the death of a daemon is noticed after `grace_s`, the silence of a node when its lease ends; the
first commit on another node follows a few seconds later at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from scheduling.decide.planner.fleet_state import HOSTING
from scheduling.decide.reasons import count, is_chinese, number
from scheduling.decide.types import Policy, Reason
from scheduling.decide.what_if import chinese
from scheduling.decide.what_if.answer import Answer, source_names
from scheduling.decide.what_if.hypothetical import added_nodes

#: The longest time from the end of the lease to the first commit on another node.
AFTER_SILENCE_S = 3.0
#: The longest time to that commit from the end of the grace after the daemon's socket closed.
AFTER_DEATH_S = 2.0


@dataclass(frozen=True, slots=True)
class Budget:
    """The longest time that a portfolio of a lost node has no owner."""

    by_silence_s: float  #: host lost, network cut, or process frozen
    by_kill_s: float  #: only the daemon process died


def outage_budget(answer: Answer, lease_ttl_s: float, grace_s: float) -> Budget | None:
    """Return the outage budget of failovers from nodes assumed lost, or None if there are none.

    `lease_ttl_s` and `grace_s` are in seconds. In a storm, failover is first held for one more
    lease.
    """
    if not answer.scenario.lose or not answer.failovers:
        return None
    held_s = lease_ttl_s if answer.storm else 0.0
    return Budget(lease_ttl_s + AFTER_SILENCE_S + held_s, grace_s + AFTER_DEATH_S + held_s)


class TextSpan(NamedTuple):
    """A part of a sentence. `tone` is `warn` if it needs attention."""

    text: str
    tone: str = ""


def summary(answer: Answer, language: str | None = "en") -> list[TextSpan]:
    """Return the summary as spans: `3 portfolios move, 2 would have no place.`"""
    if is_chinese(language):
        return _chinese_summary(answer)
    pending, plan = answer.unplaced, answer.plan
    parts: list[TextSpan] = []
    if plan.place:
        parts.append(TextSpan(_portfolios(len(plan.place), "is placed", "are placed")))
    if plan.move:
        parts.append(TextSpan(_portfolios(len(plan.move), "moves", "move")))
    if pending.no_place:
        parts.append(TextSpan(f"{number(len(pending.no_place))} would have no place", "warn"))
    if answer.stay:
        where = "it is" if len(answer.stay) == 1 else "they are"
        parts.append(TextSpan(f"{number(len(answer.stay))} would stay where {where}", "warn"))
    if pending.waiting:
        parts.append(TextSpan(f"{number(len(pending.waiting))} would wait", "warn"))
    if not parts:
        return [TextSpan("Nothing would move." if answer.scenario else "Nothing to do.")]
    pieces: list[TextSpan] = []
    for position, span in enumerate(parts):
        if position:
            pieces.append(TextSpan(", "))
        elif span.tone:  # the first part needs a noun, which a part with a tone lacks
            span = span._replace(text=_with_noun(span.text))
        pieces.append(span)
    return [*pieces, TextSpan(".")]


def _chinese_summary(answer: Answer) -> list[TextSpan]:
    spans: list[TextSpan] = []
    for text, tone in chinese.summary_clauses(answer):
        spans += [TextSpan("，")] if spans else []
        spans.append(TextSpan(text, tone))
    return [*spans, TextSpan("。")] if spans else [TextSpan(chinese.empty_summary(answer))]


def _with_noun(text: str) -> str:
    """Return the text with its noun: `2 portfolios would wait` if it is `2 would wait`."""
    figure, _, rest = text.partition(" ")
    return f"{figure} {'portfolio' if figure == '1' else 'portfolios'} {rest}"


def _portfolios(amount: int, one: str, many: str) -> str:
    """Return `1 portfolio moves` or `2 portfolios move`."""
    return f"{count(amount, 'portfolio')} {one if amount == 1 else many}"


def notes(answer: Answer, lease_ttl_s: float, language: str | None = "en") -> list[str]:
    """Return the sentences below the summary: side effects and assumptions."""
    if is_chinese(language):
        return chinese.notes(answer, lease_ttl_s)
    parts: list[str] = []
    scenario, plan = answer.scenario, answer.plan
    lost = set(scenario.lose)
    if lost:
        other_sources = source_names(plan.move) - lost
        is_node_left = any(node.status in HOSTING for node in answer.hypothetical.nodes)
        if is_node_left and not other_sources:
            parts.append("No portfolio on another node moves because of it.")
        if answer.failovers:
            parts.append(
                "No event is processed twice and no order is placed twice; portfolios continue "
                "from their last commit."
            )
    if answer.storm:
        parts.append(
            f"Losing so many nodes at once is a storm: failover is first held for "
            f"{number(lease_ttl_s)} s, in case they come back."
        )
    if scenario.drain:
        parts.append(
            "Drained portfolios keep running until their new node is ready, so none is without "
            "an owner."
        )
    # Failover has no limits, so the note does not apply to failovers alone.
    if answer.is_complete and len(plan.move) > answer.failovers:
        limits = Policy()
        parts.append(
            f"This is the final result; one pass starts at most {limits.max_moves} moves, and "
            f"{limits.handoffs_per_node} at a time per node."
        )
    if added_nodes(answer.hypothetical):
        parts.append(
            "New nodes are assumed to have the newest version of every strategy, and every feed."
        )
    if answer.already_pending:
        parts.append(
            f"{_portfolios(answer.already_pending, 'is', 'are')} pending anyway and not counted."
        )
    return parts


def remedy_sentence(reason: Reason, language: str | None = "en") -> str:
    """Return a remedy as a sentence, or its code as text if it has no sentence."""
    known = chinese.REMEDY_SENTENCES if is_chinese(language) else REMEDY_SENTENCES
    sentence = known.get(reason.code)
    return sentence(reason.params) if sentence else reason.code.replace("_", " ")


def _outcome(p: Mapping[str, Any]) -> str:
    """Return the end of a remedy's sentence: how many portfolios would have no place after it."""
    return "then all have a place" if not p["left"] else f"then {number(p['left'])} would have none"


def _more_room_sentence(p: Mapping[str, Any]) -> str:
    places, _, labels = p["add"].partition(":")
    one = f"one node of capacity {number(int(places))}" + (f" with {labels}" if labels else "")
    if not p["nodes"]:
        return f"Add {one}: {_outcome(p)}."
    names = " or ".join(p["nodes"])
    return f"Add {number(p['places'])} of capacity to {names}, or {one}: {_outcome(p)}."


def _suspects_sentence(p: Mapping[str, Any]) -> str:
    names, one = " and ".join(p["nodes"]), len(p["nodes"]) == 1
    return (
        f"The plan uses {names}, which {'is' if one else 'are'} suspect. Without "
        f"{'it' if one else 'them'} {number(p['left'])} would have no place."
    )


REMEDY_SENTENCES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "uncordon": lambda p: f"Uncordon {p['node']}: {count(p['free'], 'free place')}, {_outcome(p)}.",
    "undrain": lambda p: f"End the drain of {p['node']}: {_outcome(p)}.",
    "more_room": _more_room_sentence,
    "suspects_counted": _suspects_sentence,
}
