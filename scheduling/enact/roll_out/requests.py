"""What an operator can do with a roll-out: create it, stop it, take it back."""

from __future__ import annotations

from collections.abc import Sequence

from portfolios.sentences import Sentence
from portfolios.sentences import sentence as _
from scheduling.db.transaction import Transaction, query, query_one
from scheduling.decide.roll_out import NOT_RETURNABLE, RETURNABLE
from scheduling.decide.types import Reason
from scheduling.enact.artifacts import hold
from scheduling.enact.audit_log import Line, audit_all
from scheduling.enact.notify import notify_watchers
from scheduling.enact.roll_out.statements import (
    HELD_BY_OTHERS,
    LOCK_ROLL_OUT,
    NEW_ITEMS,
    NEW_ROLL_OUT,
    PORTFOLIOS_CHANGED,
    RETURN_ITEMS,
    set_state,
)
from scheduling.errors import NotFound, Refused


def create(
    artifact: str,
    wanted: Sequence[tuple[int, int]],
    *,
    at_a_time: int,
    canary_s: float | None,
    note: str,
    actor: str,
) -> Transaction[int]:
    """Create a roll-out over pairs of portfolio and wanted revision, canary first. Return its id.

    `canary_s`: seconds after which the canary counts as proven; None: once its revision is good.
    Raise Refused if the artifact is gone, or another open roll-out has one of the portfolios.
    """
    if not (yield from hold(artifact)):
        raise Refused(
            "artifact_gone",
            _(
                "The artifact {artifact}… has just been deleted; upload it again.",
                artifact=artifact[:12],
            ),
        )
    made = yield from query_one(
        NEW_ROLL_OUT,
        artifact=artifact,
        at_a_time=at_a_time,
        canary_s=canary_s,
        note=note[:200],
        actor=actor[:150],
    )
    assert made is not None
    portfolios = [portfolio for portfolio, _revision in wanted]
    inserted = yield from query(
        NEW_ITEMS,
        roll_out=made.id,
        portfolios=portfolios,
        revisions=[revision for _portfolio, revision in wanted],
    )
    if len(inserted) < len(wanted):
        yield from _refuse_held(portfolios, made.id)
        raise Refused(
            "roll_out_in_progress",
            _("Another roll-out had one of these portfolios and has just ended: request it again."),
        )
    yield from audit_all(
        "roll_out_started",
        [Line(portfolio=None, node=None, reason=note,
              data={"roll_out": made.id, "artifact": artifact, "portfolios": len(wanted)})],
        actor=actor,
    )  # fmt: skip
    yield from notify_watchers()
    return made.id


def stop(roll_out: int, *, actor: str, reason: str) -> Transaction[None]:
    """Start no further item of a roll-out; those under way go on.

    Raise Refused if the roll-out starts none anyway; NotFound if there is no such roll-out.
    """
    locked = yield from query_one(LOCK_ROLL_OUT, roll_out=roll_out)
    if locked is None:
        raise NotFound("roll-out", str(roll_out))
    if locked.state != "running":
        raise Refused(
            "roll_out_over",
            _(
                "Roll-out {roll_out} is {state}: it starts no further portfolio.",
                roll_out=roll_out,
                state=_in_words(locked.state),
            ),
        )
    why = Reason("roll_out_stopped_by", {"actor": actor, "reason": reason})
    yield from set_state(roll_out, ["running"], "stopping", why, actor=actor)
    yield from notify_watchers()


def begin_way_back(roll_out: int, *, actor: str, reason: str) -> Transaction[int]:
    """Begin to take the roll-out back. Return how many portfolios it had changed.

    The items of these portfolios become open again, so that no other roll-out takes a portfolio
    meanwhile. Raise Refused if the way back began already, the roll-out changed nothing, or another
    roll-out has one of the portfolios; NotFound if there is no such roll-out.
    """
    locked = yield from query_one(LOCK_ROLL_OUT, roll_out=roll_out)
    if locked is None:
        raise NotFound("roll-out", str(roll_out))
    if locked.state not in RETURNABLE:
        raise Refused(
            "roll_out_over",
            _(
                "Roll-out {roll_out} is {state} already.",
                roll_out=roll_out,
                state=_in_words(locked.state),
            ),
        )
    found = yield from query(
        PORTFOLIOS_CHANGED, roll_out=roll_out, not_returnable=list(NOT_RETURNABLE)
    )
    if not found:
        raise Refused(
            "nothing_changed",
            _(
                "Roll-out {roll_out} has changed no portfolio yet: stop it, there is no way back.",
                roll_out=roll_out,
            )
            if locked.state == "running"
            else _("Roll-out {roll_out} has changed no portfolio.", roll_out=roll_out),
        )
    yield from _refuse_held([row.portfolio_id for row in found], roll_out)
    yield from query(RETURN_ITEMS, roll_out=roll_out, not_returnable=list(NOT_RETURNABLE))
    yield from set_state(roll_out, list(RETURNABLE), "going_back", None, actor=actor, note=reason)
    yield from notify_watchers()
    return len(found)


def _refuse_held(portfolios: Sequence[int], roll_out: int) -> Transaction[None]:
    """Raise Refused if a portfolio is part of another open roll-out."""
    held = yield from query(HELD_BY_OTHERS, portfolios=portfolios, roll_out=roll_out)
    if held:
        raise Refused(
            "roll_out_in_progress",
            _(
                "{name} is part of roll-out {roll_out_id}, which has not ended; stop that "
                "one or wait for its end.",
                name=held[0].name,
                roll_out_id=held[0].roll_out_id,
            ),
            roll_out=held[0].roll_out_id,
        )


def _in_words(state: str) -> Sentence:
    """Return a roll-out's state as a sentence shows it, such as `going back`."""
    return _(state.replace("_", " "))
