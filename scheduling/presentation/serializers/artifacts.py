"""Strategies, and the artifacts that hold them."""

from __future__ import annotations

from rest_framework import serializers

from scheduling.presentation.serializers.fields import Document, ObjectDocument


class StrategyDocument(Document):
    """A strategy that portfolios can run."""

    name = serializers.CharField()
    version = serializers.IntegerField(allow_null=True)
    origin = serializers.ChoiceField(
        ["release", "artifact", "installed"],
        help_text="Origin of the code. `installed`: on nodes, for development; it may change.",
    )
    artifact = serializers.CharField(
        allow_null=True,
        help_text="sha256 of the artifact that has the strategy; null if none has it.",
    )
    artifact_name = serializers.CharField(allow_null=True)
    artifact_version = serializers.CharField(allow_null=True)
    state_version = serializers.IntegerField(allow_null=True)
    sees_every_symbol = serializers.BooleanField(allow_null=True)
    warm_up = serializers.IntegerField(
        allow_null=True,
        help_text="Number of events that the strategy wants for its warm-up; null: unknown.",
    )
    schema = ObjectDocument(
        allow_null=True, help_text="JSON schema of the strategy's parameters; null: unknown."
    )
    summary = serializers.CharField()


class ArtifactDocument(Document):
    """A wheel that revisions can pin."""

    sha256 = serializers.CharField()
    name = serializers.CharField()
    version = serializers.CharField()
    filename = serializers.CharField()
    size = serializers.IntegerField(help_text="Size of the wheel in bytes.")
    summary = serializers.CharField()
    python = serializers.CharField(
        source="python_requirement",
        help_text="Python versions that the wheel requires, such as >=3.12; empty: any.",
    )
    environment = serializers.CharField(
        source="env_sha256",
        help_text="sha256 of the artifact's lock; empty: it has no dependencies.",
    )
    uploaded_by = serializers.CharField()
    at = serializers.DateTimeField()
    strategies = serializers.ListField(
        child=serializers.CharField(),
        source="strategy_names",
        help_text="Names of the strategies in the artifact.",
    )


class ArtifactUserDocument(Document):
    """A portfolio whose revisions name an artifact."""

    portfolio = serializers.CharField()
    revisions = serializers.CharField()
    is_wanted = serializers.BooleanField()
    is_deleted = serializers.BooleanField()


class ArtifactDetailDocument(ArtifactDocument):
    """A wheel with its lock and its users."""

    lock = serializers.CharField()
    used_by = ArtifactUserDocument(many=True)
