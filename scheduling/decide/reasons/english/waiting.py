"""What a portfolio waits for."""

from __future__ import annotations

from scheduling.decide.reasons.english.answers import on_node
from scheduling.decide.reasons.english.parts import count
from scheduling.decide.reasons.figures import Params, Sentence, number


def _waits_for_room(p: Params) -> str:
    moves = " and ".join(f"{move['portfolio']} is on {move['target']}" for move in p["moves"])
    once = moves or "the portfolios leaving it have moved"
    return f"needs {count(p['weight'], 'place')}: {p['node']} has room once {once}"


def _frozen(p: Params) -> str:
    what = {"drain": "its node is draining", "pin": "it is pinned elsewhere"}.get(
        p["cause"], "its node no longer meets its requirements"
    )
    return f"{what}, but automatic moves are frozen; unfreeze, or migrate it manually"


def _its_node(p: Params) -> str:
    return str(p["node"] or "its node")


def _storm_hold(p: Params) -> str:
    if p.get("by"):
        return (
            f"{_its_node(p)} is lost, but {p['by']} holds failover; release the hold, or migrate it"
        )
    return (
        f"{_its_node(p)} was lost together with many others, so failover is held; "
        "it continues when they come back, or release the hold"
    )


def _storm_late(p: Params) -> str:
    late = ", ".join(p["late"])
    verb = "is" if len(p["late"]) == 1 else "are"
    return (
        f"{_its_node(p)} is lost and {late} {verb} late: failover waits until it is "
        "known whether they were lost together"
    )


def _halted_all(p: Params) -> str:
    why = f": {p['why']}" if p["why"] else ""
    return (
        f"stopped with all others by {p['actor']}{why}; "
        f"start it, or undo halt {p['halt']} to start all that it stopped"
    )


SENTENCES: dict[str, Sentence] = {
    "waits_for_room": _waits_for_room,
    "pin_waits": lambda p: (
        f"cannot move to its pinned node: {on_node(p['state'])}; unpin it or make room there"
    ),
    "frozen": _frozen,
    "frozen_failover": lambda p: (
        f"{_its_node(p)} is lost, but failover is frozen; unfreeze, or migrate it manually"
    ),
    "storm_hold": _storm_hold,
    "storm_late": _storm_late,
    "after_storm": lambda p: (
        f"{_its_node(p)} was lost in a storm: failover continues with "
        f"{number(p['limit'])} per pass, and it waits for its turn"
    ),
    "backing_off": lambda p: (
        f"the last attempt failed; the next one starts in {number(max(1, round(p['wait_s'])))} s"
    ),
    "halted_all": _halted_all,
}
