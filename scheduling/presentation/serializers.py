"""The shapes of answers. Names are the public contract: add to them, never rename or remove.

Portfolios, nodes and the fleet are lines of `scheduling.observe.fleet_view`, which come from one
consistent read; handoffs are rows or lines, which have the same names.
"""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from portfolios.models import CatchUp, DesiredState
from scheduling.models import Phase
from scheduling.models.fleet_control import EvenBy
from scheduling.observe.incarnations import digest, without_incarnations
from scheduling.presentation.reason_fields import ReasonField, WhyDocument

_Anything = serializers.Serializer[Any]


def _money() -> serializers.DecimalField:
    return serializers.DecimalField(
        max_digits=None, decimal_places=4, coerce_to_string=True, allow_null=True
    )


class IncarnationField(serializers.CharField):
    """An incarnation, or its digest unless the context says that an operator reads."""

    def to_representation(self, value: Any) -> str:
        """Return what this reader is shown."""
        return str(value if _for_operator(self) else digest(value))


class TrailDataField(serializers.JSONField):
    """What an audit line carries, with digests unless the context says that an operator reads."""

    def to_representation(self, value: Any) -> Any:
        """Return what this reader is shown."""
        shown = value if _for_operator(self) else without_incarnations(value)
        return super().to_representation(shown)


def _for_operator(field: serializers.Field[Any, Any, Any, Any]) -> bool:
    return bool(field.context.get("operator"))


class HandoffDocument(_Anything):
    """One change of owner or revision."""

    id = serializers.IntegerField()
    portfolio = serializers.CharField()
    kind = serializers.CharField()
    reason = ReasonField()
    why = WhyDocument()
    requested_by = serializers.CharField()
    source_node = serializers.CharField(allow_null=True)
    target_node = serializers.CharField(allow_null=True)
    from_epoch = serializers.IntegerField()
    to_epoch = serializers.IntegerField(allow_null=True)
    from_revision = serializers.IntegerField()
    to_revision = serializers.IntegerField()
    released_seq = serializers.IntegerField(allow_null=True)
    state = serializers.CharField()
    error = serializers.CharField()
    pause_ms = serializers.FloatField(allow_null=True)
    catchup_ms = serializers.FloatField(allow_null=True)
    requested_at = serializers.DateTimeField()
    prepared_at = serializers.DateTimeField(allow_null=True)
    released_at = serializers.DateTimeField(allow_null=True)
    granted_at = serializers.DateTimeField(allow_null=True)
    activated_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    deadline_at = serializers.DateTimeField(allow_null=True)


class RunDocument(_Anything):
    """Who owns it now; `node` is null where nobody does, and `reason` says why."""

    node = serializers.CharField(allow_null=True)
    epoch = serializers.IntegerField()
    phase = serializers.ChoiceField(Phase.choices)
    revision = serializers.IntegerField(source="running_revision", allow_null=True)
    last_seq = serializers.IntegerField()
    python = serializers.CharField(help_text="Minor version under which it runs or last ran.")
    accept_python = serializers.CharField(help_text="It may go on under this version too.")
    lag_events = serializers.IntegerField()
    stalled = serializers.BooleanField()
    stalled_s = serializers.FloatField()
    pid = serializers.IntegerField(allow_null=True)
    attempts = serializers.IntegerField()
    orders_refused = serializers.IntegerField(help_text="Orders refused by its limits, ever.")
    orders_suppressed = serializers.IntegerField(
        help_text="Orders decided on stale events and not placed, ever."
    )
    unplaced_orders = serializers.IntegerField(
        help_text="Refused or suppressed since the last order that was placed."
    )
    behind_since = serializers.DateTimeField(
        allow_null=True, help_text="Since when it has lagged by more than its decisions may."
    )
    reason = ReasonField()
    why = WhyDocument()
    since = serializers.DateTimeField(source="phase_since")


class AccountDocument(_Anything):
    """Money and holdings at the last commit; nulls before the first."""

    cash = _money()
    equity = _money()
    pnl = _money()
    positions = serializers.JSONField()


