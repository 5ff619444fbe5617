"""Collect the facts of an installation from this host, and judge them."""

from __future__ import annotations

import asyncio
import http.client
import shutil
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.db import Error as DatabaseError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from ginkgo_site.sessions import NEWEST_VERSION, OLDEST_VERSION, find_unusable
from portfolios import validation
from portfolios.feeds.log import LogError
from portfolios.models import FeedWriter
from scheduling.db.transaction import execute
from scheduling.decide.deploy_check import DiskFact, Finding, Installation, UrlFact, find_faults
from scheduling.decide.reasons import count
from scheduling.errors import Invalid
from scheduling.observe.installation import read_installation
from scheduling.operations.secrets import SecretUnreadable, check_secrets
from scheduling.recorded_feeds.reads import answered_within, nats_url

URL_LIMIT_S = 5.0  #: for the answer of an address
REDIS_LIMIT_S = 1.0  #: for the answer of Redis
#: Checks of Django that repeat what `ginkgo.E011` says: GINKGO_HTTPS is not set.
_FOLLOW_FROM_PLAIN_HTTP = {"security.W004", "security.W008", "security.W012", "security.W016"}


@dataclass(frozen=True)
class DeployCheck:
    """The findings, errors first."""

    findings: list[Finding]

    @property
    def errors(self) -> int:
        """Return how many findings are errors."""
        return sum(finding.severity == "error" for finding in self.findings)


def deploy_check(urls: Sequence[str] = (), ca: Path | None = None) -> DeployCheck:
    """Return what is wrong with this installation. Changes nothing.

    `urls` are addresses that nodes and browsers use; `ca` is a file with the certificates of the
    authorities that signed those of the addresses.
    """
    context = _tls_context(ca)
    addresses = tuple(_ask_url(url, context) for url in urls)
    try:
        connection.ensure_connection()
    except DatabaseError as error:
        return DeployCheck([_database_finding(error)])
    pending, unknown = _migrations()
    from_django = _django_checks()
    if pending:  # the other facts are read from tables that may not exist yet
        return DeployCheck([*from_django, _unmigrated_finding(pending)])
    facts = execute(read_installation())
    env = settings.GINKGO
    installation = Installation(
        embedded=env.database_is_embedded,
        secret_key_given=env.secret_key is not None,
        secrets_stored=facts.database.secrets_stored,
        keys_problem=_keys_problem(),
        server_version=facts.database.server_version,
        supported_versions=(OLDEST_VERSION, NEWEST_VERSION),
        max_connections=facts.database.max_connections,
        standbys=facts.database.standbys,
        clock_offset_s=facts.clock_offset_s,
        clock_uncertainty_s=facts.clock_uncertainty_s,
        unknown_migrations=unknown,
        gateways=facts.gateways,
        pass_age_s=facts.passes.get("pass"),
        watcher_age_s=facts.passes.get("watcher"),
        queue_overdue_s=facts.database.queue_overdue_s,
        nodes=facts.nodes,
        operators=facts.database.operators,
        alert_channels=facts.database.alert_channels,
        redis_problem=_redis_problem(),
        nats_problem=_nats_problem(),
        disks=_disks(),
        urls=addresses,
        settings=tuple(from_django),
    )
    return DeployCheck(find_faults(installation))


def _database_finding(error: DatabaseError) -> Finding:
    """Return the finding for the error of a database that is away or that Ginkgo cannot use."""
    unusable = find_unusable(error)
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return Finding(
        "error",
        "database",
        str(unusable) if unusable else f"The database does not answer: {first_line}.",
        f"a PostgreSQL {OLDEST_VERSION} to {NEWEST_VERSION} that answers",
        "docs/deploy.md says which servers and poolers work."
        if unusable
        else "Start it, or correct DATABASE_URL.",
    )


def _unmigrated_finding(pending: int) -> Finding:
    return Finding(
        "error",
        "migrations",
        f"{count(pending, 'migration')} of this version must still be applied; before that, "
        "only Django's own checks are made.",
        "no migration left to apply",
        "Run manage.py migrate, before processes of this version start.",
    )


def _migrations() -> tuple[int, tuple[str, ...]]:
    """Return how many migrations are to be applied, and which applied ones this version lacks."""
    executor = MigrationExecutor(connection)
    pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
    here = executor.loader.disk_migrations
    replaced = {name for migration in here.values() for name in migration.replaces or []}
    unknown = [
        f"{app}.{name}"
        for app, name in executor.loader.applied_migrations
        if app in {"portfolios", "scheduling"} and (app, name) not in here.keys() | replaced
    ]
    return len(pending), tuple(sorted(unknown))


