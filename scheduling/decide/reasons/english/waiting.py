"""What a portfolio waits for."""

from __future__ import annotations

from scheduling.decide.reasons.english.answers import on_node
from scheduling.decide.reasons.english.parts import count
from scheduling.decide.reasons.figures import Params, Sentence, number


def _why_no_room_yet(p: Params) -> str:
    moves = " and ".join(f"{move['portfolio']} is on {move['target']}" for move in p["moves"])
    once = moves or "the portfolios leaving it have moved"
    return f"needs {count(p['weight'], 'place')}: {p['node']} has room once {once}"


def _why_frozen(p: Params) -> str:
    what = {"drain": "its node is draining", "pin": "it is pinned elsewhere"}.get(
        p["cause"], "its node no longer meets its requirements"
    )
    return f"{what}, but automatic moves are frozen; unfreeze, or migrate it manually"


def _its_node(p: Params) -> str:
    """Return `node-2`, or `its node` if the node is unknown."""
    return str(p["node"] or "its node")


def _why_held_in_storm(p: Params) -> str:
    if p.get("by"):
        return (
            f"{_its_node(p)} is lost, but {p['by']} holds failover; release the hold, or migrate it"
        )
    return (
        f"{_its_node(p)} was lost together with many others, so failover is held; "
        "it continues when they come back, or release the hold"
    )


def _why_held_for_late_nodes(p: Params) -> str:
    late = ", ".join(p["late"])
    verb = "is" if len(p["late"]) == 1 else "are"
    return (
        f"{_its_node(p)} is lost and {late} {verb} late: failover waits until it is "
        "known whether they were lost together"
    )


def _why_halted(p: Params) -> str:
    why = f": {p['why']}" if p["why"] else ""
    return (
        f"stopped with all others by {p['actor']}{why}; "
        f"start it, or undo halt {p['halt']} to start all that it stopped"
    )


SENTENCES: dict[str, Sentence] = {
    "waits_for_room": _why_no_room_yet,
    "pin_waits": lambda p: (
        f"cannot move to its pinned node: {on_node(p['state'])}; unpin it or make room there"
    ),
    "frozen": _why_frozen,
    "frozen_failover": lambda p: (
        f"{_its_node(p)} is lost, but failover is frozen; unfreeze, or migrate it manually"
    ),
    "storm_hold": _why_held_in_storm,
    "storm_late": _why_held_for_late_nodes,
    "after_storm": lambda p: (
        f"{_its_node(p)} was lost in a storm: failover continues with "
        f"{number(p['limit'])} per pass, and it waits for its turn"
    ),
    "backing_off": lambda p: (
        f"the last attempt failed; the next one starts in {number(max(1, round(p['wait_s'])))} s"
    ),
    "halted_all": _why_halted,
}
