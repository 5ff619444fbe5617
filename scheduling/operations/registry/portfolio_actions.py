"""What an operator can do with one portfolio."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

from scheduling.operations import moves, portfolios, python_versions, verifications
from scheduling.operations.registry.operation import Operation

CREATE = Operation(
    "create",
    _("Create {name}"),
    _(
        "The portfolio gets its first revision and is placed by the next pass, which starts at "
        "once."
    ),
    portfolios.create_portfolio,
    command="create_portfolio {name}",
)
EDIT = Operation(
    "edit",
    _("Edit {name}"),
    _(
        "A change of strategy, parameters, symbols or limits makes a new revision and reloads the "
        "portfolio if it runs. If the new revision fails, the running one goes on."
    ),
    portfolios.revise_portfolio,
    command="update_portfolio {name}",
)
START = Operation(
    "start",
    _("Start {name}"),
    _(
        "The portfolio becomes pending, is placed by the balancer and continues from its last "
        "commit, also if it was halted or quarantined."
    ),
    moves.start,
    _("{name} starts as soon as a node takes it."),
    "start_portfolio {name}",
)
STOP = Operation(
    "stop",
    _("Stop {name}"),
    _(
        "The portfolio makes its last commit at the next batch boundary and is then owned by no "
        "node until an operator starts it again. Its cash, positions, open orders and state stay "
        "as of that commit; open orders are not filled meanwhile."
    ),
    moves.stop,
    _("{name} is being stopped."),
    "stop_portfolio {name}",
    danger=True,
)
RELOAD = Operation(
    "reload",
    _("Reload {name}"),
    _(
        "The wanted revision is prepared in a new process on the same node while the old process "
        "runs, then takes over at a batch boundary. If that fails, the old process runs on."
    ),
    moves.reload,
    _("{name} is being reloaded."),
    "reload_portfolio {name}",
    repeatable=False,
)
MIGRATE = Operation(
    "migrate",
    _("Migrate {name}"),
    _(
        "The portfolio is prepared on its new node while it runs on, then handed over at a batch "
        "boundary. If preparing fails, nothing changes. A node chosen by name keeps the portfolio "
        "until it is unpinned; without one the balancer chooses."
    ),
    moves.migrate,
    command="migrate_portfolio {name}",
)
MIGRATE_SEVERAL = Operation(
    "migrate_several",
    _("Migrate several portfolios"),
    _(
        "Each portfolio is prepared on its new node while it runs on, then handed over at a batch "
        "boundary. One that cannot move stays as it is and does not hold back the others. A node "
        "chosen by name keeps them until they are unpinned; without one the balancer chooses for "
        "each."
    ),
    moves.migrate_several,
    command="migrate_portfolio {name}",  # names, with a space between them
    repeatable=False,  # the balancer would move them a second time, away from where they are then
)
UNPIN = Operation(
    "unpin",
    _("Unpin {name}"),
    _(
        "The balancer may move the portfolio again. It stays where it is until there is a reason "
        "to move it."
    ),
    moves.unpin,
    _("{name} is no longer pinned."),
    "unpin_portfolio {name}",
    asks_reason=False,
)
VERIFY = Operation(
    "verify",
    _("Verify {name}"),
    _(
        "The portfolio's events are replayed in one uninterrupted process and the result is "
        "compared with what the fleet stored. The portfolio runs on undisturbed."
    ),
    verifications.verify,
    _("{name} is being verified."),
    "verify_portfolio {name}",
    asks_reason=False,
    options=(("full", _("from the first event, not only the events since the last verification")),),
)
DELETE = Operation(
    "delete",
    _("Delete {name}"),
    _(
        "The portfolio makes its last commit, is released and never runs again. Its orders, fills "
        "and audit log stay; its name becomes free. This cannot be undone."
    ),
    portfolios.delete_portfolio,
    _("{name} is deleted; its orders, fills and audit log stay."),
    "delete_portfolio {name}",
    danger=True,
)
ACCEPT_PYTHON = Operation(
    "accept_python",
    _("Accept another Python version for {name}"),
    _(
        "The portfolio may also run under this minor version of Python, which may compute "
        "different results than the one under which it last ran."
    ),
    python_versions.accept_python,
    command="accept_python VERSION {name}",
)
