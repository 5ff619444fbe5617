"""The handoff protocol. Each function here is one transition of the state machine drawn in
`scheduling.models.handoff`, conditional on the state that it leaves.
"""

from scheduling.enact.handoff.deadlines import expire, overdue
from scheduling.enact.handoff.finish import place_again, revoke_ownership
from scheduling.enact.handoff.prepare import prepared, step_failed
from scheduling.enact.handoff.release_source import release
from scheduling.enact.handoff.request_handoff import (
    Request,
    reload_to_wanted,
    request,
    request_all,
    supersede,
)
from scheduling.enact.handoff.rollback import (
    fail,
    failed_start,
    handle_prepare_failure,
    quarantine,
    reject,
    reject_handoff_revision,
    roll_back,
)
from scheduling.enact.handoff.symbols import removed_in_use, symbols_in_use

__all__ = [
    "Request",
    "expire",
    "fail",
    "failed_start",
    "handle_prepare_failure",
    "overdue",
    "place_again",
    "prepared",
    "quarantine",
    "reject",
    "reject_handoff_revision",
    "release",
    "reload_to_wanted",
    "removed_in_use",
    "request",
    "request_all",
    "revoke_ownership",
    "roll_back",
    "step_failed",
    "supersede",
    "symbols_in_use",
]
