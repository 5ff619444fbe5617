"""Hourly samples of the database's size, from which growth is computed."""

from __future__ import annotations

from django.db import models


class StorageSample(models.Model):
    """The size of the database at one time. Written by the retention task, kept for a month."""

    at = models.DateTimeField(db_index=True)
    database_bytes = models.BigIntegerField()
    wal_bytes = models.BigIntegerField(help_text="WAL written since the database was created.")
    disk_free_bytes = models.BigIntegerField(
        null=True, help_text="Free space for the embedded server; null: the server is elsewhere."
    )
    tables = models.JSONField(
        default=dict, help_text="Table → its bytes, partitions and indexes included."
    )

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.database_bytes} bytes at {self.at:%Y-%m-%d %H:%M}"
