"""The kill switch, and the way back."""

from __future__ import annotations

from ginkgo_site.deadline import statement_limit
from scheduling.db.transaction import execute
from scheduling.enact import halt
from scheduling.enact.fleet_revoke import PATIENT_LIMIT_S


def halt_all(*, actor: str, reason: str = "", expect_running: int | None = None) -> halt.Halted:
    """Stop everything now, whoever can be reached. Refused where another number is running."""
    with statement_limit(PATIENT_LIMIT_S):
        return execute(
            halt.halt_all(actor=actor, reason=reason[:200], expect_running=expect_running)
        )


def undo_halt(number: int | None = None, *, actor: str, reason: str = "") -> tuple[int, list[str]]:
    """Start all that a halt stopped and nobody started since, the newest where none is named.

    Return the halt's number and the names; they are pending until the next pass, which is woken.
    """
    with statement_limit(PATIENT_LIMIT_S):
        return execute(halt.undo_halt(number, actor=actor, reason=reason[:200]))
