"""Verifications and the differences that they find."""

from __future__ import annotations

from rest_framework import serializers

from scheduling.presentation.serializers.fields import Document


class DifferenceDocument(Document):
    """The first difference between the fleet's record and the reference run."""

    seq = serializers.IntegerField()
    kind = serializers.CharField(help_text="What differs: fill, equity, order, state or replay.")
    what = serializers.CharField()
    field = serializers.CharField()
    found = serializers.CharField(help_text="What the fleet recorded.")
    wanted = serializers.CharField(help_text="What the reference run computed.")
    where = serializers.CharField(help_text="Tenure in which the difference lies.")


class VerificationDocument(Document):
    """The progress or the outcome of a verification."""

    portfolio = serializers.CharField()
    id = serializers.IntegerField(allow_null=True)
    state = serializers.ChoiceField(
        ["never", "waiting", "running", "identical", "different", "failed"]
    )
    sentence = serializers.CharField()
    progress = serializers.FloatField(
        allow_null=True, help_text="Part of the events that has been compared, from 0 to 1."
    )
    from_seq = serializers.IntegerField(allow_null=True)
    at_seq = serializers.IntegerField(allow_null=True)
    to_seq = serializers.IntegerField(allow_null=True)
    events = serializers.IntegerField(
        source="counts.events",
        allow_null=True,
        help_text="Number of events that the portfolio counted, or else of events replayed.",
    )
    events_counted_from = serializers.IntegerField(
        source="replayed.events_counted_from",
        allow_null=True,
        help_text="First seq that the portfolio's own count includes; null: it has no count.",
    )
    events_digest = serializers.CharField(
        source="replayed.events_digest",
        allow_null=True,
        help_text="Digest of the events that the portfolio counted; null: it has no count.",
    )
    events_replayed = serializers.IntegerField(source="replayed.events_replayed", allow_null=True)
    replayed_from_seq = serializers.IntegerField(
        source="replayed.replayed_from_seq",
        allow_null=True,
        help_text="Seq from which events were replayed: from_seq, or the first after an anchor.",
    )
    verified_before_at = serializers.CharField(
        source="replayed.verified_before_at",
        allow_null=True,
        help_text="When earlier events than those replayed were verified; null: all were replayed.",
    )
    orders = serializers.IntegerField(source="counts.orders", allow_null=True)
    fills = serializers.IntegerField(source="counts.fills", allow_null=True)
    equity = serializers.IntegerField(source="counts.equity", allow_null=True)
    handoffs = serializers.IntegerField(source="counts.handoffs", allow_null=True)
    state_digest = serializers.CharField(allow_null=True)
    difference = DifferenceDocument(allow_null=True)
    history = serializers.CharField(
        allow_null=True,
        help_text="First difference between the audit log, the tenures and the run; null if none.",
    )
    notes = serializers.ListField(child=serializers.CharField())
    requested_by = serializers.CharField()
    requested_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    took_s = serializers.FloatField(allow_null=True)
