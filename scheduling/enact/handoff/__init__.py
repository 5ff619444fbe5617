"""The handoff protocol. Each function here is one transition of the state machine drawn in
`scheduling.models.handoff`, conditional on the state that it leaves.
"""

from scheduling.enact.handoff.deadlines import expire, find_overdue
from scheduling.enact.handoff.finish import revoke_ownership
from scheduling.enact.handoff.prepare import handle_prepared, handle_step_failure
from scheduling.enact.handoff.release_source import release
from scheduling.enact.handoff.request_handoff import Request, reload_to_wanted, request, request_all
from scheduling.enact.handoff.symbols import symbols_lost, symbols_refusal

__all__ = [
    "Request",
    "expire",
    "find_overdue",
    "handle_prepared",
    "handle_step_failure",
    "release",
    "reload_to_wanted",
    "request",
    "request_all",
    "revoke_ownership",
    "symbols_lost",
    "symbols_refusal",
]
