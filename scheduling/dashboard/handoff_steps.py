"""The four steps of a handoff as displayed: duration when done, elapsed time while running."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from scheduling.observe.localized_reason import localized_reason, localized_text
from scheduling.presentation.formatting import (
    UNKNOWN,
    because,
    joined,
    of_limit,
    pause,
    seconds_between,
    span,
)
from scheduling.presentation.state_words import actor_word, state_word

if TYPE_CHECKING:
    from scheduling.observe.fleet_view.types import HandoffView

STEP_NAMES = (
    gettext_noop("prepare"),
    gettext_noop("drain"),
    gettext_noop("grant"),
    gettext_noop("activate"),
)

_GRANT = 2  #: index of the step `grant`

#: State of a running handoff → index of its current step.
_STEP_OF_STATE = {"requested": 0, "preparing": 0, "draining": 1, "activating": 3}

#: Kind → indexes of the steps it never takes: a source drains, a target prepares and activates.
_SKIPPED = {"place": {1}, "failover": {1}, "stop": {0, 3}}


@dataclass(frozen=True, slots=True)
class HandoffStep:
    """One step. `mark` is done, now, fail, omitted, or empty if the step is still to come."""

    name: str
    mark: str
    text: str
    elapsed_s: float | None = None
    limit_s: float | None = None

    @property
    def counts(self) -> bool:
        """Return whether the page counts the elapsed time up to the limit."""
        return self.mark == "now" and bool(self.limit_s)

    @property
    def filled(self) -> float:
        """Return the filled width of a bar of 100; of a running step with a limit, 4 at least."""
        if self.mark in ("done", "fail"):
            return 100
        if self.mark == "now" and self.elapsed_s is not None and self.limit_s:
            return round(min(max(100 * self.elapsed_s / self.limit_s, 4), 100), 1)
        return 0


def state_text(state: str) -> str:
    """Return the word for the state of a handoff; `requested` is shown as preparing."""
    return state_word("preparing" if state == "requested" else state)


def build_steps(handoff: HandoffView, now: datetime) -> list[HandoffStep]:
    """Return the four steps as of `now`. Pure."""
    drains_at_once = handoff.kind == "stop"  # there is nothing to prepare
    # When each step of STEP_NAMES started and ended, as far as that is stored.
    starts = (
        handoff.requested_at,
        handoff.prepared_at or (handoff.requested_at if drains_at_once else None),
        handoff.released_at,
        handoff.granted_at,
    )
    ends = (
        handoff.prepared_at,
        handoff.released_at,
        handoff.granted_at if handoff.released_at else None,
        handoff.activated_at,
    )
    skipped = _SKIPPED.get(handoff.kind, set())
    current = _STEP_OF_STATE.get(handoff.state)
    failed_at = _failed_step(handoff) if handoff.state in ("failed", "rolled_back") else None
    steps = []
    for number, name in enumerate(map(_, STEP_NAMES)):
        took = seconds_between(starts[number], ends[number])
        if number == failed_at:
            steps.append(HandoffStep(name, "fail", state_text(handoff.state)))
        elif number == current:
            steps.append(_running_step(name, starts[number] or handoff.requested_at, handoff, now))
        elif number in skipped:
            steps.append(HandoffStep(name, "omitted", UNKNOWN))
        elif took is not None:
            steps.append(HandoffStep(name, "done", pause(1000 * max(took, 0))))
        elif number == _GRANT and handoff.granted_at:  # without a release: no duration
            steps.append(HandoffStep(name, "done", state_word("granted")))
        else:
            steps.append(HandoffStep(name, "", ""))
    return steps


def _running_step(name: str, since: datetime, handoff: HandoffView, now: datetime) -> HandoffStep:
    """Return the step that the handoff is in, with its time so far and, if known, its limit."""
    elapsed = seconds_between(since, now) or 0.0
    limit = seconds_between(since, handoff.deadline_at)
    if limit is None or limit <= 0:
        return HandoffStep(name, "now", span(max(elapsed, 0)), elapsed)
    return HandoffStep(name, "now", of_limit(elapsed, limit), elapsed, limit)


def _failed_step(handoff: HandoffView) -> int:
    """Return the index in STEP_NAMES of the step at which a handoff failed or was rolled back."""
    if handoff.granted_at:
        return 3
    if handoff.released_at:
        return 2
    return 1 if handoff.prepared_at else 0


def progress_text(handoff: HandoffView, now: datetime) -> str:
    """Return the progress of a running handoff, such as `draining to node-1, 1.3 of 5 s`."""
    running = next((step for step in build_steps(handoff, now) if step.mark == "now"), None)
    elapsed = running.text if running is not None else ""
    state = state_text(handoff.state)
    numbers = {"to": handoff.to_revision, "from": handoff.from_revision}
    if handoff.kind == "reload":
        if handoff.state == "activating":
            return _("starting r%(to)s, previously r%(from)s") % numbers
        return joined([_("reload to r%(to)s") % numbers, state, elapsed])
    if handoff.kind == "stop":
        return joined([state_word("stopping"), state, elapsed])
    if handoff.kind == "place":
        where = {"node": handoff.target_node or _("a node")}
        return joined([_("place on %(node)s") % where, state, elapsed])
    if handoff.target_node is None:
        return joined([state_word(handoff.kind), state, elapsed])
    moving = _("%(state)s to %(node)s") % {"state": state, "node": handoff.target_node}
    return joined([moving, elapsed])


def kind_text(handoff: HandoffView) -> str:
    """Return the kind with its outcome: `migrate`, `reload r3 → r4`, or `migrate, failed`."""
    if handoff.state in ("failed", "rolled_back", "superseded"):
        return joined([state_word(handoff.kind), state_text(handoff.state)])
    kind = state_word(handoff.kind)
    if handoff.kind == "reload" and handoff.from_revision != handoff.to_revision:
        return f"{kind} r{handoff.from_revision} → r{handoff.to_revision}"
    return kind


def reason_text(handoff: HandoffView) -> str:
    """Return the error of the handoff; without one, who requested it and why."""
    if handoff.error:
        return localized_text(handoff.error)
    reason = localized_reason(handoff)
    requester = actor_word(handoff.requested_by)
    return because(requester, reason) if requester else reason
