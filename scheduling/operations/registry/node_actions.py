"""What an operator can do with a node and its tokens."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

from scheduling.operations import nodes, tokens
from scheduling.operations.registry.operation import Operation

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
            _("end the drain when the daemon of the node is stopped and then started again"),
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
