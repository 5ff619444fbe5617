"""Rebuild a portfolio's history of owners from the audit log, and compare it with its tenures.

Every statement that raises an epoch writes one line to the audit log in the same transaction:
`granted` with an owner, `ended` without one. These lines alone give the whole history. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

GRANTED, ENDED = "granted", "ended"
EVENT_KINDS = (GRANTED, ENDED)

#: Fields of a tenure, in the order in which they are compared with the audit log.
COMPARED_FIELDS = ("node", "incarnation", "revision", "from_seq", "to_seq", "cause", "handoff")


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One line of the audit log that records an epoch."""

    id: int
    kind: str
    node: str | None  #: the new owner, of a `granted` line
    data: dict[str, Any]  #: as written by the grant


@dataclass(frozen=True, slots=True)
class OwnershipPeriod:
    """One epoch in the history of a portfolio's owners."""

    epoch: int
    node: str | None  #: None: no owner
    incarnation: str | None
    revision: int
    from_seq: int  #: the last seq before this epoch
    to_seq: int | None  #: the last seq of this epoch; None: the epoch continues
    cause: str
    handoff: int | None
    #: The epoch before this one, if the audit line states it; a grant may skip many numbers.
    after: int | None = None


@dataclass(frozen=True, slots=True)
class CurrentRun:
    """The current ownership according to the run's row."""

    epoch: int
    node: str | None
    incarnation: str | None
    revision: int


def rebuild_history(audit_lines: Iterable[AuditLine]) -> list[OwnershipPeriod]:
    """Return the history recorded by the audit log, oldest first.

    Raise ValueError, with a sentence, if a line lacks a field or has an invalid one.
    """
    history: list[OwnershipPeriod] = []
    for line in audit_lines:
        try:
            data = line.data
            period = OwnershipPeriod(
                epoch=int(data["epoch"]),
                node=line.node if line.kind == GRANTED else None,
                incarnation=data["incarnation"],
                revision=int(data["revision"]),
                from_seq=int(data["from_seq"]),
                to_seq=None,
                cause=str(data["cause"]),
                handoff=data["handoff"],
                after=data.get("epoch_before"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"event {line.id} ({line.kind}) has a missing or invalid field: {error}"
            ) from None
        if line.kind == GRANTED and line.node is None:
            raise ValueError(f"event {line.id} (granted) names no node: it must name the new owner")
        if history:
            history[-1] = replace(history[-1], to_seq=period.from_seq)
        history.append(period)
    return history


def find_disagreement(
    audit_lines: Iterable[AuditLine], tenures: Sequence[OwnershipPeriod], run: CurrentRun
) -> str | None:
    """Return the first difference between audit log, tenures and run as a sentence, or None.

    A line of the audit log that cannot be read counts as a difference. `tenures` are sorted by
    epoch, `audit_lines` by id.
    """
    try:
        history = rebuild_history(audit_lines)
    except ValueError as error:
        return str(error)
    return next(_disagreements(history, tenures, run), None)


def _disagreements(
    history: list[OwnershipPeriod], tenures: Sequence[OwnershipPeriod], run: CurrentRun
) -> Iterator[str]:
    """Yield a sentence for each difference, up to the first epoch that only one side has."""
    yield from _gaps(history)
    granted = [period for period in history if period.node is not None]
    for logged, tenure in zip_longest(granted, tenures):
        if tenure is None or (logged is not None and logged.epoch < tenure.epoch):
            assert logged is not None, "zip_longest yields no pair of two Nones"
            yield (
                f"the audit log grants epoch {logged.epoch} to {logged.node} ({logged.cause}) after"
                f" seq {logged.from_seq}, and no tenure of it exists"
            )
            return
        if logged is None or tenure.epoch < logged.epoch:
            yield (
                f"the tenure of epoch {tenure.epoch} on {tenure.node} ({tenure.cause}) has no"
                " granted line in the audit log"
            )
            return
        for name in COMPARED_FIELDS:
            in_log, in_tenure = getattr(logged, name), getattr(tenure, name)
            if in_log != in_tenure:
                yield (
                    f"epoch {logged.epoch}: {name} is {_as_text(in_log)} in the audit log and"
                    f" {_as_text(in_tenure)} in the tenure"
                )
    # If the audit log is empty, the run must be as it was created: in epoch 0, without an owner.
    last: OwnershipPeriod | CurrentRun = (
        history[-1] if history else CurrentRun(0, None, None, run.revision)
    )
    for name in ("epoch", "node", "incarnation", "revision"):
        in_log, in_run = getattr(last, name), getattr(run, name)
        if in_log != in_run:
            yield (
                f"the audit log ends at epoch {last.epoch} with {name} {_as_text(in_log)}, the run"
                f" has {_as_text(in_run)}"
            )


def _gaps(history: list[OwnershipPeriod]) -> Iterator[str]:
    """Yield a sentence for each place where epochs do not follow one another or seqs go back."""
    epoch, seq = 0, None
    for period in history:
        if period.epoch <= epoch:
            yield f"the audit log has epoch {period.epoch} after epoch {epoch}"
        before = period.epoch - 1 if period.after is None else period.after
        if before > epoch:
            yield (
                f"the audit log goes from epoch {epoch} to epoch {period.epoch}, which follows"
                f" epoch {before}: a line between them is missing"
            )
        if seq is not None and period.from_seq < seq:
            yield (
                f"epoch {period.epoch} begins after seq {period.from_seq}, before the start of the"
                " previous epoch"
            )
        epoch, seq = period.epoch, period.from_seq


def _as_text(value: Any) -> str:
    return "none" if value is None else str(value)
