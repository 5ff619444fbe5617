"""What a node reports with its heartbeats: handoff steps, exited processes, halted portfolios."""

from __future__ import annotations

from uuid import UUID

import msgspec

from scheduling.db.transaction import Transaction
from scheduling.enact import handoff, process_failures
from scheduling.errors import Refused
from scheduling.timing import Timing
from scheduling.wire.messages import Halted, Prepared, ProcessExited, Report, StepFailed, uuid_from

#: Characters of an error that are stored.
MAX_ERROR = 2_000


def apply_report(node: int, incarnation: UUID, report: Report, timing: Timing) -> Transaction[str]:
    """Return the transaction that applies one report, and that returns what was done.

    A late or repeated report changes nothing. The transaction is the generator of the step, after
    which failpoints name it. Raise Refused if the report is invalid.
    """
    match report:
        case Prepared():
            return handoff.handle_prepared(report.handoff, node, incarnation, timing)
        case StepFailed():
            return handoff.handle_step_failure(
                report.handoff,
                node,
                incarnation,
                report.step,
                _storable(report.error),
                report.strategy_failed,
            )
        case ProcessExited():
            exited = _check_exit(report)
            return process_failures.handle_process_exit(node, incarnation, exited, timing)
        case Halted():
            storable = msgspec.structs.replace(report, reason=_storable(report.reason))
            return process_failures.handle_halt(node, incarnation, storable, timing)


def _check_exit(report: ProcessExited) -> ProcessExited:
    """Return the report with a storable error. Raise Refused if its `death` is not a UUID."""
    try:
        uuid_from(report.death)
    except ValueError:
        raise Refused(
            "invalid",
            f"field death of a ProcessExited report is {report.death[:40]!r}; it must be a UUID.",
            status=400,
        ) from None
    return msgspec.structs.replace(report, error=_storable(report.error))


def _storable(text: str) -> str:
    """Return `text` without NUL, which PostgreSQL refuses, cut to MAX_ERROR characters."""
    return text.replace("\0", "")[:MAX_ERROR]
