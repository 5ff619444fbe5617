"""Who owned a portfolio when, rebuilt from the audit trail alone, and held against the tenures.

Every statement that raises an epoch writes one line of the trail in the same transaction: `granted`
with an owner, `ended` without one. From these lines alone the whole history follows. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

GRANTED, ENDED = "granted", "ended"
EVENT_KINDS = (GRANTED, ENDED)

#: What a line of history says of itself, in the order in which a difference is looked for.
COMPARED_FIELDS = ("node", "incarnation", "revision", "from_seq", "to_seq", "cause", "handoff")


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One line of the trail that tells of an epoch."""

    id: int
    kind: str
    node: str | None  #: the new owner of a `granted` line
    data: dict[str, Any]  #: as the grant wrote it


@dataclass(frozen=True, slots=True)
class OwnershipPeriod:
    """One epoch of the history."""

    epoch: int
    node: str | None  #: None: nobody owned it
    incarnation: str | None
    revision: int
    from_seq: int  #: the last seq before it
    to_seq: int | None  #: the last of its own; None: it goes on
    cause: str
    handoff: int | None
    after: int | None = None  #: the epoch before it, where the line says it: many may be left out


@dataclass(frozen=True, slots=True)
class CurrentRun:
    """The run as it stands."""

    epoch: int
    node: str | None
    incarnation: str | None
    revision: int


def rebuild_history(trail: Iterable[AuditLine]) -> list[OwnershipPeriod]:
    """Return the history that the trail tells, oldest first. Raise ValueError, with a sentence,
    where a line does not say what it must."""
    history: list[OwnershipPeriod] = []
    for line in trail:
        try:
            data = line.data
            owned = OwnershipPeriod(
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
            raise ValueError(f"event {line.id} ({line.kind}) does not say {error}") from None
        if line.kind == GRANTED and line.node is None:
            raise ValueError(f"event {line.id} (granted) names no node")
        if history:
            history[-1] = replace(history[-1], to_seq=owned.from_seq)
        history.append(owned)
    return history


def find_disagreement(
    trail: Iterable[AuditLine], tenures: Sequence[OwnershipPeriod], now: CurrentRun
) -> str | None:
    """Return the first thing in which trail, tenures and run disagree, as a sentence, or None.

    `tenures` are in order of epoch, and the trail in order of its lines.
    """
    try:
        history = rebuild_history(trail)
    except ValueError as error:
        return str(error)
    return next(_disagreements(history, tenures, now), None)


def _disagreements(
    history: list[OwnershipPeriod], tenures: Sequence[OwnershipPeriod], now: CurrentRun
) -> Iterator[str]:
    yield from _gaps(history)
    owned = [line for line in history if line.node is not None]
    for line, tenure in zip_longest(owned, tenures):
        if tenure is None or (line is not None and line.epoch < tenure.epoch):
            assert line is not None
            yield (
                f"the trail grants epoch {line.epoch} to {line.node} ({line.cause}) after seq"
                f" {line.from_seq}, and there is no tenure of it"
            )
            return
        if line is None or tenure.epoch < line.epoch:
            yield (
                f"the tenure of epoch {tenure.epoch} on {tenure.node} ({tenure.cause}) has no"
                " granted line in the trail"
            )
            return
        for name in COMPARED_FIELDS:
            told, kept = getattr(line, name), getattr(tenure, name)
            if told != kept:
                yield (
                    f"epoch {line.epoch}: the trail says {_named(name)} {_shown(told)}, the tenure"
                    f" {_shown(kept)}"
                )
    last = (
        history[-1] if history else OwnershipPeriod(0, None, None, now.revision, 0, None, "", None)
    )
    for name in ("epoch", "node", "incarnation", "revision"):
        told, kept = getattr(last, name), getattr(now, name)
        if told != kept:
            yield (
                f"the trail ends with {_named(name)} {_shown(told)} (epoch {last.epoch}), the run"
                f" has {_shown(kept)}"
            )


def _gaps(history: list[OwnershipPeriod]) -> Iterator[str]:
    """Yield where the epochs do not follow one another, or seqs go back."""
    epoch, seq = 0, None
    for line in history:
        if line.epoch <= epoch:
            yield f"the trail tells of epoch {line.epoch} after epoch {epoch}"
        before = line.epoch - 1 if line.after is None else line.after
        if before > epoch:
            yield (
                f"the trail goes from epoch {epoch} to epoch {line.epoch}, which came after epoch"
                f" {before}: a line is missing between"
            )
        if seq is not None and line.from_seq < seq:
            yield f"epoch {line.epoch} begins after seq {line.from_seq}, behind the one before"
        epoch, seq = line.epoch, line.from_seq


def _named(name: str) -> str:
    return {"from_seq": "it begins after seq", "to_seq": "it ends at seq"}.get(name, name)


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
