"""What people may ask for. Each door (REST, admin, command, board) calls one of these, no more.

Every function is one transaction and raises `scheduling.errors.Refused` when the answer is no.
`actor` is the name that the audit trail keeps.
"""

from scheduling.requests.fleet import (
    cordon,
    drain,
    freeze,
    run_feed,
    uncordon,
    undrain,
    unfreeze,
)
from scheduling.requests.moves import migrate, reload, start, stop, unpin
from scheduling.requests.portfolios import (
    NewPortfolio,
    create_portfolio,
    delete_portfolio,
    revise_portfolio,
)

__all__ = [
    "NewPortfolio",
    "cordon",
    "create_portfolio",
    "delete_portfolio",
    "drain",
    "freeze",
    "migrate",
    "reload",
    "revise_portfolio",
    "run_feed",
    "start",
    "stop",
    "uncordon",
    "undrain",
    "unfreeze",
    "unpin",
]
