"""The plan of a drain as a document, in the language of the reader."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from scheduling.decide.planner.targets import NotInSnapshot
from scheduling.decide.reasons import as_data
from scheduling.decide.types import Move
from scheduling.decide.what_if.answer import Remedy
from scheduling.decide.what_if.drain import DrainPlan, LossChange, drain_plan
from scheduling.decide.what_if.node_loss import NodeLoss
from scheduling.errors import NotFound
from scheduling.observe.shared_snapshot import shared_snapshot
from scheduling.presentation.formatting import joined, places, whole
from scheduling.presentation.plan import move_document, pending_document, placement_document
from scheduling.timing import timing

#: Losses named in the sentence; all of them are in the table.
MAX_NAMED = 2


def drain_document(name: str) -> dict[str, Any]:
    """Return what a drain of the node would do. Computing it changes nothing.

    Raise NotFound for an unknown node, SnapshotUnavailable if the fleet cannot be read.
    """
    fraction = timing().lease_policy.storm_fraction
    with shared_snapshot() as observed:
        try:
            found = drain_plan(observed.snapshot, name, observed.fleet_index, fraction)
        except NotInSnapshot:
            raise NotFound("node", name) from None
        return _document(found)


def _document(found: DrainPlan) -> dict[str, Any]:
    taken_at = datetime.fromtimestamp(found.answer.snapshot.taken_at, UTC)
    pins = frozenset(found.pins)
    return {
        "node": found.node,
        "taken_at": taken_at.isoformat().replace("+00:00", "Z"),
        "sentence": _verdict_sentence(found),
        "leave": [
            {**move_document(move), "unpinned": move.portfolio.name in pins} for move in found.leave
        ],
        "stay": [pending_document(entry) for entry in found.stay],
        "others": [
            move_document(step)
            if isinstance(step, Move)
            else {**placement_document(step), "source_node": None}
            for step in found.others
        ],
        "pins": list(found.pins),
        "room": {
            "moves": [move_document(move) for move in found.room],
            "stay": found.stay_with_room,
            "sentence": _room_sentence(found),
        }
        if found.room
        else None,
        "help": [
            {**as_data(one.reason), "reason": remedy_text(one), "no_place": one.no_place}
            for one in found.answer.remedies
            # To end this drain would be no remedy.
            if not (one.reason.code == "undrain" and one.reason.params["node"] == found.node)
        ],
        "losses": [_loss_document(loss) for loss in found.losses],
        "losses_sentence": _losses_sentence(found.losses),
        "unforecast": found.unforecast,
    }


def _loss_document(loss: LossChange) -> dict[str, Any]:
    return {
        "node": loss.node,
        "before": _loss_counts(loss.before),
        "after": _loss_counts(loss.after),
        "is_worse": loss.is_worse,
    }


def _loss_counts(loss: NodeLoss) -> dict[str, int]:
    return {
        "runs": loss.runs,
        "no_place": len(loss.unplaced.no_place),
        "wait": len(loss.unplaced.waiting),
    }


def _verdict_sentence(found: DrainPlan) -> str:
    """Return how many portfolios would leave the node, and how many would stay."""
    leave, stay = len(found.leave), len(found.stay)
    if not leave and not stay:
        return _("The node runs nothing, so nothing moves.")
    moves = ngettext(
        "%(number)s portfolio moves, running on until its new node is ready.",
        "%(number)s portfolios move, each running on until its new node is ready.",
        leave,
    ) % {"number": whole(leave)}
    stays = ngettext(
        "%(number)s would stay, since no other node takes it.",
        "%(number)s would stay, since no other node takes them.",
        stay,
    ) % {"number": whole(stay)}
    return " ".join([*([moves] if leave else []), *([stays] if stay else [])])


def _room_sentence(found: DrainPlan) -> str:
    """Return which moves on other nodes would make room, and how many would stay even then."""
    moves = ", ".join(f"{move.portfolio.name} → {move.target.name}" for move in found.room)
    if not found.stay_with_room:
        return _("Make room first (%(moves)s): then all of them leave.") % {"moves": moves}
    return ngettext(
        "Make room first (%(moves)s): then %(number)s would stay.",
        "Make room first (%(moves)s): then %(number)s would stay.",
        found.stay_with_room,
    ) % {"moves": moves, "number": whole(found.stay_with_room)}


def _losses_sentence(losses: Iterable[LossChange]) -> str:
    """Return, as sentences, which losses would be worse after the drain, the worst first."""
    worse = sorted(
        (loss for loss in losses if loss.is_worse),
        key=lambda loss: (-len(loss.after.unplaced.no_place), loss.node),
    )
    if not worse:
        return _("Afterwards the loss of any other node is absorbed as well as it is now.")
    sentences = [
        _(
            "After it, %(no_place)s of %(runs)s would have no place if %(node)s were lost "
            "(now %(before)s)."
        )
        % {
            "no_place": whole(len(loss.after.unplaced.no_place)),
            "runs": whole(loss.after.runs),
            "node": loss.node,
            "before": whole(len(loss.before.unplaced.no_place)),
        }
        for loss in worse[:MAX_NAMED]
    ]
    if len(worse) > MAX_NAMED:
        more = len(worse) - MAX_NAMED
        text = ngettext(
            "It is worse for %(number)s more node.", "It is worse for %(number)s more nodes.", more
        )
        sentences.append(text % {"number": whole(more)})
    return " ".join(sentences)


def remedy_text(remedy: Remedy) -> str:
    """Return, as a sentence, what would help and how many portfolios would stay even then."""
    staying = {"left": remedy.no_place}
    then = _("then all of them leave")
    if remedy.no_place:
        text = ngettext("then %(left)s would stay", "then %(left)s would stay", remedy.no_place)
        then = text % staying
    params: Mapping[str, Any] = {**remedy.reason.params, "then": then}
    match remedy.reason.code:
        case "uncordon":
            text = _("Uncordon %(node)s (free places: %(free)s): %(then)s.")
            return text % {**params, "free": places(params["free"])}
        case "undrain":
            return _("End the drain of %(node)s: %(then)s.") % params
        case "more_room":
            return _("Add a node of capacity %(add)s: %(then)s.") % params
        case _:  # suspects_counted: no remedy, but what the plan relies on
            text = ngettext(
                "The plan uses %(nodes)s, which is suspect: without it %(left)s would stay.",
                "The plan uses %(nodes)s, which are suspect: without them %(left)s would stay.",
                len(params["nodes"]),
            )
            return text % {**staying, "nodes": joined(params["nodes"])}
