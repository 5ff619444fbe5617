"""The reader's words for states and events that rows store as codes."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

STATES = {
    "new": _("new"),
    "alive": _("alive"),
    "suspect": _("suspect"),
    "lost": _("lost"),
    "left": _("left"),
    "draining": _("draining"),
    "pending": _("pending"),
    "starting": _("starting"),
    "running": _("running"),
    "halted": _("halted"),
    "quarantined": _("quarantined"),
    "stopped": _("stopped"),
    "good": _("good"),
    "unproven": _("not yet good"),
    "rejected": _("rejected"),
    "requested": _("requested"),
    "preparing": _("preparing"),
    "activating": _("activating"),
    "done": _("done"),
    "failed": _("failed"),
    "rolled_back": _("rolled back"),
    "superseded": _("superseded"),
    "moved": _("moved"),
    "returned": _("returned"),
    "kept": _("kept"),
    "waits": _("waits"),
    "deleted": _("deleted"),
    "identical": _("identical"),
    "different": _("different"),
    "viewer": _("viewer"),
    "operator": _("operator"),
    "waiting": _("waiting"),
    "sent": _("sent"),
    "valid": _("valid"),
    "expired": _("expired"),
    "revoked": _("revoked"),
    "place": _("place"),
    "reload": _("reload"),
    "migrate": _("migrate"),
    "failover": _("failover"),
    "stop": _("stop"),
    "changing": _("changing"),
    "proving": _("proving"),
    "late": _("late"),
    "skipped": _("skipped"),
    "returning": _("returning"),
    "not_returned": _("not returned"),
    "stopping": _("stopping"),
    "finished": _("finished"),
    "going_back": _("going back"),
    "back": _("taken back"),
    "replaced": _("replaced"),
    "buy": _("buy"),
    "sell": _("sell"),
    "open": _("open"),
    "filled": _("filled"),
    "cancelled": _("cancelled"),
    "refused": _("refused"),
    "suppressed": _("suppressed"),
    "replay": _("replay"),
    "recorded": _("recorded"),
    "bar": _("bar"),
    "trade": _("trade"),
    "quote": _("quote"),
    "status": _("status"),
    "drain": _("drain"),
    "make_room": _("make room"),
    "rebalance": _("rebalance"),
    "operator_move": _("move by an operator"),
    "granted": _("granted"),
    "unplaced": _("not placed"),
    "all": _("all"),
    "active": _("under way"),
    "register": _("registration"),
    "failed_start": _("failed start"),
    "quarantine": _("quarantine"),
    "orphaned": _("without an owner"),
    "rollback": _("roll-back"),
    "python": _("Python version"),
    "floor": _("epoch floor"),
    "halt": _("halt"),
    "undo": _("undo"),
    "revoke": _("revoked"),
    "command": _("command"),
    "system": _("system"),
    "dashboard": _("desk"),
    "admin": _("admin"),
    "actor": _("actor"),
    "interface": _("interface"),
    # At which stage a process ended.
    "load": _("load of the strategy"),
    "event": pgettext_lazy("stage", "event"),
    "exit": pgettext_lazy("stage", "exit"),
    "killed": pgettext_lazy("stage", "killed"),
}

#: Kinds of orders: a stop order is not a stop, and a limit order not a limit of a portfolio.
ORDER_KINDS = {
    "market": pgettext_lazy("order", "market"),
    "limit": pgettext_lazy("order", "limit"),
    "stop": pgettext_lazy("order", "stop"),
}

#: States of a portfolio in a roll-out that are called otherwise than those of nodes and incidents.
ITEM_STATES = {"left": _("left to the operator"), "returned": _("taken back")}
#: Who acts by itself; every other actor is a person's name, which is shown as it is.
ACTORS = {
    "balancer": _("balancer"),
    "fence": _("fence"),
    "roll-out": _("roll-out"),
    "sweep": _("sweep"),
    "system": STATES["system"],
    "worker": _("worker"),
}

ALERTS = {
    "node_lost": _("node lost"),
    "storm_hold": _("failover held"),
    "quarantined": _("quarantined"),
    "halted": _("halted"),
    "stalled": _("stalled"),
    "pending": _("pending"),
    "revision_rejected": _("revision rejected"),
    "roll_out_stopped": _("roll-out stopped"),
    "verification_differs": _("verification found a difference"),
    "no_open_node": _("no node accepts portfolios"),
    "passes_stand": _("no pass runs"),
    "no_watcher": _("no watcher runs"),
    "commits_stand": _("no commit succeeds"),
    "behind": _("portfolios lag"),
    "orders_refused": _("orders are refused"),
    "unknown_schedule": _("a schedule is unknown"),
    "commits_vanished": _("commits vanished"),
    "disk_full": _("the disk is full or nearly full"),
    "snapshot_held": _("a snapshot is held"),
    "partition_missing": _("a partition is missing"),
    "table_growth": _("the disk is filling up"),
    "archived_unverified": _("records were archived unverified"),
    "feed_silent": _("a feed is silent"),
    "test": _("test"),
}


#: Kinds of lines of the audit log.
EVENTS = {
    "portfolio_created": _("portfolio created"),
    "portfolio_changed": _("portfolio changed"),
    "portfolio_started": _("portfolio started"),
    "portfolio_stopped": _("portfolio stopped"),
    "portfolio_deleted": _("portfolio deleted"),
    "handoff_requested": _("handoff requested"),
    "handoff_done": _("handoff done"),
    "handoff_failed": _("handoff failed"),
    "handoff_rolled_back": _("handoff rolled back"),
    "handoff_superseded": _("handoff superseded"),
    "granted": _("granted"),
    "ended": _("ended"),
    "revision_good": _("revision good"),
    "revision_rejected": _("revision rejected"),
    "process_died": _("process died"),
    "commit_refused": _("commit refused"),
    "halted": _("halted"),
    "quarantined": _("quarantined"),
    "pinned": _("pinned"),
    "unpinned": _("unpinned"),
    "python_accepted": _("python accepted"),
    "node_registered": _("node registered"),
    "node_alive": _("node alive"),
    "node_leaving": _("node leaving"),
    "node_left": _("node left"),
    "node_lost": _("node lost"),
    "node_forgotten": _("node forgotten"),
    "node_draining": _("node draining"),
    "node_undrained": _("node undrained"),
    "node_cordoned": _("node cordoned"),
    "node_uncordoned": _("node uncordoned"),
    "node_labelled": _("node labelled"),
    "node_token_created": _("node token created"),
    "node_token_revoked": _("node token revoked"),
    "api_token_created": _("api token created"),
    "api_token_revoked": _("api token revoked"),
    "frozen": _("frozen"),
    "unfrozen": _("unfrozen"),
    "even_by": _("even by"),
    "feed_rate": _("feed rate"),
    "halted_all": _("halted all"),
    "halt_undone": _("halt undone"),
    "storm_held": _("storm held"),
    "storm_over": _("storm over"),
    "storm_released": _("storm released"),
    "epoch_floor_raised": _("epoch floor raised"),
    "artifact_added": _("artifact added"),
    "artifact_deleted": _("artifact deleted"),
    "roll_out_started": _("roll out started"),
    "roll_out_portfolio": _("roll out portfolio"),
    "roll_out_finished": _("roll out finished"),
    "roll_out_stopping": _("roll out stopping"),
    "roll_out_stopped": _("roll out stopped"),
    "roll_out_going_back": _("roll out going back"),
    "roll_out_back": _("roll out back"),
    "verification_requested": _("verification requested"),
    "verified": _("verified"),
    "secret_set": _("secret set"),
    "secret_deleted": _("secret deleted"),
    "secrets_rotated": _("secrets rotated"),
    "feed_created": _("feed created"),
    "feed_removed": _("feed removed"),
    "feed_instruments": _("feed instruments"),
    "feed_recording": _("feed recording"),
    "feed_recording_ended": _("feed recording ended"),
    "feed_released": _("feed released"),
    "feed_records_dropped": _("feed records dropped"),
    "commits_vanished": _("commits vanished"),
    "database_changed": _("database changed"),
    "logged_in": _("logged in"),
    "logged_out": _("logged out"),
    "user_created": _("user created"),
    "user_changed": _("user changed"),
    "user_deleted": _("user deleted"),
    "user_role": _("user role"),
    "user_activated": _("user activated"),
    "user_deactivated": _("user deactivated"),
    "password_reset": _("password reset"),
    "group_created": _("group created"),
    "group_changed": _("group changed"),
    "group_deleted": _("group deleted"),
    "login_refused": _("login refused"),
    "task_refused": _("task refused"),
    "alert_opened": _("alert opened"),
    "alert_closed": _("alert closed"),
    "alert_acknowledged": _("alert acknowledged"),
    "alert_channel_set": _("alert channel set"),
    "alert_channel_removed": _("alert channel removed"),
    "alert_channel_tested": _("alert channel tested"),
}


def event_word(kind: str) -> str:
    """Return what a line of the audit log of this kind is called: `handoff done`."""
    return str(EVENTS.get(kind, kind.replace("_", " ")))


def state_word(state: str | None) -> str:
    """Return a status, phase, kind or state as the reader's word for it: `rolled back`."""
    return str(STATES.get(state, state.replace("_", " "))) if state else ""