class PortfolioDocument(_Anything):
    """A portfolio, what it should do and what it does."""

    name = serializers.CharField()
    strategy = serializers.CharField()
    strategy_version = serializers.IntegerField()
    config = serializers.JSONField()
    symbols = serializers.ListField(child=serializers.CharField())
    weight = serializers.IntegerField()
    priority = serializers.IntegerField()
    selector = serializers.JSONField()
    spread_group = serializers.CharField()
    spread_hard = serializers.BooleanField()
    limits = serializers.JSONField()
    catch_up = serializers.ChoiceField(CatchUp.choices)
    desired_state = serializers.ChoiceField(DesiredState.choices)
    pinned_node = serializers.CharField(allow_null=True)
    revision = serializers.IntegerField()
    revision_status = serializers.CharField(source="wanted_status")
    good_revision = serializers.IntegerField(allow_null=True)
    first_seq = serializers.IntegerField()
    starting_cash = _money()
    run = RunDocument(source="*")
    account = AccountDocument()
    handoff = HandoffDocument(allow_null=True)


class DeletedDocument(_Anything):
    """A portfolio that was deleted: the handoff that releases it; null where nothing owned it."""

    handoff = HandoffDocument(allow_null=True)


class NodeDocument(_Anything):
    """An execution node and how it is."""

    name = serializers.CharField()
    status = serializers.CharField()
    schedulable = serializers.BooleanField()
    cordoned = serializers.BooleanField()
    draining = serializers.BooleanField()
    drain_reason = serializers.CharField()
    drain_actor = serializers.CharField()
    leaving = serializers.BooleanField()
    capacity = serializers.IntegerField()
    labels = serializers.JSONField()
    portfolios = serializers.ListField(child=serializers.CharField())
    load = serializers.FloatField()
    held = serializers.FloatField()
    metrics = serializers.JSONField()
    last_heartbeat_at = serializers.DateTimeField(allow_null=True)
    lease_expires_at = serializers.DateTimeField(allow_null=True)
    lease_left_s = serializers.FloatField(allow_null=True)
    status_since = serializers.DateTimeField(allow_null=True)
    incarnation = IncarnationField(allow_null=True)
    host = serializers.CharField()
    pid = serializers.IntegerField(allow_null=True)
    version = serializers.CharField()
    python = serializers.CharField(
        help_text="Minor version that computes there; empty where its daemon does not report it."
    )


class FrozenDocument(_Anything):
    """Who froze the fleet, and why."""

    at = serializers.DateTimeField()
    by = serializers.CharField()
    reason = serializers.CharField()
    failover = serializers.BooleanField()


class HoldDocument(_Anything):
    """A hold on failover; `until` is null where a person has to release it."""

    at = serializers.DateTimeField()
    until = serializers.DateTimeField(allow_null=True)
    by = serializers.CharField()
    reason = serializers.CharField()
    nodes = serializers.ListField(child=serializers.CharField())
    of_nodes = serializers.IntegerField()


class OpenAlertDocument(_Anything):
    """A cause that is there now."""

    id = serializers.IntegerField()
    kind = serializers.CharField()
    portfolio = serializers.CharField(allow_null=True)
    node = serializers.CharField(allow_null=True)
    reason = serializers.CharField()
    times = serializers.IntegerField()
    opened_at = serializers.DateTimeField()


class BoardDocument(_Anything):
    """The whole fleet at one moment."""

    at = serializers.DateTimeField()
    head = serializers.IntegerField()
    rate = serializers.FloatField()
    nodes = NodeDocument(many=True)
    portfolios = PortfolioDocument(many=True)
    handoffs_active = HandoffDocument(many=True)
    handoffs_recent = HandoffDocument(many=True)
    pause_p50_ms = serializers.FloatField(allow_null=True)
    pause_p99_ms = serializers.FloatField(allow_null=True)
    frozen = FrozenDocument(allow_null=True)
    total_equity = _money()
    total_starting = _money()
    storm = HoldDocument(allow_null=True)
    alerts = OpenAlertDocument(many=True)


class OrderDocument(_Anything):
    """A decision of a strategy. `status`: open, filled, suppressed or refused."""

    id = serializers.CharField()
    seq = serializers.IntegerField()
    index = serializers.IntegerField()
    symbol = serializers.CharField()
    side = serializers.CharField()
    quantity = _money()
    price = _money()
    status = serializers.CharField()
    reason = serializers.CharField()
    epoch = serializers.IntegerField()
    node = serializers.CharField()
    revision = serializers.IntegerField()
    decided_at = serializers.DateTimeField()
    committed_at = serializers.DateTimeField()


class FillDocument(_Anything):
    """An execution of an order."""

    order = serializers.CharField(source="order_id")
    fill_seq = serializers.IntegerField()
    index = serializers.IntegerField()
    symbol = serializers.CharField()
    side = serializers.CharField()
    quantity = _money()
    price = _money()
    epoch = serializers.IntegerField()
    at = serializers.DateTimeField()


