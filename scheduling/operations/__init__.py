"""What people may ask for. Each door (REST, admin, command, board) calls one of these, no more.

Every function is one transaction and raises `scheduling.errors.Refused` when the answer is no.
`actor` is the name that the audit trail keeps.
"""

from scheduling.operations.fit_warnings import warnings_after_change
from scheduling.operations.fleet import (
    cordon,
    drain,
    even_by,
    forget_node,
    freeze,
    raise_epoch_floor,
    run_feed,
    uncordon,
    undrain,
    unfreeze,
)
from scheduling.operations.halts import halt_all, undo_halt
from scheduling.operations.moves import migrate, reload, start, stop, unpin
from scheduling.operations.portfolios import (
    MAX_AT_ONCE,
    NewPortfolio,
    check_length,
    create_portfolio,
    create_portfolios,
    delete_portfolio,
    revise_portfolio,
)
from scheduling.operations.python_versions import accept_python
from scheduling.operations.storms import hold_storm, release_storm
from scheduling.operations.tokens import revoke_api_tokens, revoke_node_tokens
from scheduling.operations.verifications import verify

__all__ = [
    "MAX_AT_ONCE",
    "NewPortfolio",
    "accept_python",
    "check_length",
    "cordon",
    "create_portfolio",
    "create_portfolios",
    "delete_portfolio",
    "drain",
    "even_by",
    "forget_node",
    "freeze",
    "halt_all",
    "hold_storm",
    "migrate",
    "raise_epoch_floor",
    "release_storm",
    "reload",
    "revise_portfolio",
    "revoke_api_tokens",
    "revoke_node_tokens",
    "run_feed",
    "start",
    "stop",
    "uncordon",
    "undo_halt",
    "undrain",
    "unfreeze",
    "unpin",
    "verify",
    "warnings_after_change",
]
