"""Handoffs, tenures and lines of the audit log.

Handoffs are rows or views, which have the same attributes.
"""

from __future__ import annotations

from rest_framework import serializers

from scheduling.presentation.reason_fields import ReasonField, WhyDocument
from scheduling.presentation.serializers.fields import AuditDataField, Document, IncarnationField


class HandoffDocument(Document):
    """One change of owner or revision.

    `pause_ms`: time without a commit. `catchup_ms`: time from `activated_at` until the lag was at
    most one batch.
    """

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


class MoveOutcomeDocument(Document):
    """What became of one portfolio: its handoff, or `code` and `sentence` of its refusal."""

    portfolio = serializers.CharField()
    handoff = HandoffDocument(allow_null=True)
    code = serializers.CharField(allow_null=True)
    sentence = serializers.CharField(allow_null=True)


class MovedDocument(Document):
    """What became of each portfolio, in the order of the request."""

    results = MoveOutcomeDocument(many=True)


class TenureDocument(Document):
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
    python = serializers.CharField(
        help_text="Minor version of Python under which the node ran the portfolio."
    )


class EventDocument(Document):
    """One line of the audit log."""

    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    kind = serializers.CharField()
    portfolio = serializers.CharField(allow_null=True)
    node = serializers.CharField(allow_null=True)
    actor = serializers.CharField()
    interface = serializers.CharField(
        help_text="Interface of the change: api, dashboard, admin, command or system."
    )
    address = serializers.CharField(
        help_text="Network address from which the change was requested."
    )
    reason = serializers.CharField()
    data = AuditDataField()  # type: ignore[assignment]
