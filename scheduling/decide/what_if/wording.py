"""What an answer comes to, in words: the verdict, its notes, and what would help.

Beside `reasons.py`, which words what is planned for one portfolio. Budgets are those of failover:
what dies is noticed after `grace_s`, what falls silent once its lease ends, and from there to the
first commit elsewhere it takes a few seconds at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from scheduling.decide.planner.fleet_state import HOSTING
from scheduling.decide.reasons import count, number
from scheduling.decide.types import Policy, Reason
from scheduling.decide.what_if.answer import Answer, source_names
from scheduling.decide.what_if.hypothetical import added_nodes

#: From the end of a lease, or of the grace after a socket was closed, to the first commit.
AFTER_SILENCE_S = 3.0
AFTER_DEATH_S = 2.0


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a portfolio of a lost node is without an owner, at most."""

    by_silence_s: float  #: host gone, network cut, frozen
    by_kill_s: float  #: only its process died


def outage_budget(answer: Answer, lease_ttl_s: float, grace_s: float) -> Budget | None:
    """Return the budget of those that are failed over, or None where nothing is.

    In a storm failover is held for one more lease first.
    """
    if not answer.scenario.lose or not answer.failovers:
        return None
    held_s = lease_ttl_s if answer.storm else 0.0
    return Budget(lease_ttl_s + AFTER_SILENCE_S + held_s, grace_s + AFTER_DEATH_S + held_s)


class TextSpan(NamedTuple):
    """A piece of a sentence. `tone` is warn where it should be looked at."""

    text: str
    tone: str = ""


def summary(answer: Answer) -> list[TextSpan]:
    """Return the one sentence, in pieces: `3 portfolios move, 2 would have no place.`"""
    left, plan = answer.unplaced, answer.plan
    said: list[TextSpan] = []
    if plan.place:
        said.append(TextSpan(_portfolios(len(plan.place), "is placed", "are placed")))
    if plan.move:
        said.append(TextSpan(_portfolios(len(plan.move), "moves", "move")))
    if left.no_place:
        said.append(TextSpan(f"{number(len(left.no_place))} would have no place", "warn"))
    if answer.stay:
        where = "it is" if len(answer.stay) == 1 else "they are"
        said.append(TextSpan(f"{number(len(answer.stay))} would stay where {where}", "warn"))
    if left.waiting:
        said.append(TextSpan(f"{number(len(left.waiting))} would wait", "warn"))
    if not said:
        nothing = "Nothing would move" if answer.scenario else "Nothing to do"
        return [TextSpan(f"{nothing}: what runs is what is wanted.")]
    pieces: list[TextSpan] = []
    for place, words in enumerate(said):
        if place:
            pieces.append(TextSpan(", "))
        elif words.tone:
            words = words._replace(text=_with_noun(words.text))
        pieces.append(words)
    return [*pieces, TextSpan(".")]


def _with_noun(text: str) -> str:
    """Return the piece with its noun, where it is the first to count."""
    figure, _, rest = text.partition(" ")
    return f"{figure} {'portfolio' if figure == '1' else 'portfolios'} {rest}"


def _portfolios(many: int, one: str, more: str) -> str:
    return f"{count(many, 'portfolio')} {one if many == 1 else more}"


def notes(answer: Answer, lease_ttl_s: float) -> list[str]:
    """Return the sentences below the verdict: what goes on, what was taken for granted."""
    said: list[str] = []
    question, plan = answer.scenario, answer.plan
    lost = set(question.lose)
    if lost:
        others = source_names(plan.move) - lost
        if not others and any(node.status in HOSTING for node in answer.hypothetical.nodes):
            said.append("Nothing that runs on another node moves because of it.")
        if answer.failovers:
            said.append(
                "No event is processed twice and no order is placed twice; what moves goes on "
                "from its last commit."
            )
    if answer.storm:
        said.append(
            f"So many nodes at once are a storm: failover is held for {number(lease_ttl_s)} s "
            "first, in case they come back."
        )
    if question.drain:
        said.append(
            "What is drained goes on running where it is until its new node is ready: "
            "nothing is without an owner."
        )
    # Failover has no limits: of failovers alone this would be wrong.
    if answer.is_complete and len(plan.move) > answer.failovers:
        a_pass = Policy()
        said.append(
            f"This is the whole way; a pass begins at most {a_pass.max_moves} moves, and "
            f"{a_pass.handoffs_per_node} at a time per node."
        )
    if added_nodes(answer.hypothetical):
        said.append(
            "A new node is taken to have the newest version of every strategy, and every feed."
        )
    if answer.already_pending:
        said.append(
            f"{_portfolios(answer.already_pending, 'is', 'are')} pending as things are, "
            "and not counted."
        )
    return said


def remedy_sentence(reason: Reason) -> str:
    """Return what would help in one sentence. A code it does not know is shown as it is."""
    sentence = REMEDY_SENTENCES.get(reason.code)
    return sentence(reason.params) if sentence else reason.code.replace("_", " ")


def _then(p: Mapping[str, Any]) -> str:
    return "then all have a place" if not p["left"] else f"then {number(p['left'])} would have none"


def _uncordon(p: Mapping[str, Any]) -> str:
    return f"Uncordon {p['node']}: {count(p['free'], 'free place')}, {_then(p)}."


def _undrain(p: Mapping[str, Any]) -> str:
    return f"End the drain of {p['node']}: {_then(p)}."


def _more_room(p: Mapping[str, Any]) -> str:
    places, _, labels = p["add"].partition(":")
    one = f"one node of capacity {number(int(places))}" + (f" with {labels}" if labels else "")
    if not p["nodes"]:
        return f"Add {one}: {_then(p)}."
    names = " or ".join(p["nodes"])
    return f"Add {number(p['places'])} of capacity to {names}, or {one}: {_then(p)}."


def _suspects_counted(p: Mapping[str, Any]) -> str:
    names, one = " and ".join(p["nodes"]), len(p["nodes"]) == 1
    return (
        f"{names} {'is suspect and counted' if one else 'are suspect and counted'}. Without "
        f"{'it' if one else 'them'} {number(p['left'])} would have no place."
    )


REMEDY_SENTENCES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "uncordon": _uncordon,
    "undrain": _undrain,
    "more_room": _more_room,
    "suspects_counted": _suspects_counted,
}
