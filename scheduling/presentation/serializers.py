"""Documents of responses. Field names are public: add fields, never rename or remove them.

Portfolios, nodes and the fleet are views of `scheduling.observe.fleet_view`, from one consistent
read. Handoffs are rows or views, which have the same attributes.
"""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
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


def _price(allow_null: bool = False) -> serializers.DecimalField:
    """Return a field that shows as many places as are stored: four, or those of the instrument."""
    return serializers.DecimalField(
        max_digits=None, decimal_places=None, coerce_to_string=True, allow_null=allow_null
    )


@extend_schema_field({"type": "object", "additionalProperties": {}})
class ObjectDocument(serializers.JSONField):
    """A JSON object whose members depend on the strategy, the feed or the node."""


class IncarnationField(serializers.CharField):
    """An incarnation for operators, its digest for viewers."""

    def to_representation(self, value: Any) -> str:
        """Return the value for this reader."""
        return str(value if _for_operator(self) else digest(value))


class AuditDataField(ObjectDocument):
    """The data of an audit-log line, with digests of incarnations for viewers."""

    def to_representation(self, value: Any) -> Any:
        """Return the value for this reader."""
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
    """The current owner. `node` is null without an owner; `reason` explains the phase."""

    node = serializers.CharField(allow_null=True)
    epoch = serializers.IntegerField()
    phase = serializers.ChoiceField(Phase.choices)
    revision = serializers.IntegerField(source="running_revision", allow_null=True)
    last_seq = serializers.IntegerField()
    python = serializers.CharField(help_text="Minor version under which it runs or last ran.")
    accept_python = serializers.CharField(help_text="It may also run under this version.")
    lag_events = serializers.IntegerField()
    stalled = serializers.BooleanField()
    stalled_s = serializers.FloatField()
    pid = serializers.IntegerField(allow_null=True)
    attempts = serializers.IntegerField()
    orders_refused = serializers.IntegerField(help_text="Orders that its limits refused, in total.")
    orders_suppressed = serializers.IntegerField(
        help_text="Orders on stale events that were not placed, in total."
    )
    unplaced_orders = serializers.IntegerField(
        help_text="Orders refused or suppressed since the last order that was placed."
    )
    behind_since = serializers.DateTimeField(
        allow_null=True, help_text="Time since when it has been behind: it lags too far to trade."
    )
    reason = ReasonField()
    why = WhyDocument()
    since = serializers.DateTimeField(source="phase_since")


class PositionDocument(_Anything):
    """What an account holds of one symbol; amounts are texts."""

    symbol = serializers.CharField()
    quantity = serializers.CharField()
    average_price = serializers.CharField()
    price = serializers.CharField()
    unrealised = serializers.CharField()


class AccountDocument(_Anything):
    """Money and positions at the last commit; null before the first."""

    cash = _money()
    equity = _money()
    pnl = _money()
    positions = PositionDocument(many=True)


class PortfolioDocument(_Anything):
    """A portfolio, its desired and its actual state."""

    name = serializers.CharField()
    strategy = serializers.CharField()
    strategy_version = serializers.IntegerField()
    artifact = serializers.CharField(allow_null=True, help_text="sha256; null: of the release")
    config = ObjectDocument()
    symbols = serializers.ListField(child=serializers.CharField())
    feed = serializers.CharField()
    weight = serializers.IntegerField()
    priority = serializers.IntegerField()
    selector = ObjectDocument()
    spread_group = serializers.CharField()
    spread_hard = serializers.BooleanField()
    limits = ObjectDocument()
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


class PendingStartDocument(_Anything):
    """A portfolio that was started and waits for a node; `handoff` is null."""

    handoff = HandoffDocument(allow_null=True)
    portfolio = PortfolioDocument()


class DeletedDocument(_Anything):
    """The handoff that releases a deleted portfolio; null if no node owned it."""

    handoff = HandoffDocument(allow_null=True)