def _django_checks() -> list[Finding]:
    """Return Django's warnings and errors, with those for deployments and of the database."""
    messages = checks.run_checks(include_deployment_checks=True, databases=["default"])
    ids = {message.id for message in messages}
    return [
        Finding(
            "error" if message.level >= checks.ERROR else "warning",
            f"{message.id}",
            str(message.msg),
            "a setting that is safe where something real depends on it",
            str(message.hint or "See the documentation of this check."),
        )
        for message in messages
        if not message.is_silenced()
        and message.level >= checks.WARNING
        and not ("ginkgo.E011" in ids and message.id in _FOLLOW_FROM_PLAIN_HTTP)  # E011 says it
    ]


def _keys_problem() -> str:
    """Return why secrets cannot be encrypted and read, or ""."""
    try:
        check_secrets()
    except SecretUnreadable as unreadable:
        return unreadable.message
    return ""


def _disks() -> tuple[DiskFact, ...]:
    """Return the disks under the home and the archive of the installation, where these exist."""
    env = settings.GINKGO
    folders = {folder for folder in (env.home, env.archive) if folder.exists()}
    found = []
    for folder in sorted(folders):
        usage = shutil.disk_usage(folder)
        found.append(DiskFact(str(folder), usage.free, usage.total))
    return tuple(found)


def _redis_problem() -> str | None:
    """Return why Redis does not answer, "" if it does, None if the installation has none."""
    if settings.GINKGO.redis_url is None:
        return None
    import redis

    client = redis.Redis.from_url(
        settings.GINKGO.redis_url,
        socket_timeout=REDIS_LIMIT_S,
        socket_connect_timeout=REDIS_LIMIT_S,
    )
    try:
        client.ping()
    except redis.RedisError as error:
        return str(error).strip().rstrip(".") or type(error).__name__
    finally:
        client.close()
    return ""


def _nats_problem() -> str:
    """Return why the NATS server of feeds cannot be used; "" if it can, or nothing needs it."""
    stored = FeedWriter.objects.filter(in_stream=True)
    if settings.GINKGO.nats_url is None and not stored.exists():
        return ""

    async def ask() -> None:
        # The client of NATS takes 0.2 s to import.
        from scheduling.recorded_feeds.jetstream.stream import connected

        async with answered_within(URL_LIMIT_S), connected(nats_url()):
            pass

    try:
        asyncio.run(ask())
    except LogError as away:
        return str(away)
    return ""


def _tls_context(ca: Path | None) -> ssl.SSLContext:
    """Return the TLS context that trusts `ca`, or the system's authorities. Raise Invalid."""
    try:
        return ssl.create_default_context(cafile=None if ca is None else str(ca))
    except OSError as error:
        raise Invalid(
            [validation.error("ca", "malformed", f"{ca} cannot be read as certificates: {error}")]
        ) from None


def _ask_url(url: str, context: ssl.SSLContext) -> UrlFact:
    """Return whether the web process behind an address is ready, as a proxy asks it."""
    wanted = "an address such as https://ginkgo.example.org"
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return UrlFact(url, f"it is not {wanted}.")
        return _ask_host(url, parts.hostname, parts.port, context)
    except (ValueError, http.client.InvalidURL) as error:  # of a wrong port, bracket or host name
        return UrlFact(url, f"it is not {wanted}: {error}.")


def _ask_host(url: str, host: str, port: int | None, context: ssl.SSLContext) -> UrlFact:
    """Return the answer to GET /api/readyz/ at `host`, or why there is none."""
    http_connection: http.client.HTTPConnection
    if url.lower().startswith("https:"):
        http_connection = http.client.HTTPSConnection(
            host, port, timeout=URL_LIMIT_S, context=context
        )
    else:
        http_connection = http.client.HTTPConnection(host, port, timeout=URL_LIMIT_S)
    try:
        http_connection.request("GET", "/api/readyz/")
        expires_s = _certificate_expires_s(http_connection.sock)
        answer = http_connection.getresponse()
        body = answer.read(2_000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return UrlFact(url, f"{error or type(error).__name__}.")
    finally:
        http_connection.close()
    return UrlFact(url, _readiness_problem(answer, body.strip()), expires_s)


def _readiness_problem(answer: http.client.HTTPResponse, body: str) -> str:
    """Return what is wrong with an answer to GET /api/readyz/; an empty text if nothing is."""
    if answer.status == 200:
        return ""
    if answer.status == 301:  # Django's answer to a request that came without TLS, as it thinks
        location = answer.getheader("Location")
        return (
            f"it redirects to {location} (301). If that is the same address, the proxy does not "
            "set X-Forwarded-Proto: https."
        )
    return f"it answers {answer.status}: {body[:200]}"


def _certificate_expires_s(sock: socket.socket | Any) -> float | None:
    """Return the seconds until the server's certificate expires, None without TLS or if unknown."""
    if not isinstance(sock, ssl.SSLSocket):
        return None
    ends = (sock.getpeercert() or {}).get("notAfter")
    return None if ends is None else ssl.cert_time_to_seconds(str(ends)) - time.time()
