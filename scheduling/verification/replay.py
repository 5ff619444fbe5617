"""Replay a range of a portfolio's history, and show what its strategy prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings

from portfolios.sentences import sentence as _
from portfolios.verify.printed import LOADING, PrintedLine, PrintedOutput
from portfolios.verify.replay_process import replay_processes
from portfolios.verify.stored_rows import StoredRowsReader
from portfolios.verify.types import CannotVerify, VerificationResult
from portfolios.verify.verify import verify
from scheduling.errors import Refused
from scheduling.verification.anchors import StartPoint, find_start
from scheduling.verification.evidence import Evidence, gather_evidence
from scheduling.verification.recorded_feed import RecordsDiffer
from scheduling.verification.verify import Progress, code_for


@dataclass(frozen=True, slots=True)
class Replay:
    """The result of a replay."""

    portfolio: str
    from_seq: int  #: of the range that was asked for
    to_seq: int
    begun_at: int  #: seq of the first replayed event: after a verified state, or the first of all
    verified_at: datetime | None  #: when that state was verified; None: begun at the first event
    compared: VerificationResult


def replay_portfolio(
    name: str,
    from_seq: int | None = None,
    to_seq: int | None = None,
    show: Callable[[Sequence[PrintedLine]], None] | None = None,
    progress: Progress = lambda first, at, last: None,
) -> Replay:
    """Replay a range; begin at the newest verified state before it, else at the first event.

    `show` gets what the strategy prints at the events of the range, and while it is loaded. What
    the replay produces is compared with the stored rows as in a verification, but the replay goes
    on after a difference. Nothing is written. Raise NotFound, or Refused if the range lies outside
    the history or evidence is missing.
    """
    try:
        evidence = gather_evidence(name, to_seq)
        recorded = evidence.recorded
        first = recorded.first_seq if from_seq is None else from_seq
        if not recorded.first_seq <= first <= recorded.to_seq:
            raise Refused(
                "wrong_range",
                _(
                    "{name} cannot be replayed from seq {first:,}: choose one from {first_seq:,}, "
                    "its first event, to {to_seq:,}, the end of the range.",
                    name=evidence.name,
                    first=first,
                    to_seq=recorded.to_seq,
                    first_seq=recorded.first_seq,
                ),
                status=400,
            )
        start = _start_before(evidence, first)
        anchor = None if start is None else start.anchor
        begun_at = recorded.first_seq if anchor is None else anchor.seq + 1
        printed = None if show is None else PrintedOutput()
        show_lines = show or (lambda lines: None)

        def on_progress(at: int) -> None:
            progress(begun_at, at, recorded.to_seq)
            if printed is not None:
                show_lines(_from_event(printed.take(), first))

        env = settings.GINKGO
        with replay_processes(
            code_for(evidence.name),
            memory_mb=env.child_memory_mb,
            sandboxed=env.strategy_guard,
            printed=printed,
        ) as ask:
            stored = StoredRowsReader(evidence.portfolio, recorded.to_seq)
            compared = verify(recorded, stored, ask, on_progress, anchor, go_on=True)
        if printed is not None:
            show_lines(_from_event(printed.take_rest(), first))
    except RecordsDiffer as differ:
        raise Refused("cannot_replay", f"{evidence.name} cannot be replayed: {differ}") from None
    except CannotVerify as missing:
        text = str(missing).replace("cannot be verified", "cannot be replayed")
        raise Refused("cannot_replay", text) from None
    return Replay(
        portfolio=evidence.name,
        from_seq=first,
        to_seq=recorded.to_seq,
        begun_at=begun_at,
        verified_at=None if start is None else start.verified_at,
        compared=compared,
    )


def _start_before(evidence: Evidence, first: int) -> StartPoint | None:
    """Return the start of a replay that has to reach event `first`: the newest valid anchor before.

    None if `first` is the portfolio's first event.
    """
    if first <= evidence.recorded.first_seq:
        return None
    before = gather_evidence(evidence.portfolio, first - 1)
    return find_start(before, full=False, report_alive=lambda: None)


def _from_event(lines: Sequence[PrintedLine], first: int) -> list[PrintedLine]:
    """Return the lines that were printed from event `first` on, or while loading."""
    return [line for line in lines if line.seq >= first or line.seq == LOADING]


def sentences(replay: Replay) -> Iterator[str]:
    """Yield sentences: where the replay began, and whether it equals the records."""
    since = (
        "its first event"
        if replay.verified_at is None
        else f"the state verified at {replay.verified_at:%Y-%m-%d %H:%M:%S}Z"
    )
    compared = replay.compared
    yield (
        f"Replayed {compared.replayed:,} events of {replay.portfolio}, seq {replay.begun_at:,} to"
        f" {compared.to_seq:,}, from {since} on."
    )
    if compared.difference is None:
        yield "It equals the records."
        return
    # A replay that reached its end may have passed further differences, which it does not keep.
    more = " Only the first difference is named." if compared.to_seq == replay.to_seq else ""
    yield f"It differs from the records: {compared.difference.sentence()}.{more}"
