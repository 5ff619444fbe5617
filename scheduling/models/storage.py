"""Hourly samples of the database's size, from which growth is computed."""

from __future__ import annotations

from django.db import models


class StorageSample(models.Model):
    """One sample. Written by the retention task, deleted after a month."""

    at = models.DateTimeField(db_index=True)
    database_bytes = models.BigIntegerField()
    wal_bytes = models.BigIntegerField(help_text="WAL written since the database was made.")
    disk_free_bytes = models.BigIntegerField(
        null=True, help_text="Of the disk of the embedded server; null: another machine's."
    )
    tables = models.JSONField(default=dict, help_text="Table → bytes, partitions and indexes too.")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.database_bytes} bytes at {self.at:%Y-%m-%d %H:%M}"