class NodeDocument(_Anything):
    """An execution node and its state."""

    name = serializers.CharField()
    status = serializers.CharField()
    schedulable = serializers.BooleanField()
    cordoned = serializers.BooleanField()
    draining = serializers.BooleanField()
    drain_reason = serializers.CharField()
    drain_actor = serializers.CharField()
    leaving = serializers.BooleanField()
    capacity = serializers.IntegerField()
    labels = ObjectDocument()
    portfolios = serializers.ListField(child=serializers.CharField())
    load = serializers.FloatField()
    held = serializers.FloatField()
    metrics = ObjectDocument()
    last_heartbeat_at = serializers.DateTimeField(allow_null=True)
    lease_expires_at = serializers.DateTimeField(allow_null=True)
    lease_left_s = serializers.FloatField(allow_null=True)
    status_since = serializers.DateTimeField(allow_null=True)
    reason = ReasonField()
    why = WhyDocument()
    incarnation = IncarnationField(allow_null=True)
    host = serializers.CharField()
    pid = serializers.IntegerField(allow_null=True)
    version = serializers.CharField()
    python = serializers.CharField(
        help_text="Minor version of the node's Python; empty if its daemon does not report it."
    )


class FrozenDocument(_Anything):
    """The freeze in force."""

    at = serializers.DateTimeField()
    by = serializers.CharField()
    reason = serializers.CharField()
    failover = serializers.BooleanField()


class HoldDocument(_Anything):
    """A hold on failover; `until` is null if an operator has to release it."""

    at = serializers.DateTimeField()
    until = serializers.DateTimeField(allow_null=True)
    by = serializers.CharField()
    reason = serializers.CharField()
    nodes = serializers.ListField(child=serializers.CharField())
    of_nodes = serializers.IntegerField()


class OpenAlertDocument(_Anything):
    """An open alert."""

    id = serializers.IntegerField()
    kind = serializers.CharField()
    portfolio = serializers.CharField(allow_null=True)
    node = serializers.CharField(allow_null=True)
    reason = ReasonField()
    why = WhyDocument()
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
    """A decision of a strategy.

    `status`: open, filled, cancelled, expired, suppressed or refused. `kind`: market, limit or
    stop; a limit order has a `limit_price`, a stop order a `stop_price`.
    """

    id = serializers.CharField()
    seq = serializers.IntegerField()
    index = serializers.IntegerField()
    symbol = serializers.CharField()
    side = serializers.CharField()
    quantity = _money()
    price = _price()
    kind = serializers.CharField()
    limit_price = _price(allow_null=True)
    stop_price = _price(allow_null=True)
    time_in_force = serializers.CharField()
    tag = serializers.CharField()
    status = serializers.CharField()
    reason = serializers.CharField()
    ended_seq = serializers.IntegerField(
        allow_null=True, help_text="The event at which it was cancelled or expired."
    )
    epoch = serializers.IntegerField()
    node = serializers.CharField()
    revision = serializers.IntegerField()
    decided_at = serializers.DateTimeField()
    committed_at = serializers.DateTimeField()


class FleetOrderDocument(OrderDocument):
    """A decision of a strategy, with its portfolio."""

    portfolio = serializers.CharField(source="portfolio.name")


class FillDocument(_Anything):
    """An execution of an order."""

    order = serializers.CharField(source="order_id")
    fill_seq = serializers.IntegerField()
    index = serializers.IntegerField()
    symbol = serializers.CharField()
    side = serializers.CharField()
    quantity = _money()
    price = _price()
    fee = _money()
    epoch = serializers.IntegerField()
    at = serializers.DateTimeField()


class EquityDocument(_Anything):
    """One point of the equity curve."""

    seq = serializers.IntegerField()
    at = serializers.DateTimeField()
    equity = _money()


class LogLineDocument(_Anything):
    """One line that the processes of a portfolio printed; or a number of lines that were lost."""

    no = serializers.IntegerField()
    at = serializers.DateTimeField()
    node = serializers.CharField()
    revision = serializers.IntegerField()
    text = serializers.CharField()
    lost = serializers.IntegerField()