def actor_word(actor: str) -> str:
    """Return who acted: a person's name, or the word for a part that acts by itself."""
    return str(ACTORS.get(actor, actor))


def order_word(kind: str) -> str:
    """Return what an order of this kind is called: `market`."""
    return str(ORDER_KINDS.get(kind, kind))


def item_word(state: str) -> str:
    """Return the word for the state of a portfolio in a roll-out: `taken back`."""
    return str(ITEM_STATES.get(state) or state_word(state))


def alert_word(kind: str) -> str:
    """Return what an alert of this kind says: `node lost`."""
    return str(ALERTS.get(kind, kind.replace("_", " ")))


#: The same kinds in the history of one node, where the sentence need not name the node.
NODE_EVENTS = {
    "node_registered": _("its daemon registered"),
    "node_alive": _("is alive again"),
    "node_lost": _("was lost"),
    "node_leaving": _("is shutting down"),
    "node_left": _("left"),
    "node_draining": _("drain begun"),
    "node_undrained": _("drain ended"),
    "node_cordoned": _("cordoned"),
    "node_uncordoned": _("uncordoned"),
    "node_labelled": _("labels changed"),
    "node_token_created": _("token created"),
    "node_token_revoked": _("token revoked"),
    "node_forgotten": _("forgotten"),
}
