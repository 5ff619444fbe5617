"""Models of scheduling. Their rows are written in `scheduling.enact`."""

from scheduling.models.alerts import Alert, AlertChannel, AlertMessage, Storm
from scheduling.models.audit import Event, Interface
from scheduling.models.fleet_control import Control, Gateway, Halt, PassLock
from scheduling.models.handoff import ACTIVE_STATES, Handoff, HandoffKind, HandoffState
from scheduling.models.idempotency import IdempotencyKey
from scheduling.models.node import Lease, Node, NodeReport, NodeStatus, Resilience
from scheduling.models.portfolio_log import LogLine, PortfolioLog
from scheduling.models.roll_out import ItemState, RollOut, RollOutItem, RollOutState
from scheduling.models.run import Phase, Run, Tenure
from scheduling.models.storage import StorageSample
from scheduling.models.timeline import DatabaseTimeline, VanishedCommits
from scheduling.models.tokens import ApiToken, NodeToken, Scope
from scheduling.models.verification import OPEN_STATES, Verification, VerificationAnchor

__all__ = [
    "ACTIVE_STATES",
    "OPEN_STATES",
    "Alert",
    "AlertChannel",
    "AlertMessage",
    "ApiToken",
    "Control",
    "DatabaseTimeline",
    "Event",
    "Gateway",
    "Halt",
    "Handoff",
    "HandoffKind",
    "HandoffState",
    "IdempotencyKey",
    "Interface",
    "ItemState",
    "Lease",
    "LogLine",
    "Node",
    "NodeReport",
    "NodeStatus",
    "NodeToken",
    "PassLock",
    "Phase",
    "PortfolioLog",
    "Resilience",
    "RollOut",
    "RollOutItem",
    "RollOutState",
    "Run",
    "Scope",
    "StorageSample",
    "Storm",
    "Tenure",
    "VanishedCommits",
    "Verification",
    "VerificationAnchor",
]
