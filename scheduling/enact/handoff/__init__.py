"""The handoff protocol. Each function here is one transition of the state machine drawn in
`scheduling.models.handoff`, conditional on the state that it leaves.
"""

from scheduling.enact.handoff.deadlines import expire, find_overdue
from scheduling.enact.handoff.finish import place_again, revoke_ownership
from scheduling.enact.handoff.prepare import handle_prepared, handle_step_failure
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
    handle_failed_start,
    handle_prepare_failure,
    quarantine,
    reject,
    reject_handoff_revision,
    roll_back,
)
from scheduling.enact.handoff.symbols import symbols_lost, symbols_refusal

__all__ = [
    "Request",
    "expire",
    "fail",
    "find_overdue",
    "handle_failed_start",
    "handle_prepare_failure",
    "handle_prepared",
    "handle_step_failure",
    "place_again",
    "quarantine",
    "reject",
    "reject_handoff_revision",
    "release",
    "reload_to_wanted",
    "request",
    "request_all",
    "revoke_ownership",
    "roll_back",
    "supersede",
    "symbols_lost",
    "symbols_refusal",
]
