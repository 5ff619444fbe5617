"""Models of portfolios, feeds and records. Independent of nodes, leases and handoffs."""

from portfolios.models.artifact import Artifact, ArtifactStrategy
from portfolios.models.feed import (
    FeedAppend,
    FeedDigest,
    FeedKind,
    FeedRecord,
    FeedRow,
    FeedSegment,
    FeedWriter,
    Instrument,
)
from portfolios.models.portfolio import CatchUp, DesiredState, Portfolio, Revision, RevisionStatus
from portfolios.models.records import (
    ArchivedRange,
    Checkpoint,
    EquityPoint,
    Fill,
    MetricPoint,
    Order,
    Suppression,
)
from portfolios.models.secret import Secret

__all__ = [
    "ArchivedRange",
    "Artifact",
    "ArtifactStrategy",
    "CatchUp",
    "Checkpoint",
    "DesiredState",
    "EquityPoint",
    "FeedAppend",
    "FeedDigest",
    "FeedKind",
    "FeedRecord",
    "FeedRow",
    "FeedSegment",
    "FeedWriter",
    "Fill",
    "Instrument",
    "MetricPoint",
    "Order",
    "Portfolio",
    "Revision",
    "RevisionStatus",
    "Secret",
    "Suppression",
]
