"""Partitions of the records: attached ahead of the feed, archived and dropped when old."""

from portfolios.retention.archive import ArchiveDiffers
from portfolios.retention.kinds import RecordKind, record_kinds
from portfolios.retention.upkeep import (
    MaintenanceOutcome,
    RetainedPartition,
    attach_partitions,
    has_expired_partitions,
    maintain,
)

__all__ = [
    "ArchiveDiffers",
    "MaintenanceOutcome",
    "RecordKind",
    "RetainedPartition",
    "attach_partitions",
    "has_expired_partitions",
    "maintain",
    "record_kinds",
]
