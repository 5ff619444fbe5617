"""Strategy artifacts: the wheels that revisions pin, and the strategies found in them."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q


class ArtifactManager(models.Manager["Artifact"]):
    """Reads artifacts without their bytes. What runs or serves these reads `Artifact.complete`."""

    def get_queryset(self) -> models.QuerySet[Artifact]:
        """Defer the wheel: megabytes that no list and no reference needs."""
        return super().get_queryset().defer("wheel")


class Artifact(models.Model):
    """One wheel, identified by the hash of its bytes. Immutable; deleted when nothing names it."""

    sha256 = models.CharField(primary_key=True, max_length=64)
    name = models.CharField(max_length=100, help_text="Normalised name of the distribution.")
    version = models.CharField(max_length=64)
    filename = models.CharField(max_length=200)
    wheel = models.BinaryField()
    size = models.PositiveIntegerField(help_text="Bytes of the wheel.")
    summary = models.CharField(max_length=300, blank=True, default="")
    # What a node must provide.
    python_tag = models.CharField(max_length=40, help_text="Python tag of the wheel, such as py3.")
    python_requirement = models.CharField(
        max_length=100,
        blank=True,
        default="",
        help_text="Python versions that the wheel requires, as in >=3.12; empty: any.",
    )
    pythons = models.JSONField(
        default=list,
        blank=True,
        help_text="Minor versions of Python that the wheel runs under; empty: any.",
    )
    # Its dependencies.
    lock = models.TextField(blank=True, default="", help_text="Requirements with hashes.")
    env_sha256 = models.CharField(
        max_length=64,
        blank=True,
        default="",
        help_text="sha256 of the lock; empty: no dependencies.",
    )
    uploaded_by = models.CharField(max_length=150, blank=True, default="")
    at = models.DateTimeField(auto_now_add=True)

    objects = ArtifactManager()
    complete = models.Manager()  # noqa: DJ012 - with the bytes

    class Meta:
        ordering = ["name", "-at"]
        # A reference from a revision reads the row by this manager.
        base_manager_name = "objects"
        default_manager_name = "objects"
        constraints = [
            models.UniqueConstraint(fields=["name", "version"], name="artifact_version_once"),
            models.CheckConstraint(
                condition=Q(sha256__regex=r"^[0-9a-f]{64}$"), name="artifact_sha256_hex"
            ),
        ]
        indexes = [
            models.Index(fields=["env_sha256"], name="artifact_env", condition=~Q(env_sha256=""))
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def strategy_names(self) -> list[str]:
        """The names of its strategies. One statement, or none if they were prefetched."""
        return [strategy.name for strategy in self.strategies.all()]


class ArtifactStrategy(models.Model):
    """One strategy of an artifact, as the inspection found it."""

    artifact = models.ForeignKey(Artifact, on_delete=models.CASCADE, related_name="strategies")
    name = models.CharField(max_length=80)
    class_path = models.CharField(
        max_length=300, help_text="Import path of the class, such as package.module:Class."
    )
    version = models.PositiveIntegerField(
        default=1, help_text="The version that the class declares."
    )
    state_version = models.PositiveIntegerField(default=1)
    schema: Any = models.JSONField(default=dict, help_text="JSON schema of the parameters.")
    sees_every_symbol = models.BooleanField(default=False)
    checks = models.BooleanField(
        default=False, help_text="Its code checks the parameters or bars, in a separate process."
    )
    warm_up = models.PositiveIntegerField(
        null=True, help_text="Events of warm-up that the strategy wants; null: not loaded yet."
    )
    summary = models.CharField(max_length=300, blank=True, default="")

    class Meta:
        db_table = "portfolios_strategy"
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["artifact", "name"], name="strategy_name_once")
        ]

    def __str__(self) -> str:
        return self.name
