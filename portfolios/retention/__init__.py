"""Partitions of the records: attached ahead of the feed, archived and dropped when old."""

from portfolios.retention.archive import ArchiveDiffers
from portfolios.retention.upkeep import (
    MaintenanceOutcome,
    attach_partitions,
    has_expired_partitions,
    maintain,
)

__all__ = [
    "ArchiveDiffers",
    "MaintenanceOutcome",
    "attach_partitions",
    "has_expired_partitions",
    "maintain",
]
