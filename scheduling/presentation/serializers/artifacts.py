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


class ArtifactDocument(Document):
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
