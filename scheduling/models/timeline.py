"""Timelines of the database, and commits that it lost."""

from __future__ import annotations

from django.db import models

from scheduling.models.node import Node


class DatabaseTimeline(models.Model):
    """One history of one database server, as the gateways found it.

    A promotion begins a new timeline, a new server has another system identifier. A new timeline
    may lack commits that were acknowledged on the one before, unless commits waited for a
    synchronous standby.
    """

    system_identifier = models.CharField(max_length=20)
    timeline = models.BigIntegerField()
    since = models.DateTimeField()
    synchronous = models.BooleanField(help_text="Whether commits wait for a standby.")
    settled_at = models.DateTimeField(
        null=True, help_text="Null: commits acknowledged on the timeline before may be missing."
    )

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["system_identifier", "timeline"], name="timeline_once")
        ]

    def __str__(self) -> str:
        return f"timeline {self.timeline} of {self.system_identifier}"


class VanishedCommits(models.Model):
    """Commits of one portfolio that were acknowledged and that the database lacks.

    Reported by the daemon that made them. The portfolio is a number, since it may be lost as well.
    """

    portfolio_number = models.BigIntegerField()
    node = models.ForeignKey(Node, on_delete=models.SET_NULL, null=True, related_name="+")
    epoch = models.BigIntegerField()
    seq = models.BigIntegerField()
    found_epoch = models.BigIntegerField(
        null=True, help_text="The epoch that the database had instead."
    )
    found_seq = models.BigIntegerField(null=True)
    orders = models.JSONField(default=list, help_text="(seq, index) of orders that were placed.")
    seen_at = models.DateTimeField()
    settled_at = models.DateTimeField(
        null=True, help_text="When an operator raised the epoch floor or released failover."
    )

    unverified = models.BooleanField(
        default=False,
        db_default=False,
        help_text="There is no record that the node owned the portfolio at that epoch.",
    )

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["portfolio_number", "epoch", "seq"], name="vanished_once"
            )
        ]

    def __str__(self) -> str:
        return f"portfolio {self.portfolio_number}, epoch {self.epoch}, up to seq {self.seq}"
