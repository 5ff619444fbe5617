"""Facts of the database about the installation, for `manage.py deploy_check`."""

from __future__ import annotations

import time
from typing import NamedTuple

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query, query_one
from scheduling.decide.deploy_check import GatewayFact, NodeFact
from scheduling.observe.control_plane import read_control_plane


class DatabaseRow(NamedTuple):
    """Settings and counts of the database."""

    server_version: int
    max_connections: int
    standbys: int
    queue_overdue_s: float | None  #: seconds since the earliest task was due; None: no task
    secrets_stored: int
    operators: int  #: active users that may act
    alert_channels: int


#: Settings, standbys, the queue, and counts of what an installation needs.
DATABASE = Statement(
    "DATABASE",
    """
SELECT current_setting('server_version_num')::int AS server_version,
       current_setting('max_connections')::int AS max_connections,
       (SELECT count(*) FROM pg_stat_replication)::int AS standbys,
       (SELECT max(extract(epoch FROM clock_timestamp() - next_run))::float
        FROM django_q_schedule) AS queue_overdue_s,
       (SELECT count(*) FROM portfolios_secret)::int AS secrets_stored,
       (SELECT count(*) FROM auth_user u WHERE u.is_active AND (u.is_superuser OR EXISTS (
            SELECT FROM auth_user_groups m JOIN auth_group g ON g.id = m.group_id
            WHERE m.user_id = u.id AND g.name = 'operator')))::int AS operators,
       (SELECT count(*) FROM scheduling_alertchannel WHERE enabled)::int AS alert_channels
""",
    row=DatabaseRow,
)


class TokenRow(NamedTuple):
    """A node that is alive or lost, and the token that it used last."""

    name: str
    status: str
    token_expires_s: float | None
    token_revoked: bool


#: Nodes that should run, each with the token that it used last.
NODE_TOKENS = Statement(
    "NODE_TOKENS",
    """
SELECT n.name, n.status,
       extract(epoch FROM t.expires_at - clock_timestamp())::float AS token_expires_s,
       t.revoked_at IS NOT NULL AS token_revoked
FROM scheduling_node n LEFT JOIN LATERAL (
    SELECT expires_at, revoked_at FROM scheduling_nodetoken
    WHERE node_id = n.id ORDER BY last_used_at DESC NULLS LAST, id DESC LIMIT 1) t ON true
WHERE n.status IN ('alive', 'lost') ORDER BY n.name LIMIT 10000
""",
    row=TokenRow,
)


class ClockRow(NamedTuple):
    now_s: float


CLOCK = Statement(
    "CLOCK", "SELECT extract(epoch FROM clock_timestamp())::float AS now_s", row=ClockRow
)


class InstallationFacts(NamedTuple):
    """What the database says about the installation."""

    database: DatabaseRow
    nodes: tuple[NodeFact, ...]
    gateways: tuple[GatewayFact, ...]
    passes: dict[str, float]  #: see `read_control_plane`
    clock_offset_s: float  #: by how much this host's clock is ahead of the database's
    clock_uncertainty_s: float


def read_installation() -> Transaction[InstallationFacts]:
    """Return facts of the database about the installation. Five statements."""
    database = yield from query_one(DATABASE)
    assert database is not None
    tokens = yield from query(NODE_TOKENS)
    control_plane = yield from read_control_plane()
    before_s = time.time()
    clock = yield from query_one(CLOCK)
    after_s = time.time()
    assert clock is not None
    return InstallationFacts(
        database=database,
        nodes=tuple(NodeFact(*token) for token in tokens),
        gateways=tuple(GatewayFact(g.host, g.pid, g.pulse_age_s) for g in control_plane.gateways),
        passes=control_plane.passes,
        clock_offset_s=(before_s + after_s) / 2 - clock.now_s,
        clock_uncertainty_s=(after_s - before_s) / 2,
    )