class EquityDocument(_Anything):
    """One point of the equity curve."""

    seq = serializers.IntegerField()
    at = serializers.DateTimeField()
    equity = _money()


class TenureDocument(_Anything):
    """One line of ownership history; it ran the events after `from_seq` up to `to_seq`."""

    epoch = serializers.IntegerField()
    node = serializers.CharField(allow_null=True)
    incarnation = IncarnationField(allow_null=True)
    revision = serializers.IntegerField()
    from_seq = serializers.IntegerField()
    to_seq = serializers.IntegerField(allow_null=True)
    cause = serializers.CharField()
    reason = ReasonField()
    handoff = serializers.IntegerField(source="handoff_id", allow_null=True)
    started_at = serializers.DateTimeField()
    first_commit_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)
    pause_ms = serializers.FloatField(allow_null=True)
    python = serializers.CharField(help_text="Minor version of Python that computed it.")


class RevisionDocument(_Anything):
    """One immutable configuration."""

    number = serializers.IntegerField()
    strategy = serializers.CharField()
    strategy_version = serializers.IntegerField()
    config = serializers.JSONField()
    symbols = serializers.ListField(child=serializers.CharField())
    limits = serializers.JSONField()
    status = serializers.CharField()
    status_reason = serializers.CharField()
    note = serializers.CharField()
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()


class EventDocument(_Anything):
    """One line of the audit trail."""

    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    kind = serializers.CharField()
    portfolio = serializers.CharField(allow_null=True)
    node = serializers.CharField(allow_null=True)
    actor = serializers.CharField()
    interface = serializers.CharField(help_text="api, dashboard, admin, command or system")
    address = serializers.CharField(help_text="Where the request came from, if it was one.")
    reason = serializers.CharField()
    data = TrailDataField()  # type: ignore[assignment]


class CheckpointDocument(_Anything):
    """The newest state, decoded: what held after the event `seq`."""

    portfolio = serializers.CharField()
    epoch = serializers.IntegerField()
    revision = serializers.IntegerField()
    seq = serializers.IntegerField()
    state_seq = serializers.IntegerField()
    account = serializers.JSONField()
    state = serializers.JSONField()


class FeedEventDocument(_Anything):
    """One bar. Prices have exactly four places: a digest is made of that text."""

    seq = serializers.IntegerField()
    symbol = serializers.CharField()
    time = serializers.DateTimeField()
    open = serializers.CharField()
    high = serializers.CharField()
    low = serializers.CharField()
    close = serializers.CharField()
    volume = serializers.IntegerField()


class FeedDocument(_Anything):
    """Released events from a seq on."""

    head = serializers.IntegerField()
    length = serializers.IntegerField()
    results = FeedEventDocument(many=True)


class TargetDocument(_Anything):
    """Whether one node could take the portfolio."""

    node = serializers.CharField()
    feasible = serializers.BooleanField()
    code = serializers.CharField(allow_null=True)
    sentence = serializers.CharField()
    risk = serializers.CharField(allow_null=True)
    load_before = serializers.FloatField()
    load_after = serializers.FloatField()
    capacity = serializers.FloatField()


class ExpectedPauseDocument(_Anything):
    """Of the last 50 moves that ended well."""

    p50 = serializers.FloatField(allow_null=True)
    p99 = serializers.FloatField(allow_null=True)


class TargetsDocument(_Anything):
    """An answer for every node."""

    portfolio = serializers.CharField()
    pause_ms = ExpectedPauseDocument()
    results = TargetDocument(many=True)


class RevisedDocument(_Anything):
    """A portfolio after a change, and the handoff that carries it out, if one is needed.

    `warnings`: a sentence for each way in which it no longer fits where it runs.
    """

    portfolio = PortfolioDocument()
    handoff = HandoffDocument(allow_null=True)
    warnings = serializers.ListField(child=serializers.CharField())


class FreezeDocument(_Anything):
    """Whether automatic moves are held."""

    frozen = serializers.BooleanField()
    at = serializers.DateTimeField(allow_null=True)
    by = serializers.CharField()
    reason = serializers.CharField()
    failover = serializers.BooleanField()


class StormDocument(_Anything):
    """Whether failover is held: since when, until when, by whom, and for the loss of which nodes.

    `until` null while held: until a person releases it.
    """

    held = serializers.BooleanField()
    at = serializers.DateTimeField(allow_null=True)
    until = serializers.DateTimeField(allow_null=True)
    by = serializers.CharField()
    reason = serializers.CharField()
    nodes = serializers.ListField(child=serializers.CharField())
    of_nodes = serializers.IntegerField()


