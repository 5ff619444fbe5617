"""Find what is wrong with an installation, from facts about it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

#: A process that works once a second counts as missing after this time.
SILENT_AFTER_S = 10.0
#: The queue begins a task each 10 s; a busy worker needs up to 25 s for one.
QUEUE_OVERDUE_S = 60.0
#: A wrong clock of a host falsifies the age of orders and the times in logs, and no lease: leases
#: use the database's clock.
CLOCK_WARNING_S, CLOCK_ERROR_S = 0.5, 5.0
EXPIRES_SOON_S = 14 * 86_400.0
DISK_WARNING_SHARE, DISK_ERROR_SHARE = 0.1, 0.02
#: Database sessions, at most: of one web process, and of the watcher and the worker together.
SESSIONS_OF_WEB, SESSIONS_OF_OTHERS = 30, 10


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: what was found, what is wanted, and what helps."""

    severity: Literal["error", "warning"]
    topic: str
    found: str
    wanted: str
    helps: str


@dataclass(frozen=True)
class GatewayFact:
    """A web process and the age of its pulse."""

    host: str
    pid: int | None
    pulse_age_s: float


@dataclass(frozen=True)
class NodeFact:
    """A node and the token that it used last."""

    name: str
    status: str
    token_expires_s: float | None  #: time until then, negative afterwards; None: never
    token_revoked: bool = False


@dataclass(frozen=True)
class DiskFact:
    """The disk that holds a folder of Ginkgo."""

    path: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class UrlFact:
    """The result of a request to an address that nodes and browsers use."""

    url: str
    problem: str  #: empty: the address is ready
    certificate_expires_s: float | None = None


@dataclass(frozen=True)
class Installation:
    """Facts about an installation. Times are in seconds, by the database's clock."""

    embedded: bool  #: `bin/up` runs the database: one machine, for trials
    secret_key_given: bool
    secrets_stored: int
    keys_problem: str  #: why the keys of secrets cannot be used; empty: they can
    server_version: int  #: as PostgreSQL numbers it: 170002 for 17.2
    supported_versions: tuple[int, int]  #: oldest and newest major version
    max_connections: int
    standbys: int  #: how many replicate, as far as the role may see them
    clock_offset_s: float  #: of this host ahead of the database
    clock_uncertainty_s: float  #: half the time that reading the database's clock took
    unknown_migrations: tuple[str, ...]
    gateways: tuple[GatewayFact, ...]
    pass_age_s: float | None  #: since the last whole pass; None: there was none yet
    watcher_age_s: float | None  #: since a check by a watcher was due; None: there was none yet
    queue_overdue_s: float | None  #: None: nothing is scheduled
    nodes: tuple[NodeFact, ...]
    operators: int  #: active users that may act
    alert_channels: int  #: those that are enabled
    redis_problem: str | None  #: None: Redis is not used; empty: it answers
    nats_problem: str = ""  #: why feeds in JetStream cannot be read; empty: they can, or none are
    disks: tuple[DiskFact, ...] = ()
    urls: tuple[UrlFact, ...] = ()
    settings: tuple[Finding, ...] = ()  #: what Django's own checks say


def find_faults(facts: Installation) -> list[Finding]:
    """Return what is wrong with the installation, errors first."""
    findings = [
        *facts.settings,
        *_check_secrets(facts),
        *_check_database(facts),
        *_check_processes(facts),
        *_check_nodes(facts),
        *_check_surroundings(facts),
    ]
    return sorted(findings, key=lambda finding: finding.severity)  # "error" < "warning"


_error = partial(Finding, "error")
_warning = partial(Finding, "warning")


def _check_secrets(facts: Installation) -> Iterator[Finding]:
    hosts = {gateway.host for gateway in facts.gateways}
    if not facts.secret_key_given and len(hosts) > 1:
        yield _error(
            "secrets",
            f"GINKGO_SECRET_KEY is not set, and web processes run on {len(hosts)} hosts: each "
            "makes a key of its own, so a session of one is unknown to the others.",
            "one key on all of them",
            "Set GINKGO_SECRET_KEY to the same 50 random characters on every host.",
        )
    elif not facts.secret_key_given and not facts.embedded:
        yield _warning(
            "secrets",
            "GINKGO_SECRET_KEY is not set: the key is a file below GINKGO_HOME of this host.",
            "a key that a second web process can share",
            "Set GINKGO_SECRET_KEY before there is a second host.",
        )
    if facts.keys_problem:
        kind = _error if facts.secrets_stored else _warning
        yield kind(
            "secrets",
            facts.keys_problem,
            f"{facts.secrets_stored} stored secrets that can be read"
            if facts.secrets_stored
            else "a key for secrets, such as addresses of alerts",
            "Set GINKGO_ENCRYPTION_KEYS to the same keys on every host "
            "(manage.py secret key makes one), or set again the secret that is named.",
        )


