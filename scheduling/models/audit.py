"""The audit log."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Func, Value
from django.db.models.functions import Coalesce, NullIf

from scheduling.models.node import Node


def from_session(name: str, otherwise: str) -> Coalesce:
    """Return a database default: the session setting `ginkgo.{name}`, or `otherwise` if not set."""
    setting = Func(
        Value(f"ginkgo.{name}"),
        Value(True),  # NULL instead of an error if the setting does not exist
        function="current_setting",
        output_field=models.TextField(),
    )
    return Coalesce(NullIf(setting, Value("")), Value(otherwise))


class Interface(models.TextChoices):
    """The interface through which a change was made; empty in lines of earlier releases."""

    API = "api"
    DASHBOARD = "dashboard"
    ADMIN = "admin"
    COMMAND = "command"
    SYSTEM = "system"


class Event(models.Model):
    """One change: what, by whom, why. Written in the transaction of the change itself."""

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
    # Set by a database default, since many statements write lines.
    interface = models.CharField(
        max_length=10,
        choices=Interface.choices,
        blank=True,
        db_default=from_session("interface", "system"),
    )
    address = models.CharField(max_length=45, blank=True, db_default=from_session("address", ""))
    reason = models.TextField(blank=True, default="")
    data = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.at:%H:%M:%S} {self.kind}"

    @property
    def why(self) -> dict[str, Any] | None:
        """Return the reason as data, or None where the line has only its text."""
        return self.data.get("why") if isinstance(self.data, dict) else None