class PolicyDocument(_Anything):
    """How the balancer weighs things."""

    even_by = serializers.ChoiceField(EvenBy.choices, help_text="What a rebalance evens out.")


class StoppedDocument(_Anything):
    """One portfolio that a halt stopped: what it did before, and where its fence stands now."""

    portfolio = serializers.CharField()
    phase = serializers.CharField()
    node = serializers.CharField(allow_null=True)
    handoff = serializers.CharField(allow_null=True)
    epoch_before = serializers.IntegerField()
    epoch = serializers.IntegerField()
    last_seq = serializers.IntegerField()


class HaltedDocument(_Anything):
    """One use of the kill switch; `halt` is null where there was nothing to stop."""

    halt = serializers.IntegerField(allow_null=True)
    at = serializers.DateTimeField()
    actor = serializers.CharField()
    reason = serializers.CharField()
    running = serializers.IntegerField()
    results = StoppedDocument(many=True)


class TokenDocument(_Anything):
    """What is known of a token; the token itself is known to its holder alone."""

    id = serializers.IntegerField()
    name = serializers.CharField(help_text="What it is for.")
    scope = serializers.CharField(help_text="read, operate or node")
    state = serializers.ChoiceField(["valid", "expired", "revoked"])
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True, help_text="To the minute.")


class ApiTokenDocument(TokenDocument):
    """A token of a person's program."""

    user = serializers.CharField(source="user.username")


class NodeTokenDocument(TokenDocument):
    """A token of a node's daemon."""

    node = serializers.CharField(source="node.name")


class DifferenceDocument(_Anything):
    """The first thing in which the fleet's record and the uninterrupted run disagree."""

    seq = serializers.IntegerField()
    kind = serializers.CharField(help_text="fill, equity, order, state or replay")
    what = serializers.CharField()
    field = serializers.CharField()
    found = serializers.CharField(help_text="In the fleet's record.")
    wanted = serializers.CharField(help_text="In the uninterrupted run.")
    where = serializers.CharField(help_text="Which tenure it lies in.")


class VerificationDocument(_Anything):
    """How far a verification is, or what came of it."""

    portfolio = serializers.CharField()
    id = serializers.IntegerField(allow_null=True)
    state = serializers.ChoiceField(
        ["never", "waiting", "running", "identical", "different", "failed"]
    )
    sentence = serializers.CharField()
    progress = serializers.FloatField(allow_null=True, help_text="0 to 1")
    from_seq = serializers.IntegerField(allow_null=True)
    at_seq = serializers.IntegerField(allow_null=True)
    to_seq = serializers.IntegerField(allow_null=True)
    events = serializers.IntegerField(
        source="counts.events",
        allow_null=True,
        help_text="That the portfolio recorded as processed; the replay's where none is recorded.",
    )
    events_counted_from = serializers.IntegerField(
        source="replayed.events_counted_from", allow_null=True, help_text="The first counted seq."
    )
    events_digest = serializers.CharField(
        source="replayed.events_digest", allow_null=True, help_text="Of what was processed."
    )
    events_replayed = serializers.IntegerField(source="replayed.events_replayed", allow_null=True)
    replayed_from_seq = serializers.IntegerField(
        source="replayed.replayed_from_seq",
        allow_null=True,
        help_text="Behind the anchor of an earlier verification, or from_seq.",
    )
    verified_before_at = serializers.CharField(
        source="replayed.verified_before_at",
        allow_null=True,
        help_text="When the events before were verified; null where all were replayed.",
    )
    orders = serializers.IntegerField(source="counts.orders", allow_null=True)
    fills = serializers.IntegerField(source="counts.fills", allow_null=True)
    equity = serializers.IntegerField(source="counts.equity", allow_null=True)
    handoffs = serializers.IntegerField(source="counts.handoffs", allow_null=True)
    state_digest = serializers.CharField(allow_null=True)
    difference = DifferenceDocument(allow_null=True)
    history = serializers.CharField(allow_null=True, help_text="Trail and tenures disagree.")
    notes = serializers.ListField(child=serializers.CharField())
    requested_by = serializers.CharField()
    requested_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    took_s = serializers.FloatField(allow_null=True)


class ProblemFieldDocument(_Anything):
    """One field that is wrong."""

    field = serializers.CharField()
    code = serializers.CharField()
    message = serializers.CharField()


class ProblemDocument(_Anything):
    """An RFC 9457 problem."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField()
    instance = serializers.CharField()
    errors = ProblemFieldDocument(many=True, required=False)  # type: ignore[assignment]
