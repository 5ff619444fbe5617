"""Verifications and the differences that they find."""

from __future__ import annotations

from rest_framework import serializers

from scheduling.presentation.serializers.fields import Document


class DifferenceDocument(Document):
    """The first difference between the fleet's record and the reference run."""

    seq = serializers.IntegerField()
    kind = serializers.CharField(help_text="fill, equity, order, state or replay")
    what = serializers.CharField()
    field = serializers.CharField()
    found = serializers.CharField(help_text="In the fleet's record.")
    wanted = serializers.CharField(help_text="In the reference run.")
    where = serializers.CharField(help_text="The tenure that it lies in.")


class VerificationDocument(Document):
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