class PortfolioLogDocument(_Anything):
    """Lines, oldest first; the number of the newest line; lines lost ever."""

    last = serializers.IntegerField()
    lost = serializers.IntegerField()
    results = LogLineDocument(many=True)


class MetricDocument(_Anything):
    """The value of a strategy's own metric at an equity point."""

    seq = serializers.IntegerField()
    at = serializers.DateTimeField()
    name = serializers.CharField()
    value = serializers.FloatField()


class TenureDocument(_Anything):
    """One line of ownership history, with the events after `from_seq` up to `to_seq`."""

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
    artifact = serializers.CharField(source="artifact_id", allow_null=True, help_text="sha256")
    config = ObjectDocument()
    symbols = serializers.ListField(child=serializers.CharField())
    limits = ObjectDocument()
    status = serializers.CharField()
    status_reason = serializers.CharField()
    note = serializers.CharField()
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()


class EventDocument(_Anything):
    """One line of the audit log."""

    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    kind = serializers.CharField()
    portfolio = serializers.CharField(allow_null=True)
    node = serializers.CharField(allow_null=True)
    actor = serializers.CharField()
    interface = serializers.CharField(help_text="api, dashboard, admin, command or system")
    address = serializers.CharField(help_text="Address that the request came from.")
    reason = serializers.CharField()
    data = AuditDataField()  # type: ignore[assignment]


class CheckpointDocument(_Anything):
    """The newest state, decoded, after the event `seq`."""

    portfolio = serializers.CharField()
    epoch = serializers.IntegerField()
    revision = serializers.IntegerField()
    seq = serializers.IntegerField()
    state_seq = serializers.IntegerField()
    account = ObjectDocument()
    state = ObjectDocument()


class FeedLogDocument(_Anything):
    """A feed: where its log stands, who reads it, and what it keeps."""

    name = serializers.CharField()
    kind = serializers.CharField(help_text="replay or recorded")
    head = serializers.IntegerField()
    first_seq = serializers.IntegerField(help_text="Older records are dropped.")
    newest_at = serializers.DateTimeField(allow_null=True)
    silent_s = serializers.FloatField(allow_null=True)
    silent_after_s = serializers.IntegerField(allow_null=True)
    keep_days = serializers.IntegerField(allow_null=True)
    rate = serializers.FloatField(help_text="Events a second over the last minute.")
    writer = serializers.CharField(help_text="Empty: any source may append.")
    in_stream = serializers.BooleanField(help_text="Its records are in NATS JetStream.")
    instruments = serializers.IntegerField()
    portfolios = serializers.ListField(child=serializers.CharField())


class FeedsDocument(_Anything):
    """All feeds."""

    results = FeedLogDocument(many=True)


class AppendedDocument(_Anything):
    """What an append has done. `repeated`: it was stored before, with these seqs."""

    from_seq = serializers.IntegerField()
    to_seq = serializers.IntegerField()
    repeated = serializers.BooleanField()
    missing = serializers.ListField(
        child=serializers.IntegerField(),
        allow_null=True,
        help_text="First and last number of the source that never arrived before this one.",
    )


class FeedEventDocument(_Anything):
    """One bar. Prices have exactly four places, since digests are computed from these texts."""

    seq = serializers.IntegerField()
    symbol = serializers.CharField()
    time = serializers.DateTimeField()
    open = serializers.CharField()
    high = serializers.CharField()
    low = serializers.CharField()
    close = serializers.CharField()
    volume = serializers.IntegerField()


class FeedDocument(_Anything):
    """Released events."""

    head = serializers.IntegerField()
    length = serializers.IntegerField()
    results = FeedEventDocument(many=True)


