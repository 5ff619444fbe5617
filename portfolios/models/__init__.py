"""Models of portfolios, feeds and records. Independent of nodes, leases and handoffs."""

from portfolios.models.artifact import Artifact, ArtifactStrategy
from portfolios.models.feed import FeedRow, FeedSegment, Instrument
from portfolios.models.portfolio import CatchUp, DesiredState, Portfolio, Revision, RevisionStatus
from portfolios.models.records import Checkpoint, EquityPoint, Fill, MetricPoint, Order, Suppression
from portfolios.models.secret import Secret

__all__ = [
    "Artifact",
    "ArtifactStrategy",
    "CatchUp",
    "Checkpoint",
    "DesiredState",
    "EquityPoint",
    "FeedRow",
    "FeedSegment",
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
