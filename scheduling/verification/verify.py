"""Run one verification."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from django.conf import settings

from portfolios.runtime.python_version import PYTHON_VERSION
from portfolios.verify.replay_process import ArtifactCode, replay_processes
from portfolios.verify.stored_rows import StoredRowsReader
from portfolios.verify.types import CannotVerify, VerificationResult
from portfolios.verify.verify import verify
from scheduling.artifact_code import CodeUnavailable, artifact_code
from scheduling.errors import Refused
from scheduling.verification.anchors import StartPoint, SummedRows, find_start, store_anchor
from scheduling.verification.evidence import Evidence, gather_evidence
from scheduling.verification.recorded_feed import RecordsDiffer
from scheduling.verification.verdict import Verdict

#: Takes three seqs: the first event replayed, the one reached, and the last to be compared.
Progress = Callable[[int, int, int], None]


def verify_portfolio(
    id_or_name: str | int,
    to_seq: int | None = None,
    progress: Progress = lambda first, at, last: None,
    *,
    full: bool = False,
    limit_s: float | None = None,
) -> Verdict:
    """Compare the stored output of a portfolio with a reference run.

    Of several portfolios that had the name, the newest is meant. The portfolio keeps running: it is
    compared as of its newest commit, or as of `to_seq`. The replay begins at the newest valid
    anchor; with `full` at the first event. After `limit_s` seconds it ends at the event that it has
    reached. If the result is identical, the end of the replay is stored as an anchor. Raise
    NotFound, or Refused if the portfolio cannot be verified.
    """
    began = time.monotonic()
    try:
        evidence = gather_evidence(id_or_name, to_seq)
        recorded = evidence.recorded
        first = recorded.first_seq

        def report_alive() -> None:
            progress(first, first - 1, recorded.to_seq)  # it runs; no event is reached yet

        start = find_start(evidence, full=full, report_alive=report_alive)
        if start.anchor is not None:
            first = start.anchor.seq + 1
        rows = SummedRows(
            StoredRowsReader(evidence.portfolio, recorded.to_seq), evidence.portfolio, start
        )
        env = settings.GINKGO
        with replay_processes(
            code_for(evidence.name), memory_mb=env.child_memory_mb, sandboxed=env.strategy_guard
        ) as ask:
            compared = verify(
                recorded,
                rows,
                ask,
                lambda at: progress(first, at, recorded.to_seq),
                start.anchor,
                time_is_up=lambda: limit_s is not None and time.monotonic() - began > limit_s,
            )
    except RecordsDiffer as error:
        raise Refused("cannot_verify", f"{evidence.name} cannot be verified: {error}") from None
    except CannotVerify as error:
        raise Refused("cannot_verify", str(error)) from None

    if compared.anchor is not None and evidence.history is None:
        store_anchor(evidence, start, compared.anchor, rows)
    return Verdict(
        portfolio=evidence.name, compared=compared, history=evidence.history,
        handoffs=evidence.handoffs, epochs=evidence.epochs, taken_at=evidence.taken_at,
        took_s=time.monotonic() - began, notes=tuple(_notes(evidence, start, compared, limit_s)),
        verified_at=start.verified_at,
    )  # fmt: skip


def code_for(portfolio: str) -> Callable[[str], ArtifactCode]:
    """Return a function that loads an artifact's code by its sha256, or raises CannotVerify."""

    def find(sha256: str) -> ArtifactCode:
        try:
            return artifact_code(sha256)
        except CodeUnavailable as error:
            raise CannotVerify(f"{portfolio} cannot be verified: {error}.") from None

    return find


def _notes(
    evidence: Evidence, start: StartPoint, compared: VerificationResult, limit_s: float | None
) -> Iterator[str]:
    """Yield a sentence for each part that was not compared, with the cause."""
    recorded, counts = evidence.recorded, compared.counts
    if evidence.archived_at is not None:
        yield f"{evidence.name} was deleted at {evidence.archived_at:%Y-%m-%d %H:%M:%S}Z."
    if start.changed is not None:
        seq, at = start.changed
        yield (
            f"Rows or inputs before seq {seq} have changed since the verification at"
            f" {at:%Y-%m-%d %H:%M:%S}Z, so the replay began before them."
        )
    if start.archived:
        archived_to = max(recorded.archived.last("orders"), recorded.archived.last("fills"))
        effect = "they were not compared"
        if start.anchor is not None:
            effect = f"the replay began at seq {compared.replayed_from}, after them"
        yield f"Orders and fills before seq {archived_to + 1} are archived, so {effect}."
    yield from _state_notes(evidence, compared, limit_s)
    # "": a tenure of an older version, which did not record its Python.
    other_pythons = {each.python for each in recorded.tenure_segments} - {"", PYTHON_VERSION}
    if other_pythons:
        yield (
            f"Some of the history ran under Python {', '.join(sorted(other_pythons))}; all was"
            f" replayed under Python {PYTHON_VERSION}."
        )
    if counts.equity_dropped:
        yield (
            f"{counts.equity_dropped} equity points were not compared: they are older"
            f" than {settings.GINKGO.keep_equity_days:g} days and no longer kept."
        )
    if counts.rows_dropped:
        yield f"{counts.rows_dropped} orders and fills were not compared: they are archived."


def _state_notes(
    evidence: Evidence, compared: VerificationResult, limit_s: float | None
) -> Iterator[str]:
    """Yield why the state, or its count of events, was not compared or only in part."""
    recorded = evidence.recorded
    if compared.difference is not None:
        return  # the difference is reported instead
    if compared.to_seq < recorded.to_seq:
        yield (
            f"The time limit of {limit_s:g} s ended the verification at seq {compared.to_seq} of"
            f" {recorded.to_seq}; the next one continues from there. The state was not compared."
        )
    elif recorded.state is None:
        yield (
            f"The state was not compared: only the newest is kept, as of seq {evidence.last_seq},"
            f" and the comparison ended at seq {recorded.to_seq}."
        )
    elif compared.processed is None:
        yield (
            "The state has no event count: an older version, which did not count events, made it."
            " The count begins with the next commit; until then a lost event shows only by its"
            " effect."
        )
    elif compared.processed.since > compared.from_seq:
        yield (
            f"Events are counted from seq {compared.processed.since} on: an older version, which"
            " did not count events, made the state before it."
        )
