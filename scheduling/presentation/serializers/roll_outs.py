"""Documents of roll-outs, for the API and for commands."""

from __future__ import annotations

from rest_framework import serializers

from scheduling.models import ItemState, RollOutState
from scheduling.observe.roll_outs import RollOutView
from scheduling.presentation.reason_fields import ReasonField, WhyDocument
from scheduling.presentation.serializers.fields import Document


class RollOutLineDocument(Document):
    """A roll-out, with the number of portfolios it has finished with (`ended` of `total`)."""

    id = serializers.IntegerField()
    artifact = serializers.CharField(help_text="Name and version of the artifact.")
    artifact_sha256 = serializers.CharField()
    state = serializers.ChoiceField(RollOutState.choices)
    reason = ReasonField()
    why = WhyDocument()
    total = serializers.IntegerField()
    ended = serializers.IntegerField()
    at_a_time = serializers.IntegerField()
    canary_seconds = serializers.FloatField(
        source="canary_s",
        allow_null=True,
        help_text="Seconds until the canary counts as proven; null: once its revision is good.",
    )
    note = serializers.CharField(help_text="Reason that the operator gave for the roll-out.")
    requested_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)


class RollOutItemDocument(Document):
    """One portfolio of a roll-out. `pause_ms` is that of its handoff to the new revision."""

    portfolio = serializers.CharField()
    deleted = serializers.BooleanField()
    canary = serializers.BooleanField()
    state = serializers.ChoiceField(ItemState.choices)
    reason = ReasonField()
    why = WhyDocument()
    since = serializers.DateTimeField()
    node = serializers.CharField(allow_null=True)
    from_revision = serializers.IntegerField(allow_null=True)
    to_revision = serializers.IntegerField(allow_null=True)
    pause_ms = serializers.FloatField(allow_null=True)


class RollOutDocument(RollOutLineDocument):
    """A roll-out and its portfolios in the order of their turns."""

    pause_p50_ms = serializers.FloatField(allow_null=True)
    items = RollOutItemDocument(many=True)


def roll_out_sentence(roll_out: RollOutView) -> str:
    """Return artifact, state and progress of a roll-out in one line."""
    pause = roll_out.pause_p50_ms
    paused = "" if pause is None else f" (pause p50 {pause:.0f} ms)"
    state = roll_out.state.replace("_", " ")
    why = f": {roll_out.reason}" if roll_out.reason else ""
    return (
        f"Roll-out {roll_out.id} of {roll_out.artifact} is {state}, {roll_out.ended} of "
        f"{roll_out.total} portfolios are done{paused}{why}"
    )