class TargetDocument(_Anything):
    """Whether one node could run the portfolio."""

    node = serializers.CharField()
    feasible = serializers.BooleanField()
    code = serializers.CharField(allow_null=True)
    sentence = serializers.CharField()
    risk = serializers.CharField(allow_null=True)
    load_before = serializers.FloatField()
    load_after = serializers.FloatField()
    capacity = serializers.FloatField()


class ExpectedPauseDocument(_Anything):
    """Percentiles over the last 50 successful moves."""

    p50 = serializers.FloatField(allow_null=True)
    p99 = serializers.FloatField(allow_null=True)


class TargetsDocument(_Anything):
    """Whether each node could run the portfolio."""

    portfolio = serializers.CharField()
    pause_ms = ExpectedPauseDocument()
    results = TargetDocument(many=True)


class RevisedDocument(_Anything):
    """A portfolio after a change, and the handoff that applies it, if one is needed.

    `warnings`: a sentence for each requirement that its node no longer meets.
    """

    portfolio = PortfolioDocument()
    handoff = HandoffDocument(allow_null=True)
    warnings = serializers.ListField(child=serializers.CharField())


class FreezeDocument(_Anything):
    """Whether automatic moves are frozen."""

    frozen = serializers.BooleanField()
    at = serializers.DateTimeField(allow_null=True)
    by = serializers.CharField()
    reason = serializers.CharField()
    failover = serializers.BooleanField()


class StormDocument(_Anything):
    """Whether failover is held, since when, until when, by whom, and which nodes were lost.

    `until` is null if an operator has to release it.
    """

    held = serializers.BooleanField()
    at = serializers.DateTimeField(allow_null=True)
    until = serializers.DateTimeField(allow_null=True)
    by = serializers.CharField()
    reason = serializers.CharField()
    nodes = serializers.ListField(child=serializers.CharField())
    of_nodes = serializers.IntegerField()


class PolicyDocument(_Anything):
    """The balancer's policy."""

    even_by = serializers.ChoiceField(EvenBy.choices, help_text="The measure to rebalance by.")


class StoppedDocument(_Anything):
    """One portfolio that a halt stopped: its state before, and its epoch now."""

    portfolio = serializers.CharField()
    phase = serializers.CharField()
    node = serializers.CharField(allow_null=True)
    handoff = serializers.CharField(allow_null=True)
    epoch_before = serializers.IntegerField()
    epoch = serializers.IntegerField()
    last_seq = serializers.IntegerField()


class HaltedDocument(_Anything):
    """One halt; `halt` is null if there was nothing to stop."""

    halt = serializers.IntegerField(allow_null=True)
    at = serializers.DateTimeField()
    actor = serializers.CharField()
    reason = serializers.CharField()
    running = serializers.IntegerField()
    results = StoppedDocument(many=True)


class TokenDocument(_Anything):
    """A token without its value, which only its holder knows."""

    id = serializers.IntegerField()
    name = serializers.CharField(help_text="Its purpose.")
    scope = serializers.CharField(help_text="read, operate or node")
    state = serializers.ChoiceField(["valid", "expired", "revoked"])
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True, help_text="To the minute.")


class ApiTokenDocument(TokenDocument):
    """A token of a user's program."""

    user = serializers.CharField(source="user.username")


class NodeTokenDocument(TokenDocument):
    """A token of a node's daemon."""

    node = serializers.CharField(source="node.name")


class IssuedTokenDocument(_Anything):
    """A token that was created now. No later response has it."""

    node = serializers.CharField()
    token = serializers.CharField()


class SecretDocument(_Anything):
    """A secret without its value, which no interface returns."""

    name = serializers.CharField()
    set_at = serializers.DateTimeField(help_text="When its value was given last.")
    set_by = serializers.CharField()
    last_used_at = serializers.DateTimeField(allow_null=True, help_text="To the minute.")
    last_used_by = serializers.CharField()