def _check_database(facts: Installation) -> Iterator[Finding]:
    oldest, newest = facts.supported_versions
    major = facts.server_version // 10_000
    if not oldest <= major <= newest:
        yield _warning(
            "database",
            f"The database is PostgreSQL {major}, with which Ginkgo was not tested.",
            f"PostgreSQL {oldest} to {newest}",
            f"Use one of these versions, or try PostgreSQL {major} on a copy first.",
        )
    web_processes = max(len(facts.gateways), 2)  # two are recommended, whatever runs now
    needed = web_processes * SESSIONS_OF_WEB + SESSIONS_OF_OTHERS
    if facts.max_connections < needed:
        yield _warning(
            "database",
            f"max_connections of the database is {facts.max_connections}.",
            f"{needed} for {web_processes} web processes, a watcher and a worker",
            f"Set max_connections = {needed} or more, and restart the database.",
        )
    if not facts.standbys and not facts.embedded:
        yield _warning(
            "database",
            "The database has no standby, or none that Ginkgo's role may see: if its host is lost, "
            "nothing trades until the database is restored.",
            "a synchronous standby",
            "See docs/mechanisms/database.md: a standby, Patroni, or a managed database with one.",
        )
    if facts.unknown_migrations:
        newest_name = facts.unknown_migrations[-1]
        yield _warning(
            "migrations",
            f"The database has migrations that this version does not know, such as {newest_name}: "
            "a newer version has migrated it.",
            "the newer version here too",
            "Upgrade this host. The version just before the newer one works until then.",
        )


def _check_processes(facts: Installation) -> Iterator[Finding]:
    alive = [gateway for gateway in facts.gateways if gateway.pulse_age_s <= SILENT_AFTER_S]
    if not alive:
        yield _error(
            "web",
            "No web process has pulsed within "
            f"{SILENT_AFTER_S:g} s: no node can commit or renew its lease.",
            "one web process at least, better two",
            "Start ginkgo-web; why it does not run is in its log.",
        )
    for gateway in facts.gateways:
        if alive and gateway not in alive:
            yield _warning(
                "web",
                f"The web process on {gateway.host}, pid {gateway.pid}, pulsed last "
                f"{gateway.pulse_age_s:.0f} s ago and has not been shut down.",
                "a pulse each second",
                "Check whether it runs, and whether it reaches the database.",
            )
    if len(alive) == 1 and not facts.embedded:
        yield _warning(
            "web",
            "One web process runs: while it restarts, no portfolio commits.",
            "two or more, behind a proxy",
            "Start another (docs/deploy.md).",
        )
    if facts.watcher_age_s is None or facts.watcher_age_s > SILENT_AFTER_S:
        last = "never" if facts.watcher_age_s is None else f"{facts.watcher_age_s:.0f} s ago"
        yield _warning(
            "watcher",
            f"The last check by a watcher: {last}. Without one, failover waits for the worker's "
            "pass.",
            "a check each second",
            "Start ginkgo-watcher.",
        )
    if facts.pass_age_s is None or facts.pass_age_s > QUEUE_OVERDUE_S:
        last = "never" if facts.pass_age_s is None else f"{facts.pass_age_s:.0f} s ago"
        yield _error(
            "passes",
            f"The last whole pass: {last}. No lost node is found and nothing is placed.",
            "one within 30 s",
            "Start ginkgo-watcher and ginkgo-worker; why a pass fails is in their logs.",
        )
    if facts.queue_overdue_s is None:
        yield _error(
            "worker",
            "Nothing is scheduled in the queue.",
            "the tasks that manage.py migrate schedules",
            "Run manage.py migrate.",
        )
    elif facts.queue_overdue_s > QUEUE_OVERDUE_S:
        yield _error(
            "worker",
            f"A task of the queue has been due for {facts.queue_overdue_s:.0f} s: no worker runs.",
            "tasks begun within seconds",
            "Start ginkgo-worker, which delivers alerts and deletes old rows.",
        )


