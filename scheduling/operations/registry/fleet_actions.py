"""What an operator can do with the whole fleet: freezes, holds, halts and the balancer."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

from scheduling.operations import fleet
from scheduling.operations.registry.operation import Operation

FREEZE = Operation(
    "freeze",
    _("Freeze automatic moves"),
    _(
        "The balancer moves nothing: no placement, no rebalancing, and drains pause. Failover "
        "continues unless it is held too. Actions of operators are still carried out. It lasts "
        "until an operator unfreezes."
    ),
    fleet.freeze,
    _("Automatic moves are frozen."),
    "freeze",
    options=(("failover", _("hold failover too: the portfolios of a lost node wait")),),
)
UNFREEZE = Operation(
    "unfreeze",
    _("Unfreeze automatic moves"),
    _("From the next pass on the balancer places, drains and fails over as usual."),
    fleet.unfreeze,
    _("Automatic moves continue."),
    "freeze --undo",
    asks_reason=False,
)
HOLD_STORM = Operation(
    "hold-storm",
    _("Hold failover"),
    _(
        "Portfolios on lost nodes wait until an operator releases the hold, which no longer ends "
        "by itself. New portfolios are placed, and stops, moves and other actions of operators "
        "are carried out."
    ),
    fleet.hold_storm,
    _("Failover is held until an operator releases it."),
    "storm --hold",
    danger=True,
)
RELEASE_STORM = Operation(
    "release-storm",
    _("Release the hold on failover"),
    _(
        "The portfolios of lost nodes are started elsewhere, a few in each pass. A node that is "
        "only cut off from the network can no longer commit for them. If the network is at fault, "
        "waiting is better: a node that returns in time keeps its portfolios."
    ),
    fleet.release_storm,
    _("Failover continues."),
    "storm --release",
    danger=True,
)
HALT_ALL = Operation(
    "halt",
    _("Stop every portfolio"),
    _(
        "One transaction ends every run and raises every epoch, without waiting for any node; from "
        "then on no node can commit. Cash, positions, open orders and state stay as of each last "
        "commit. Nothing starts again by itself: an operator starts each portfolio, or undoes the "
        "halt."
    ),
    fleet.halt_all,
    _("Everything is stopped."),
    "halt_all",
    danger=True,
)
UNDO_HALT = Operation(
    "undo-halt",
    _("Undo halt {name}"),
    _(
        "Portfolios that the halt stopped become pending and continue from their last commits; "
        "what each does with older events depends on its catch_up. Portfolios that were stopped "
        "before the halt, or started, stopped or deleted since, stay as they are."
    ),
    fleet.undo_halt,
    _("Halt {name} is undone: its portfolios start as soon as nodes take them."),
    "halt_all --undo {name}",
)
REBALANCE = Operation(
    "rebalance",
    _("Run a balance pass now"),
    _("A pass runs at once, instead of within 30 s."),
    fleet.rebalance,
    command="rebalance",
    asks_reason=False,
)
EVEN_BY = Operation(
    "even_by",
    _("Choose what a rebalance evens out"),
    _(
        "From the next pass on, nodes are rebalanced by the weight they hold or by their measured "
        "cpu. Whether a portfolio fits a node depends on weight in either case."
    ),
    fleet.even_by,
    command="even_by weight|cpu",
)
RAISE_EPOCH_FLOOR = Operation(
    "raise_epoch_floor",
    _("Raise the epoch floor"),
    _(
        "Every epoch rises above any that may have been granted since the backup, every portfolio "
        "is taken from its node, and every daemon has to register again. Portfolios that should "
        "run are then placed anew, from the checkpoints of this database."
    ),
    fleet.raise_epoch_floor,
    command="raise_epoch_floor",
    danger=True,
)
