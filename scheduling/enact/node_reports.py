"""What a node reports with its heartbeats: steps of handoffs, exited processes, stale halts."""

from __future__ import annotations

from uuid import UUID

from scheduling.db.transaction import Transaction
from scheduling.enact import handoff, process_failures
from scheduling.timing import Timing
from scheduling.wire.messages import Halted, Prepared, ProcessExited, Report, StepFailed


def apply_report(node: int, incarnation: UUID, report: Report, timing: Timing) -> Transaction[str]:
    """Apply one report and return the outcome. A late or repeated report changes nothing."""
    match report:
        case Prepared():
            return (yield from handoff.prepared(report.handoff, node, incarnation, timing))
        case StepFailed():
            return (
                yield from handoff.step_failed(
                    report.handoff,
                    node,
                    incarnation,
                    report.step,
                    report.error,
                    report.strategy_failed,
                    timing,
                )
            )
        case ProcessExited():
            return (
                yield from process_failures.handle_process_exit(node, incarnation, report, timing)
            )
        case Halted():
            return (
                yield from process_failures.handle_stale_halt(node, incarnation, report, timing)
            )
