"""Rows about the whole fleet: pass lock, gateway liveness, freeze, halts."""

from __future__ import annotations

from django.db import models


class PassLock(models.Model):
    """A lock that expires: a holder that is frozen blocks other processes only up to `until`.

    The rows `watcher` (a watcher runs) and `storage` (the disk is full) are reports, not locks.
    """

    name = models.CharField(max_length=20, primary_key=True)
    holder = models.CharField(max_length=80, blank=True, default="")
    until = models.DateTimeField()
    failover_ran_at = models.DateTimeField(
        null=True, help_text="In the row `pass`: when the last complete pass ended."
    )
    since = models.DateTimeField(
        null=True, help_text="In the row `watcher`: since when a watcher has run without a gap."
    )

    def __str__(self) -> str:
        return f"{self.name}: {self.holder} until {self.until:%H:%M:%S}"


class Gateway(models.Model):
    """A web process that nodes can reach. It writes its row; the sweep corrects future times."""

    id = models.UUIDField(
        primary_key=True, help_text="UUID that the process draws anew at each start."
    )
    host = models.CharField(max_length=255, blank=True, default="")
    pid = models.PositiveIntegerField(null=True)
    serving_since = models.DateTimeField(
        help_text="Start of the pulses without a gap; earlier silence proves no loss."
    )
    pulsed_at = models.DateTimeField()
    left_at = models.DateTimeField(
        null=True, help_text="When the process was stopped in an orderly way."
    )
    commits_stand_since = models.DateTimeField(
        null=True, help_text="When commits began to be blocked, now or the last time."
    )
    commits_stood_at = models.DateTimeField(
        null=True, help_text="When the process last reported that commits are blocked."
    )
    commits_passed_at = models.DateTimeField(
        null=True, help_text="When a commit last got through this process."
    )

    def __str__(self) -> str:
        return f"gateway on {self.host}, pid {self.pid}"


class EvenBy(models.TextChoices):
    """The load that a rebalance evens out. Whether a portfolio fits is always decided by weight."""

    WEIGHT = "weight"
    CPU = "cpu"


class Control(models.Model):
    """The operators' settings for the whole fleet. One row."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    frozen_at = models.DateTimeField(null=True, blank=True)
    frozen_by = models.CharField(max_length=150, blank=True, default="")
    frozen_reason = models.CharField(max_length=200, blank=True, default="")
    freeze_failover = models.BooleanField(default=False)
    even_by = models.CharField(
        max_length=10,
        choices=EvenBy.choices,
        default=EvenBy.WEIGHT,
        db_default=EvenBy.WEIGHT,
        help_text="The load that a rebalance evens out: weight or CPU.",
    )

    def __str__(self) -> str:
        return "frozen" if self.frozen_at else "not frozen"


class Halt(models.Model):
    """One halt (kill switch). Runs that it stopped refer to it until they are started."""

    at = models.DateTimeField()
    actor = models.CharField(max_length=150)
    reason = models.CharField(max_length=200, blank=True, default="")
    running = models.PositiveIntegerField(help_text="How many portfolios had an owner at the halt.")
    stopped = models.PositiveIntegerField(
        help_text="How many portfolios the halt stopped, pending ones included."
    )
    undone_at = models.DateTimeField(null=True, blank=True)
    undone_by = models.CharField(max_length=150, blank=True, default="")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"halt {self.pk} by {self.actor}"
