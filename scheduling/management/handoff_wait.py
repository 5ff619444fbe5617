"""Wait for a handoff or a start on the command line, with a status line on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from rich.console import Console
from rich.status import Status

from scheduling.decide.reasons import count
from scheduling.errors import NotFound
from scheduling.management.base import Failed
from scheduling.models import ACTIVE_STATES, Handoff, Phase, Run
from scheduling.operations.moves import MoveOutcome

POLL_S = 0.05  #: each poll reads one indexed row; the budget of a handoff is 2 s

#: Handoffs with all that their sentences and documents read.
HANDOFFS = Handoff.objects.select_related("portfolio", "source_node", "target_node")


def wait_for(handoff: Handoff, wait_s: float, until: float | None = None) -> Handoff:
    """Return the handoff once it is done. Raise Failed if it ends otherwise or after `wait_s`.

    One statement every 50 ms. After a timeout the handoff continues. `until`: a deadline by
    `time.monotonic` that several waits share, instead of `wait_s` from now.
    """
    until = time.monotonic() + wait_s if until is None else until
    with _status(f"handoff {handoff.pk}") as status:
        while True:
            handoff = HANDOFFS.get(pk=handoff.pk)
            if status:
                status.update(f"{handoff.kind} of {handoff.portfolio}: {handoff.state}")
            if handoff.state not in ACTIVE_STATES:
                return _require_done(handoff)
            if time.monotonic() >= until:
                raise Failed(
                    "wait_timeout",
                    f"The {handoff.kind} of {handoff.portfolio} (handoff {handoff.pk}) is still "
                    f"{handoff.state} after {wait_s:g} s; it continues.",
                    handoff=handoff.pk,
                    state=handoff.state,
                )
            time.sleep(POLL_S)


def wait_for_all(outcomes: Iterable[MoveOutcome], wait_s: float) -> list[MoveOutcome]:
    """Wait up to `wait_s` until all handoffs have ended; return the outcomes as they are then.

    `refused` of an outcome says why its handoff failed, or that it has not ended.
    """
    until = time.monotonic() + wait_s
    ended = []
    for each in outcomes:
        if each.handoff is not None:
            try:
                each = replace(each, handoff=wait_for(each.handoff, wait_s, until=until))
            except Failed as failed:
                each = replace(each, refused=failed)
        ended.append(each)
    # An outcome whose wait failed still has the handoff as it was before the wait.
    newest = HANDOFFS.in_bulk([each.handoff.pk for each in ended if each.handoff])
    return [
        replace(each, handoff=newest.get(each.handoff.pk, each.handoff)) if each.handoff else each
        for each in ended
    ]


def _require_done(handoff: Handoff) -> Handoff:
    """Return the handoff if it is done. Raise Failed, which says how it ended otherwise."""
    if handoff.state == "done":
        return handoff
    outcome = {
        "failed": "failed before its grant",
        "rolled_back": "was rolled back before its first commit",
        "superseded": "was superseded",
    }[handoff.state]
    after = ""
    if handoff.state == "failed":
        after = " It changed no owner and no running revision."
    elif handoff.state == "rolled_back":
        run = Run.objects.select_related("node").get(portfolio=handoff.portfolio_id)
        after = f" The portfolio is now {run.phase}{f' on {run.node}' if run.node else ''}."
    cause = f": {handoff.error.removesuffix('.')}." if handoff.error else "."
    raise Failed(
        f"handoff_{handoff.state}",
        f"Handoff {handoff.pk} ({handoff.kind} of {handoff.portfolio}) {outcome}{cause}{after}",
        handoff=handoff.pk,
        state=handoff.state,
    )


@contextmanager
def _status(text: str) -> Iterator[Status | None]:
    """Yield a status line that is shown while the block runs, None without a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    with Console(stderr=True).status(text) as status:
        yield status


def wait_until_empty(node: str, wait_s: float) -> None:
    """Return once the node owns no portfolio. Raise Failed after `wait_s`, naming those left."""
    runs = Run.objects.filter(node__name=node).select_related("portfolio").order_by("portfolio")
    until = time.monotonic() + wait_s
    with _status(f"drain of {node}") as status:
        while left := list(runs.all()):
            names = ", ".join(run.portfolio.name for run in left[:3])
            if status:
                status.update(f"drain of {node}: {len(left)} left, {names}")
            if time.monotonic() >= until:
                raise Failed(
                    "wait_timeout",
                    f"{node} still runs {count(len(left), 'portfolio')} after {wait_s:g} s: "
                    f"{names}{', …' if len(left) > 3 else ''}; it is still draining. "
                    f"`manage.py drain_node {node} --plan` says what has no place.",
                    left=len(left),
                )
            time.sleep(POLL_S)


def wait_for_running(name: str, wait_s: float) -> Handoff | None:
    """Return the newest handoff of the portfolio once it runs. Raise Failed after `wait_s`.

    Raise NotFound if the portfolio is deleted meanwhile.
    """
    until = time.monotonic() + wait_s
    with _status(f"start of {name}") as status:
        while True:
            run = Run.objects.filter(portfolio__name=name, portfolio__archived_at=None).first()
            if run is None:
                raise NotFound("portfolio", name)
            if status:
                status.update(f"start of {name}: {run.phase} {run.reason}")
            if run.phase == Phase.RUNNING:
                return HANDOFFS.filter(portfolio=run.portfolio_id).order_by("-id").first()
            if time.monotonic() >= until:
                why = run.reason or "it continues; see its page."
                message = f"{name} is still {run.phase} after {wait_s:g} s: {why}"
                raise Failed("wait_timeout", message)
            time.sleep(POLL_S)
