"""Rows about the whole fleet: pass lock, gateway liveness, freeze, halts."""

from __future__ import annotations

from django.db import models


class PassLock(models.Model):
    """A lock that expires: a holder that is frozen blocks other processes only up to `until`."""

    name = models.CharField(max_length=20, primary_key=True)
    holder = models.CharField(max_length=80, blank=True, default="")
    until = models.DateTimeField()
    failover_ran_at = models.DateTimeField(
        null=True, help_text="Row `pass`: when the last whole pass ended."
    )
    since = models.DateTimeField(
        null=True, help_text="Row `watcher`: since when one has looked without a gap."
    )

    def __str__(self) -> str:
        return f"{self.name}: {self.holder} until {self.until:%H:%M:%S}"


class Gateway(models.Model):
    """A web process that nodes can reach. Only the process itself writes its row."""

    id = models.UUIDField(primary_key=True, help_text="Made anew at each start of the process.")
    host = models.CharField(max_length=255, blank=True, default="")
    pid = models.PositiveIntegerField(null=True)
    serving_since = models.DateTimeField(
        help_text="Since when it has pulsed without a gap; silence before proves nothing."
    )
    pulsed_at = models.DateTimeField()
    left_at = models.DateTimeField(null=True, help_text="When it was stopped in order.")
    commits_stand_since = models.DateTimeField(
        null=True, help_text="Since when it lets no commit through, or did last."
    )
    commits_stood_at = models.DateTimeField(null=True, help_text="When it said so last.")
    commits_passed_at = models.DateTimeField(
        null=True, help_text="When a commit got through it last."
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
        help_text="What a rebalance evens out.",
    )

    def __str__(self) -> str:
        return "frozen" if self.frozen_at else "not frozen"


class Halt(models.Model):
    """One halt (kill switch). Runs that it stopped refer to it until they are started."""

    at = models.DateTimeField()
    actor = models.CharField(max_length=150)
    reason = models.CharField(max_length=200, blank=True, default="")
    running = models.PositiveIntegerField(help_text="How many a node owned.")
    stopped = models.PositiveIntegerField(help_text="How many it ended, pending ones included.")
    undone_at = models.DateTimeField(null=True, blank=True)
    undone_by = models.CharField(max_length=150, blank=True, default="")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"halt {self.pk} by {self.actor}"
