"""One verification from beginning to end."""

from __future__ import annotations

import time
from collections.abc import Callable

from django.conf import settings

from portfolios.runtime.python_version import PYTHON
from portfolios.verify.process import own_process
from portfolios.verify.stored import Stored
from portfolios.verify.values import CannotVerify, Compared
from portfolios.verify.verify import verify
from scheduling.errors import Refused
from scheduling.verification.evidence import Evidence, gather
from scheduling.verification.verdict import Verdict

Progress = Callable[[int, int, int], None]  #: first, at, last seq


def verify_portfolio(
    which: str | int,
    to_seq: int | None = None,
    progress: Progress = lambda first, at, last: None,
) -> Verdict:
    """Return whether a portfolio left behind what one uninterrupted run would have.

    `which` is its key, or its name: then of several that had it the newest is meant.

    The portfolio runs on meanwhile: it is compared as of its newest commit, or as of `to_seq`.
    Raise NotFound, or Refused where nothing can be said, with the sentence.
    """
    began = time.monotonic()
    try:
        evidence = gather(which, to_seq)
        recorded = evidence.recorded
        env = settings.GINKGO
        with own_process(memory_mb=env.child_memory_mb, guarded=env.strategy_guard) as ask:
            compared = verify(
                recorded,
                Stored(evidence.portfolio, recorded.to_seq),
                ask,
                lambda at: progress(recorded.first_seq, at, recorded.to_seq),
            )
    except CannotVerify as missing:
        raise Refused("cannot_verify", str(missing)) from None
    return Verdict(
        portfolio=evidence.name,
        compared=compared,
        history=evidence.history,
        handoffs=evidence.handoffs,
        epochs=evidence.epochs,
        taken_at=evidence.taken_at,
        took_s=time.monotonic() - began,
        notes=tuple(_notes(evidence, compared)),
    )


def _notes(evidence: Evidence, compared: Compared) -> list[str]:
    """Return what was not compared, each with its cause."""
    notes = []
    if evidence.archived_at is not None:
        notes.append(f"{evidence.name} was deleted at {evidence.archived_at:%Y-%m-%d %H:%M:%S}Z.")
    if evidence.recorded.state is None:
        notes.append(
            f"The state was not compared: only the newest is kept, as of seq {evidence.last_seq},"
            f" and the comparison ended at seq {evidence.recorded.to_seq}."
        )
    elif compared.difference is not None:
        pass  # the difference says what is wrong with the state
    elif compared.processed is None:
        notes.append(
            "The state has no count of events: a version that did not count them made it. The"
            " count begins with the next commit; until then a lost event shows by its effect only."
        )
    elif compared.processed.since > compared.from_seq:
        notes.append(
            f"Events are counted from seq {compared.processed.since} on: a version that did not"
            " count them made the state before it."
        )
    others = {stretch.python for stretch in evidence.recorded.stretches} - {"", PYTHON}
    if others:
        notes.append(
            f"Some of it ran under Python {', '.join(sorted(others))}; it was replayed under Python"
            f" {PYTHON}."
        )
    if compared.counts.equity_dropped:
        notes.append(
            f"{compared.counts.equity_dropped} equity points were not compared: they are older"
            " than 30 days and no longer kept."
        )
    return notes