def _check_nodes(facts: Installation) -> Iterator[Finding]:
    living = [node for node in facts.nodes if node.status == "alive"]
    if not living:
        yield _error(
            "nodes",
            f"Of {len(facts.nodes)} nodes none is alive.",
            "at least one node alive, and others with room for its portfolios if it is lost",
            "Start node daemons (docs/deploy.md).",
        )
    lost = [node.name for node in facts.nodes if node.status == "lost"]
    if living and lost:
        yield _warning(
            "nodes",
            f"Lost: {_up_to_ten(lost)}.",
            "every node alive, or forgotten",
            "Start their daemons again; if a node is gone for good, run manage.py forget_node.",
        )
    revoked = [node.name for node in living if node.token_revoked]
    if revoked:
        yield _error(
            "tokens",
            f"The token that {_up_to_ten(revoked)} used last is revoked.",
            "a valid token",
            "Run manage.py create_node_token, and restart the daemon with the new token.",
        )
    for node in living:
        left_s = node.token_expires_s
        if left_s is None or node.token_revoked or left_s > EXPIRES_SOON_S:
            continue
        kind = _error if left_s <= 0 else _warning
        when = "has expired" if left_s <= 0 else f"expires in {left_s / 86_400:.1f} days"
        yield kind(
            "tokens",
            f"The token of {node.name} {when}.",
            f"more than {EXPIRES_SOON_S / 86_400:.0f} days, or no end",
            f"Run manage.py create_node_token {node.name}, and restart its daemon with the token.",
        )


def _check_surroundings(facts: Installation) -> Iterator[Finding]:
    """Check clock, disks, Redis, NATS, addresses, operators and alert channels."""
    offset_s = abs(facts.clock_offset_s) - facts.clock_uncertainty_s
    if offset_s > CLOCK_WARNING_S:
        kind = _error if offset_s > CLOCK_ERROR_S else _warning
        ahead = "ahead of" if facts.clock_offset_s > 0 else "behind"
        yield kind(
            "clock",
            f"The clock of this host is {abs(facts.clock_offset_s):.1f} s {ahead} the database's.",
            f"within {CLOCK_WARNING_S:g} s",
            "Run chrony or systemd-timesyncd on both hosts.",
        )
    for disk in facts.disks:
        share = disk.free_bytes / max(disk.total_bytes, 1)  # some virtual disks report 0 bytes
        if share < DISK_WARNING_SHARE:
            yield (_error if share < DISK_ERROR_SHARE else _warning)(
                "disk",
                f"{disk.path} has {disk.free_bytes / 1e9:.1f} GB free, {share:.0%} of its disk.",
                f"{DISK_WARNING_SHARE:.0%} of it free",
                "Make room, or name another folder (GINKGO_HOME, GINKGO_ARCHIVE).",
            )
    if facts.redis_problem:
        yield _error(
            "redis",
            f"Redis does not answer: {facts.redis_problem}. Pushes wait for the next heartbeat, "
            "and boards show nothing new until they are reloaded.",
            "an answer within a second",
            "Start Redis, correct REDIS_URL, or unset REDIS_URL: then PostgreSQL carries pushes.",
        )
    if facts.nats_problem:
        yield _error(
            "nats",
            facts.nats_problem,
            "a NATS server that answers, with the feeds that are kept in JetStream",
            "Start it, or correct GINKGO_NATS_URL; recorders and nodes go on by themselves.",
        )
    for url in facts.urls:
        left_s = url.certificate_expires_s
        if url.problem:
            yield _error(
                "url",
                f"{url.url} is not ready: {url.problem}",
                "200 from /api/readyz/",
                "Look at the proxy, its certificate, and the web processes behind it.",
            )
        elif left_s is not None and left_s < EXPIRES_SOON_S:
            yield _warning(
                "url",
                f"The certificate of {url.url} expires in {left_s / 86_400:.1f} days.",
                f"more than {EXPIRES_SOON_S / 86_400:.0f} days",
                "Renew the certificate.",
            )
    if not facts.operators:
        yield _warning(
            "people",
            "No active user may act: nobody can halt anything.",
            "an operator",
            "Run manage.py createsuperuser, then make operators under People.",
        )
    if not facts.alert_channels and not facts.embedded:
        yield _warning(
            "alerts",
            "Alerts are sent nowhere.",
            "a channel",
            "Run manage.py alert_channel, or set GINKGO_ALERT_URL.",
        )


def _up_to_ten(names: list[str]) -> str:
    """Return the first ten names, and how many more there are, as a part of a sentence."""
    shown = ", ".join(names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown
