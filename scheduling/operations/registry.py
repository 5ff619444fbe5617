"""The registry of operator actions: one entry for each, with its consequence worded once.

The dashboard makes its dialogs from it, the admin its actions, the API its descriptions and the
commands their help. To add an operator action, write its function in `scheduling.operations`, add
an entry here, and refer to the entry from the interfaces that offer it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_noop as _

from scheduling.operations import (
    alerts,
    artifacts,
    fleet,
    moves,
    nodes,
    portfolios,
    python_versions,
    roll_outs,
    secrets,
    tokens,
    users,
    verifications,
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operator action. `{name}` in its texts stands for the node, portfolio, halt or user."""

    verb: str  #: in addresses and forms: "drain"
    title: str  #: an imperative; with a question mark behind it, the heading of a dialog
    consequence: str  #: what happens, in one to three sentences
    call: Callable[..., Any]  #: (name, actor=…, …); without a name if it concerns the whole fleet
    done: str = ""  #: the outcome, in a sentence; empty where it depends on the result of `call`
    command: str = ""  #: the same action on the command line, after "manage.py"
    asks_reason: bool = True
    danger: bool = False  #: takes portfolios out of the market, or cannot be undone
    repeatable: bool = True  #: a second call right after the first changes nothing, or is refused
    options: tuple[
        tuple[str, str], ...
    ] = ()  #: (keyword of `call`, label) of each yes-or-no option

    def summary(self, noun: str | int = "") -> str:
        """Return the title with `noun` in place of the name: `Drain a node`."""
        return self.title.format(name=noun).strip()

    def outcome(self, name: str | int | None) -> str:
        """Return the sentence that confirms the action."""
        return self.done.format(name=name)

    def help(self, noun: str = "") -> str:
        """Return summary and consequence, for the help of a command."""
        return f"{self.summary(noun)}. {self.consequence}"


DRAIN = Operation(
    "drain",
    _("Drain {name}"),
    _(
        "Nothing new is placed on the node, pins end, and its portfolios are handed off one "
        "after the other, each running on until its new node is ready. Portfolios that no other "
        "node can take keep running on it."
    ),
    nodes.drain,
    _("{name} is draining: its portfolios are handed off one after the other."),
    "drain_node {name}",
    options=(
        ("make_room", _("make room first: move portfolios of other nodes where that helps")),
        (
            "until_return",
            _("end the drain by itself once its daemon was stopped and registers again"),
        ),
    ),
)
UNDRAIN = Operation(
    "undrain",
    _("End the drain of {name}"),
    _(
        "The node accepts portfolios again. Handoffs already under way continue; what was handed "
        "off comes back only if the balancer needs to balance loads."
    ),
    nodes.undrain,
    _("{name} is no longer draining."),
    "drain_node {name} --undo",
    asks_reason=False,
)
CORDON = Operation(
    "cordon",
    _("Cordon {name}"),
    _(
        "Nothing new is placed on the node, neither by the balancer nor by an operator. The "
        "portfolios that it runs keep running on it."
    ),
    nodes.cordon,
    _("{name} is cordoned; its portfolios keep running on it."),
    "cordon_node {name}",
)
UNCORDON = Operation(
    "uncordon",
    _("Uncordon {name}"),
    _("The node accepts portfolios again; the next pass may move some to it."),
    nodes.uncordon,
    _("{name} is no longer cordoned."),
    "cordon_node {name} --undo",
    asks_reason=False,
)
LABEL_NODE = Operation(
    "labels",
    _("Label {name}"),
    _(
        "The node has these labels from now on, whatever its daemon was started with. Portfolios "
        "on it that need a label which it no longer has move to a node that has it."
    ),
    nodes.label,
    _("The labels of {name} were changed."),
    "label_node {name}",
)
FORGET_NODE = Operation(
    "forget",
    _("Forget {name}"),
    _(
        "The node is removed from every list and its tokens are revoked. Its history keeps the "
        "name; a new token brings it back. Refused while its lease is valid or it owns a "
        "portfolio."
    ),
    nodes.forget_node,
    _("{name} is forgotten; its tokens are revoked."),
    "forget_node {name}",
    danger=True,
)
REVOKE_NODE_TOKENS = Operation(
    "revoke_tokens",
    _("Revoke the tokens of {name}"),
    _(
        "The node's daemon is refused from now on and exits; its portfolios fail over when its "
        "lease expires."
    ),
    tokens.revoke_node_tokens,
    command="revoke_node_token {name}",
    danger=True,
)
REVOKE_API_TOKENS = Operation(
    "revoke_tokens",
    _("Revoke the tokens of {name}"),
    _("Programs that use one of the user's tokens are refused from now on."),
    tokens.revoke_api_tokens,
    command="revoke_api_token {name}",
    danger=True,
)

ISSUE_NODE_TOKEN = Operation(
    "new-token",
    _("Create a token for {name}"),
    _(
        "A daemon with the token may act as this node. The token is shown once; only its hash is "
        "stored. Older tokens stay valid."
    ),
    tokens.issue_node_token,
    command="create_node_token {name}",
    asks_reason=False,
)
REVOKE_TOKEN = Operation(
    "revoke",
    _("Revoke {name}"),
    _(
        "Requests with this token are refused from now on. A daemon that loses its token exits, "
        "and its portfolios fail over when its lease expires."
    ),
    tokens.revoke_token,
    _("{name} is revoked."),
    danger=True,
)

