"""Operator actions. Each interface (API, admin, command, dashboard) parses input and calls one.

Each function raises `scheduling.errors.Refused` (or its subclasses NotFound and Invalid) if its
action cannot be carried out. `actor` is the name that the audit log keeps. `registry` describes
each action to operators.
"""

from scheduling.operations.artifacts import add_artifact, delete_artifact
from scheduling.operations.edits import EditBase, differences, rebase, values_at
from scheduling.operations.fit_warnings import warnings_after_change
from scheduling.operations.fleet import (
    even_by,
    freeze,
    halt_all,
    hold_storm,
    raise_epoch_floor,
    rebalance,
    release_storm,
    run_feed,
    undo_halt,
    unfreeze,
)
from scheduling.operations.moves import migrate, migrate_several, reload, start, stop, unpin
from scheduling.operations.nodes import cordon, drain, forget_node, label, uncordon, undrain
from scheduling.operations.portfolios import (
    MAX_AT_ONCE,
    NewPortfolio,
    check_change,
    check_length,
    check_new,
    create_portfolio,
    create_portfolios,
    delete_portfolio,
    revise_portfolio,
)
from scheduling.operations.python_versions import accept_python
from scheduling.operations.roll_outs import NewRollOut, return_roll_out, roll_out, stop_roll_out
from scheduling.operations.verifications import verify

__all__ = [
    "MAX_AT_ONCE",
    "EditBase",
    "NewPortfolio",
    "NewRollOut",
    "accept_python",
    "add_artifact",
    "check_change",
    "check_length",
    "check_new",
    "cordon",
    "create_portfolio",
    "create_portfolios",
    "delete_artifact",
    "delete_portfolio",
    "differences",
    "drain",
    "even_by",
    "forget_node",
    "freeze",
    "halt_all",
    "hold_storm",
    "label",
    "migrate",
    "migrate_several",
    "raise_epoch_floor",
    "rebalance",
    "rebase",
    "release_storm",
    "reload",
    "return_roll_out",
    "revise_portfolio",
    "roll_out",
    "run_feed",
    "start",
    "stop",
    "stop_roll_out",
    "uncordon",
    "undo_halt",
    "undrain",
    "unfreeze",
    "unpin",
    "values_at",
    "verify",
    "warnings_after_change",
]
