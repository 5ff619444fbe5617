"""The simulated gateway: it runs transactions of the product; requests and answers get lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

from scheduling.db.transaction import Transaction
from scheduling.enact import handoff, lease, process_failures
from scheduling.enact.commit import commit
from scheduling.enact.register import register
from scheduling.observe.checkpoint import checkpoint
from scheduling.observe.desired_set import desired_set
from scheduling.timing import Timing
from scheduling.wire import messages as wire
from tests.simulation.database import Killed, Store
from tests.simulation.fleet import registration
from tests.simulation.invariants import Ledger

T = TypeVar("T")


class Away(Exception):
    """The gateway did not answer: whether it has done what was asked is unknown."""


class Gateway:
    """The gateway of one web process. Tests set `up`, `database_up` and `overloaded`."""

    def __init__(self, identity: UUID, db: Store, timing: Timing, ledger: Ledger) -> None:
        self.id, self.db, self.timing, self.ledger = identity, db, timing, ledger
        self.up = self.database_up = True
        self.overloaded = False  #: it pulses, and answers nobody in time

    @property
    def serving(self) -> bool:
        return self.up and self.database_up

    def ask(self, link: list[str], act: Callable[[], T]) -> T:
        """Run `act` for a node, and return its answer, with the next fault of the node's link.

        Faults: "request lost", "answer lost", "twice" (the request arrives twice), "killed after N"
        (statements of `act`), "none".
        """
        fault = link.pop(0) if link else "none"
        if not self.serving or self.overloaded or fault == "request lost":
            raise Away
        if fault.startswith("killed after"):
            self.db.fuse = int(fault.split()[-1])
            try:
                act()
            except Killed:
                pass
            finally:
                self.db.fuse = None
            raise Away
        answer = act()
        if fault == "twice":
            again = act()
            if isinstance(answer, wire.CommitResult) and isinstance(again, wire.CommitResult):
                assert again.answer == answer.answer, f"I4: {answer}, and repeated {again}"
        if fault == "answer lost":
            raise Away
        return answer

    def register(self, node: int, incarnation: UUID) -> wire.DesiredSet | None:
        message = registration(incarnation)
        self.db.execute(register(node, f"node-{node}", message, self.timing, self.id))
        self.db.execute(lease.record_socket(node, incarnation, incarnation, self.id))
        return self.db.execute(desired_set(node))

    def beat(self, node: int, beat: wire.Heartbeat) -> tuple[str, wire.DesiredSet | None, bool]:
        """Return (status, desired set, whether a handoff is pending)."""
        rows = self.db.execute(lease.renew_leases([node], [beat], self.timing, self.id))
        row, incarnation = rows[node], UUID(beat.incarnation)
        if not row.renewed:
            return ("unknown" if row.held_by == incarnation else "superseded"), None, False
        for report in beat.reports:
            self.db.execute(self._report(node, incarnation, report))
        return "ok", self.db.execute(desired_set(node)), row.pending

    def _report(self, node: int, incarnation: UUID, report: Any) -> Transaction[Any]:
        match report:
            case wire.Prepared(handoff=number):
                return handoff.handle_prepared(number, node, incarnation, self.timing)
            case wire.StepFailed():
                return handoff.handle_step_failure(
                    report.handoff, node, incarnation, report.step, report.error,
                    report.strategy_failed,
                )  # fmt: skip
            case wire.ProcessExited():
                return process_failures.handle_process_exit(node, incarnation, report, self.timing)
            case _:
                return process_failures.handle_halt(node, incarnation, report, self.timing)

    def commit(self, node: int, incarnation: UUID, words: wire.Commit) -> wire.CommitResult:
        name = f"node-{node}"
        with self.ledger.watching(self.db, node, incarnation, words):
            if words.release is None:
                return self.db.execute(commit(node, name, incarnation, [words]))[0]
            answer = self.db.execute(handoff.release(node, name, incarnation, words, self.timing))
            assert answer is not None, "no row is locked between transactions that are in turn"
            return answer

    def checkpoint(self, node: int, incarnation: UUID, portfolio: int, number: int | None) -> Any:
        return self.db.execute(checkpoint(node, incarnation, portfolio, number))