class DifferenceDocument(_Anything):
    """The first difference between the fleet's record and the reference run."""

    seq = serializers.IntegerField()
    kind = serializers.CharField(help_text="fill, equity, order, state or replay")
    what = serializers.CharField()
    field = serializers.CharField()
    found = serializers.CharField(help_text="In the fleet's record.")
    wanted = serializers.CharField(help_text="In the reference run.")
    where = serializers.CharField(help_text="The tenure that it lies in.")


class VerificationDocument(_Anything):
    """The progress or the outcome of a verification."""

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
        help_text="Events that the portfolio recorded, or else that the replay processed.",
    )
    events_counted_from = serializers.IntegerField(
        source="replayed.events_counted_from", allow_null=True, help_text="The first counted seq."
    )
    events_digest = serializers.CharField(
        source="replayed.events_digest",
        allow_null=True,
        help_text="Digest of the processed events.",
    )
    events_replayed = serializers.IntegerField(source="replayed.events_replayed", allow_null=True)
    replayed_from_seq = serializers.IntegerField(
        source="replayed.replayed_from_seq",
        allow_null=True,
        help_text="The first seq after an anchor of an earlier verification, or from_seq.",
    )
    verified_before_at = serializers.CharField(
        source="replayed.verified_before_at",
        allow_null=True,
        help_text="When earlier events were verified; null if all were replayed.",
    )
    orders = serializers.IntegerField(source="counts.orders", allow_null=True)
    fills = serializers.IntegerField(source="counts.fills", allow_null=True)
    equity = serializers.IntegerField(source="counts.equity", allow_null=True)
    handoffs = serializers.IntegerField(source="counts.handoffs", allow_null=True)
    state_digest = serializers.CharField(allow_null=True)
    difference = DifferenceDocument(allow_null=True)
    history = serializers.CharField(
        allow_null=True, help_text="Difference between audit log and tenures."
    )
    notes = serializers.ListField(child=serializers.CharField())
    requested_by = serializers.CharField()
    requested_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    took_s = serializers.FloatField(allow_null=True)


class StrategyDocument(_Anything):
    """A strategy that portfolios can run."""

    name = serializers.CharField()
    version = serializers.IntegerField(allow_null=True)
    origin = serializers.ChoiceField(
        ["release", "artifact", "installed"],
        help_text="installed: on nodes, for development; its code may change under a revision",
    )
    artifact = serializers.CharField(allow_null=True, help_text="sha256")
    artifact_name = serializers.CharField(allow_null=True)
    artifact_version = serializers.CharField(allow_null=True)
    state_version = serializers.IntegerField(allow_null=True)
    sees_every_symbol = serializers.BooleanField(allow_null=True)
    warm_up = serializers.IntegerField(
        allow_null=True, help_text="Events that it wants before its first."
    )
    schema = ObjectDocument(
        allow_null=True, help_text="JSON schema of the parameters; null: unknown"
    )
    summary = serializers.CharField()


class ArtifactDocument(_Anything):
    """A wheel that revisions can pin."""

    sha256 = serializers.CharField()
    name = serializers.CharField()
    version = serializers.CharField()
    filename = serializers.CharField()
    size = serializers.IntegerField(help_text="bytes")
    summary = serializers.CharField()
    python = serializers.CharField(
        source="python_requirement", help_text="Empty: any version; else as >=3.12."
    )
    environment = serializers.CharField(
        source="env_sha256", help_text="sha256 of its lock; empty: no dependencies."
    )
    uploaded_by = serializers.CharField()
    at = serializers.DateTimeField()
    strategies = serializers.ListField(
        child=serializers.CharField(), source="strategy_names", help_text="Their names."
    )


class ArtifactUserDocument(_Anything):
    """A portfolio whose revisions name an artifact."""

    portfolio = serializers.CharField()
    revisions = serializers.CharField()
    is_wanted = serializers.BooleanField()
    is_deleted = serializers.BooleanField()


class ArtifactDetailDocument(ArtifactDocument):
    """A wheel with its lock and its users."""

    lock = serializers.CharField()
    used_by = ArtifactUserDocument(many=True)
