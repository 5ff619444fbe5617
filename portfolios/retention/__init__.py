"""Partitions of the records: attached ahead of the feed, archived and dropped when they are old."""

from portfolios.retention.archive import ArchiveDiffers
from portfolios.retention.kinds import RecordKind, record_kinds
from portfolios.retention.upkeep import (
    Maintained,
    RetainedPartition,
    attach_partitions,
    maintain,
    something_is_old,
)

__all__ = [
    "ArchiveDiffers",
    "Maintained",
    "RecordKind",
    "RetainedPartition",
    "attach_partitions",
    "maintain",
    "record_kinds",
    "something_is_old",
]
