"""Portfolios, their revisions and checkpoints, and what a change of a portfolio answers."""

from __future__ import annotations

from rest_framework import serializers

from portfolios.models import CatchUp, DesiredState
from scheduling.models import Phase
from scheduling.presentation.reason_fields import ReasonField, WhyDocument
from scheduling.presentation.serializers.fields import Document, ObjectDocument, money_field
from scheduling.presentation.serializers.history import HandoffDocument


class RunDocument(Document):
    """The current owner. `node` is null without an owner; `reason` explains the phase."""

    node = serializers.CharField(allow_null=True)
    epoch = serializers.IntegerField()
    phase = serializers.ChoiceField(Phase.choices)
    revision = serializers.IntegerField(source="running_revision", allow_null=True)
    last_seq = serializers.IntegerField()
    python = serializers.CharField(
        help_text="Minor version of Python under which the portfolio runs or last ran."
    )
    accept_python = serializers.CharField(
        help_text="Minor version of Python under which the portfolio may run too; empty: no other."
    )
    lag_events = serializers.IntegerField()
    stalled = serializers.BooleanField()
    stalled_s = serializers.FloatField()
    pid = serializers.IntegerField(allow_null=True)
    attempts = serializers.IntegerField()
    orders_refused = serializers.IntegerField(
        help_text="Number of orders that the portfolio's limits have ever refused."
    )
    orders_suppressed = serializers.IntegerField(
        help_text="Number of orders ever suppressed, since they were decided on stale events."
    )
    unplaced_orders = serializers.IntegerField(
        help_text="Number of orders refused or suppressed since the last one that was placed."
    )
    behind_since = serializers.DateTimeField(
        allow_null=True,
        help_text="Since when the portfolio has been behind, too late to trade; null: it is not.",
    )
    reason = ReasonField()
    why = WhyDocument()
    since = serializers.DateTimeField(source="phase_since")


class PositionDocument(Document):
    """What an account holds of one symbol; amounts are texts."""

    symbol = serializers.CharField()
    quantity = serializers.CharField()
    average_price = serializers.CharField()
    price = serializers.CharField()
    unrealised = serializers.CharField()


class AccountDocument(Document):
    """Money and positions at the last commit; null before the first."""

    cash = money_field()
    equity = money_field()
    pnl = money_field()
    positions = PositionDocument(many=True)


class PortfolioDocument(Document):
    """A portfolio, its desired and its actual state."""

    name = serializers.CharField()
    strategy = serializers.CharField()
    strategy_version = serializers.IntegerField()
    artifact = serializers.CharField(
        allow_null=True,
        help_text="sha256 of the wanted artifact; null: the strategy is of the release.",
    )
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
    starting_cash = money_field()
    run = RunDocument(source="*")
    account = AccountDocument()
    handoff = HandoffDocument(allow_null=True)


class PendingStartDocument(Document):
    """A portfolio that was started and waits for a node; `handoff` is null."""

    handoff = HandoffDocument(allow_null=True)
    portfolio = PortfolioDocument()


class DeletedDocument(Document):
    """A deleted portfolio: `handoff` releases it, and is null if no node owned it."""

    handoff = HandoffDocument(allow_null=True)


class RevisionDocument(Document):
    """One immutable configuration."""

    number = serializers.IntegerField()
    strategy = serializers.CharField()
    strategy_version = serializers.IntegerField()
    artifact = serializers.CharField(
        source="artifact_id",
        allow_null=True,
        help_text="sha256 of the revision's artifact; null: the strategy is of the release.",
    )
    config = ObjectDocument()
    symbols = serializers.ListField(child=serializers.CharField())
    limits = ObjectDocument()
    status = serializers.CharField()
    status_reason = serializers.CharField()
    note = serializers.CharField()
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()


class CheckpointDocument(Document):
    """The newest stored state, decoded: that after event `state_seq`. `seq`: the last commit."""

    portfolio = serializers.CharField()
    epoch = serializers.IntegerField()
    revision = serializers.IntegerField()
    seq = serializers.IntegerField()
    state_seq = serializers.IntegerField()
    account = ObjectDocument()
    state = ObjectDocument()


class RevisedDocument(Document):
    """A portfolio after a change, and the handoff that applies it, if one is needed.

    `warnings`: a sentence for each requirement that its node no longer meets.
    """

    portfolio = PortfolioDocument()
    handoff = HandoffDocument(allow_null=True)
    warnings = serializers.ListField(child=serializers.CharField())