SET_SECRET = Operation(
    "set",
    _("Set the secret {name}"),
    _("The value is stored encrypted, in place of an earlier one, and is never shown again."),
    secrets.set_secret,
    _("The secret {name} is set."),
    "secret set {name}",
    asks_reason=False,
)
DELETE_SECRET = Operation(
    "delete",
    _("Delete the secret {name}"),
    _("What needs it fails from now on."),
    secrets.delete_secret,
    _("The secret {name} is deleted."),
    "secret delete {name}",
    danger=True,
)
ROTATE_SECRETS = Operation(
    "rotate",
    _("Encrypt all secrets anew"),
    _(
        "Every secret is encrypted under the newest key. Older keys are needed for older backups "
        "only."
    ),
    secrets.rotate_secrets,
    command="secret rotate",
    asks_reason=False,
)

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
        "commit. This also lifts halted and quarantined."
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

ROLL_OUT = Operation(
    "roll-out",
    _("Roll out {name}"),
    _(
        "Each portfolio gets a revision with this artifact and is reloaded: the canary first and "
        "alone until its revision is proven, then a few at a time. The first rejection stops the "
        "roll-out; portfolios that run the artifact by then keep it until the roll-out is taken "
        "back."
    ),
    roll_outs.roll_out,
    command="roll_out {name}",
)
STOP_ROLL_OUT = Operation(
    "stop",
    _("Stop roll-out {name}"),
    _(
        "No further portfolio gets the artifact. Portfolios that have it keep it; those that are "
        "being changed are not interrupted. A stopped roll-out does not continue: take it back, "
        "or begin another."
    ),
    roll_outs.stop_roll_out,
    _("Roll-out {name} is stopped: no further portfolio gets the artifact."),
    "roll_out --stop {name}",
    danger=True,
)
RETURN_ROLL_OUT = Operation(
    "back",
    _("Take roll-out {name} back"),
    _(
        "Each portfolio that the roll-out changed wants its earlier revision again and is "
        "reloaded, up to ten at a time; each runs on until the earlier revision is prepared. A "
        "portfolio that an operator has changed since stays as it is, and so does one that the "
        "roll-out did not reach."
    ),
    roll_outs.return_roll_out,
    _("Roll-out {name} is being taken back."),
    "roll_out --back {name}",
    danger=True,
)
ADD_ARTIFACT = Operation(
    "add",
    _("Add {name}"),
    _(
        "The wheel is checked, its strategies are run once in a sandbox to read what they "
        "declare, and its bytes are stored. No portfolio changes: a revision that names the "
        "artifact runs exactly these bytes."
    ),
    artifacts.add_artifact,
    command="add_artifact WHEEL",
    asks_reason=False,
)
DELETE_ARTIFACT = Operation(
    "delete",
    _("Delete {name}"),
    _(
        "The bytes are removed. Refused while a revision of a portfolio names the artifact, since "
        "its record can be verified only with them."
    ),
    artifacts.delete_artifact,
    _("Artifact {name} is deleted."),
    "delete_artifact {name}",
    danger=True,
)

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
ACKNOWLEDGE_ALERT = Operation(
    "acknowledge",
    _("Acknowledge alert {name}"),
    _(
        "The alert no longer counts at the bell. It stays open, with your name and note, until its "
        "cause is gone; if the cause returns, it counts again."
    ),
    alerts.acknowledge_alert,
    _("Alert {name} is acknowledged."),
    "acknowledge_alert {name}",
)
ADD_ALERT_CHANNEL = Operation(
    "set",
    _("Send alerts to {name}"),
    _(
        "Each alert is sent there once when it is opened, and once when it is over. The address is "
        "stored encrypted and is never shown again."
    ),
    alerts.add_channel,
    _("Alerts are sent to {name}."),
    "alert_channel set {name}",
    asks_reason=False,
)
TEST_ALERT_CHANNEL = Operation(
    "test",
    _("Send a test message to {name}"),
    _("The queue worker sends one message, as it sends alerts; its outcome is shown here."),
    alerts.test_channel,
    _("A test message to {name} is on its way."),
    "alert_channel test {name}",
    asks_reason=False,
)
REMOVE_ALERT_CHANNEL = Operation(
    "remove",
    _("Send no alerts to {name}"),
    _("Messages that wait for it are dropped, and its address is deleted."),
    alerts.remove_channel,
    _("No alert is sent to {name} any more."),
    "alert_channel remove {name}",
    danger=True,
)
ADD_USER = Operation(
    "add",
    _("Add {name}"),
    _(
        "A viewer reads, an operator reads and acts. The link that is shown next sets the "
        "password; it works once, for three days."
    ),
    users.add_user,
    asks_reason=False,
)
MAKE_VIEWER = Operation(
    "viewer",
    _("Make {name} a viewer"),
    _("From now on the user may only read; the same holds for its tokens."),
    users.make_viewer,
    _("{name} is a viewer."),
    danger=True,
)
MAKE_OPERATOR = Operation(
    "operator",
    _("Make {name} an operator"),
    _("The user may act on everything from now on: move, stop and halt portfolios, drain nodes."),
    users.make_operator,
    _("{name} is an operator."),
    danger=True,
)
DEACTIVATE_USER = Operation(
    "deactivate",
    _("Deactivate {name}"),
    _("The user is signed out and its tokens are refused. It stays in the audit log."),
    users.deactivate_user,
    _("{name} is deactivated."),
    danger=True,
)
ACTIVATE_USER = Operation(
    "activate",
    _("Activate {name}"),
    _("The user may sign in again, and its tokens are valid again."),
    users.activate_user,
    _("{name} is active."),
)
RESET_PASSWORD = Operation(
    "password",
    _("Reset the password of {name}"),
    _(
        "The present password stops working. A link that is shown next sets another one; it works "
        "once, for three days."
    ),
    users.reset_password,
    danger=True,
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
