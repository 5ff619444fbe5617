"""Objects shared by all hosted portfolios of a daemon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from scheduling.node_daemon.acknowledged import Acknowledgements
from scheduling.node_daemon.committer import Committer
from scheduling.node_daemon.config import NodeConfig
from scheduling.node_daemon.control_plane_client import ControlPlaneClient
from scheduling.node_daemon.feed_reader import FeedReader
from scheduling.node_daemon.forkserver_client import ForkserverClient
from scheduling.node_daemon.lease_view import Lease
from scheduling.node_daemon.log_sender import LogBuffer
from scheduling.node_daemon.outbox import Outbox
from scheduling.node_daemon.recorded_feed import RecordedFeedReader
from scheduling.node_daemon.strategy_code import StrategyCode


@dataclass(slots=True)
class DaemonContext:
    """What the hosted portfolios of a daemon share; it creates one and passes it to each."""

    config: NodeConfig
    incarnation: str
    forkserver: ForkserverClient
    client: ControlPlaneClient
    committer: Committer
    lease: Lease
    outbox: Outbox
    acknowledged: Acknowledgements
    code: StrategyCode
    log: LogBuffer = field(default_factory=LogBuffer)
    feeds: dict[str, FeedReader | RecordedFeedReader] = field(default_factory=dict)
    stale_order_age_s: float = 5.0
    #: called when a process changed its phase: reconciles, and sends a heartbeat
    on_change: Callable[[], None] = lambda: None
    #: sends a heartbeat at once
    beat_soon: Callable[[], None] = lambda: None
