"""The audit trail."""

from __future__ import annotations

from django.db import models

from scheduling.models.node import Node


class Event(models.Model):
    """What changed, who or what did it, why. Written in the transaction of the change itself."""

    at = models.DateTimeField(db_index=True)
    kind = models.CharField(max_length=32, db_index=True)
    portfolio = models.ForeignKey(
        "portfolios.Portfolio",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="events",
    )
    node = models.ForeignKey(
        Node, on_delete=models.SET_NULL, null=True, blank=True, related_name="events"
    )
    actor = models.CharField(max_length=150, blank=True, default="")
    reason = models.TextField(blank=True, default="")
    data = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.at:%H:%M:%S} {self.kind}"
