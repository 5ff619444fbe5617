"""Portfolios and the immutable revisions of their configuration."""

from __future__ import annotations

import uuid
from decimal import Decimal

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q


class DesiredState(models.TextChoices):
    """What operators want of a portfolio."""

    RUNNING = "running"
    STOPPED = "stopped"


class CatchUp(models.TextChoices):
    """How a portfolio handles events that became stale while it did not run."""

    FULL = "full"  #: like any others, orders included
    STATE_ONLY = "state_only"  #: the state follows them, decisions on them are suppressed
    HALT = "halt"  #: not at all: the portfolio halts before the first of them


class RevisionStatus(models.TextChoices):
    """How far a revision is proven: see `Revision`."""

    UNPROVEN = "unproven"
    GOOD = "good"
    REJECTED = "rejected"


class PortfolioQuerySet(models.QuerySet["Portfolio"]):
    def present(self) -> PortfolioQuerySet:
        """Return portfolios that are not deleted. A deleted one keeps its rows, not its name."""
        return self.filter(archived_at__isnull=True)


class Portfolio(models.Model):
    """A strategy with its configuration, cash, positions and state; the unit that is scheduled."""

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.SlugField(max_length=80)
    # Requirements for a node (written by operators).
    weight = models.PositiveIntegerField(default=1, validators=[MinValueValidator(1)])
    priority = models.IntegerField(
        default=0, help_text="Portfolios of higher priority are placed first."
    )
    selector = models.JSONField(default=dict, blank=True, help_text="Labels a node must have.")
    spread_group = models.CharField(max_length=80, blank=True, default="")
    spread_hard = models.BooleanField(default=False)
    # Desired behaviour (written by operators).
    desired_state = models.CharField(
        max_length=8, choices=DesiredState.choices, default=DesiredState.RUNNING
    )
    catch_up = models.CharField(max_length=10, choices=CatchUp.choices, default=CatchUp.STATE_ONLY)
    # The wanted revision (written by PATCH and reload).
    revision = models.PositiveIntegerField(default=1)
    # Fixed at creation.
    feed = models.ForeignKey("portfolios.FeedRow", on_delete=models.PROTECT, related_name="+")
    first_seq = models.BigIntegerField(help_text="Seq of the first event that the portfolio sees.")
    starting_cash = models.DecimalField(
        max_digits=24, decimal_places=4, default=Decimal("100000.0000")
    )
    created_at = models.DateTimeField(auto_now_add=True)
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    changed_in = models.BigIntegerField(
        db_default=0,
        editable=False,
        help_text="The transaction that last changed the row; set by a trigger.",
    )

    objects = PortfolioQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["name"], condition=Q(archived_at__isnull=True), name="portfolio_name_once"
            ),
            # A name with a line break fits no URL: every page that links to it would fail.
            models.CheckConstraint(
                condition=Q(name__regex=r"^[a-z0-9]([a-z0-9-]{0,78}[a-z0-9])?$"),
                name="portfolio_name_plain",
            ),
            models.CheckConstraint(condition=Q(weight__gte=1), name="portfolio_weight_positive"),
            models.CheckConstraint(condition=Q(first_seq__gte=1), name="portfolio_first_seq"),
        ]
        indexes = [models.Index(fields=["changed_in"], name="portfolio_changed")]

    def __str__(self) -> str:
        return self.name


class Revision(models.Model):
    """One immutable configuration of a portfolio, numbered 1, 2, 3 …

    unproven ──60 s and a non-empty commit──▶ good
        └──────its process fails before──────▶ rejected ──PATCH or reload──▶ unproven
    """

    portfolio = models.ForeignKey(Portfolio, on_delete=models.CASCADE, related_name="revisions")
    number = models.PositiveIntegerField()
    strategy = models.CharField(max_length=80)
    strategy_version = models.PositiveIntegerField()
    artifact = models.ForeignKey(
        "portfolios.Artifact",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="revisions",
        db_column="artifact_sha256",
        db_index=False,  # the partial index below is enough
        help_text="The artifact that the revision runs; null: a built-in strategy.",
    )
    config = models.JSONField(default=dict, blank=True, help_text="The strategy's parameters.")
    symbols = models.JSONField(
        default=list, blank=True, help_text="Symbols of the portfolio; empty: every symbol."
    )
    limits = models.JSONField(default=dict, blank=True)
    # Written when a revision is proven or rejected.
    status = models.CharField(
        max_length=8, choices=RevisionStatus.choices, default=RevisionStatus.UNPROVEN
    )
    status_reason = models.TextField(blank=True, default="")
    note = models.CharField(max_length=200, blank=True, default="")
    created_by = models.CharField(max_length=150, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    changed_in = models.BigIntegerField(
        db_default=0,
        editable=False,
        help_text="The transaction that last changed the row; set by a trigger.",
    )

    class Meta:
        ordering = ["portfolio_id", "number"]
        constraints = [
            models.UniqueConstraint(fields=["portfolio", "number"], name="revision_number_once")
        ]
        indexes = [
            models.Index(fields=["changed_in"], name="revision_changed"),
            models.Index(
                fields=["artifact"], name="revision_artifact", condition=Q(artifact__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.portfolio} r{self.number}"
