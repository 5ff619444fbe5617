"""Secrets: values that Ginkgo needs for others, such as the key of a data source."""

from __future__ import annotations

from django.db import models


class Secret(models.Model):
    """One secret, encrypted. No interface returns its value (`scheduling/operations/secrets.py`).

    The keys are outside of the database (`ginkgo_site/encryption_keys.py`).
    """

    name = models.CharField(max_length=80, primary_key=True)
    ciphertext = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)
    set_at = models.DateTimeField(help_text="When the value was last set.")
    set_by = models.CharField(max_length=150)
    last_used_at = models.DateTimeField(
        null=True, blank=True, help_text="Time of the last use; updated at most once a minute."
    )
    last_used_by = models.CharField(max_length=150, blank=True, default="", db_default="")

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(name__regex=r"^[a-z0-9]([a-z0-9-]{0,78}[a-z0-9])?$"),
                name="secret_name_plain",
            )
        ]

    def __str__(self) -> str:
        return self.name
