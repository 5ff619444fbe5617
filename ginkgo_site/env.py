"""The environment, read once.

Every variable the project understands is a field of `Environment`. A value that cannot be used
raises `InvalidSetting`, whose text names the variable, what was found and what to do about it.
Nothing here imports Django's settings, so the launcher can read the same environment before any
process exists.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import environ

CHECKOUT = Path(__file__).resolve().parent.parent

#: The file in GINKGO_HOME to which the launcher writes the URL of its embedded server.
EMBEDDED_URL_FILE = "database.url"

#: One failpoint: [PROCESS/]POINT=ACTION[@NTH]; see scheduling/db/failpoints.py.
FAILPOINT = (
    r"(?:(web|watcher|worker)/)?([\w.*:?]+)=(error|exit|pause\((\d+(?:\.\d+)?)\))(?:@([1-9]\d*))?"
)

_HOST = re.compile(r"(\*|\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?|\[[0-9a-fA-F:.]+\])")


class InvalidSetting(Exception):
    """An environment variable holds a value the project cannot start with.

    The text is a whole sentence with its remedy, made to be printed alone.
    """


@dataclass(frozen=True)
class Environment:
    """The environment variables of the control plane, validated."""

    home: Path
    database_url: str  #: libpq URL; the embedded server's when DATABASE_URL is not set
    database_is_embedded: bool
    redis_url: str | None  #: None: PostgreSQL carries the pushes
    secret_key: str | None  #: None: one is made, and kept below `home`
    allowed_hosts: tuple[str, ...]
    https: bool
    hsts_preload: bool  #: ask browsers to ship the host as HTTPS only, which is hard to take back
    trusted_proxies: tuple[str, ...]  #: addresses and networks whose X-Forwarded-For is trusted
    log_level: str

    heartbeat_interval_s: float
    lease_ttl_s: float
    socket_grace_s: float  #: what is left of a lease after the socket of its daemon closed
    balance_interval_s: int  #: between two passes of the worker
    drain_deadline_s: float  #: for the last commit of the source of a handoff
    stale_order_age_s: float  #: decisions on older events are not ordered
    stall_s: float  #: without progress although events wait: a portfolio counts as stalled
    storm_fraction: float  #: of the nodes alive one lease ago, the part whose loss is a storm
    raise_epoch_floor: str  #: `auto` or `manual`, where acknowledged commits vanished
    feed_rate: float  #: events a second of a replay
    good_after_s: float  #: how long a revision must run before it is good
    child_memory_mb: int  #: of one portfolio process, on a node and where it is replayed
    strategy_guard: bool  #: refuse strategies new processes, signals to others, and files
    keep_orders_days: float  #: orders and fills stay in the database at least this long
    keep_equity_days: float
    keep_audit_days: float  #: audit log outside ownership histories, and queue tasks
    keep_log_days: float  #: for lines that portfolio processes printed
    archive: Path  #: folder of the Parquet files that records are archived to
    retention_interval_s: int  #: between two runs of the task that deletes and archives old rows
    verify_interval_s: float  #: between two verifications of a portfolio by schedule; 0: none
    encryption_keys_file: Path  #: of secrets, if `encryption_keys` is empty
    failpoints: str  #: where processes fail deliberately; only with `rehearsal`
    rehearsal: bool  #: nothing real depends on this installation
    alert_url: str | None = field(default=None, repr=False)  #: an apprise address for alerts
    alert_language: str = "en"  #: of the messages that are sent
    nats_url: str | None = field(default=None, repr=False)  #: where feeds in JetStream are kept
    encryption_keys: tuple[str, ...] = field(default=(), repr=False)  #: the newest first


def read_environment(variables: Mapping[str, str] | None = None) -> Environment:
    """Return the checked environment, or raise `InvalidSetting`. Reads at most one small file."""
    source = _Source(os.environ if variables is None else variables)
    home = _folder(source, "GINKGO_HOME", CHECKOUT / ".ginkgo")
    database_url, embedded = _database_url(source, home)
    result = Environment(
        home=home,
        database_url=database_url,
        database_is_embedded=embedded,
        redis_url=_redis_url(source),
        secret_key=_secret_key(source),
        allowed_hosts=_allowed_hosts(source),
        https=source.boolean("GINKGO_HTTPS", default=False),
        hsts_preload=source.boolean("GINKGO_HSTS_PRELOAD", default=False),
        trusted_proxies=_trusted_proxies(source),
        log_level=source.choice("GINKGO_LOG_LEVEL", "info", "debug", "warning", "error").upper(),
        heartbeat_interval_s=source.seconds("GINKGO_HEARTBEAT_INTERVAL_S", 10, lowest=0.1),
        lease_ttl_s=source.seconds("GINKGO_LEASE_TTL_S", 30, lowest=0.3),
        socket_grace_s=source.seconds("GINKGO_SOCKET_GRACE_S", 3, lowest=0.1),
        balance_interval_s=source.whole_seconds("GINKGO_BALANCE_INTERVAL_S", 30),
        drain_deadline_s=source.seconds("GINKGO_DRAIN_DEADLINE_S", 5, lowest=0.1, highest=30),
        stale_order_age_s=source.seconds("GINKGO_STALE_ORDER_AGE_S", 5, lowest=0.1),
        stall_s=source.seconds("GINKGO_STALL_S", 30, lowest=1),
        storm_fraction=source.number(
            "GINKGO_STORM_FRACTION", 0.5, lowest=0.01, highest=1, what="a fraction"
        ),
        raise_epoch_floor=source.choice("GINKGO_RAISE_EPOCH_FLOOR", "manual", "auto"),
        feed_rate=source.number(
            "GINKGO_FEED_RATE", 100, lowest=0.01, highest=1_000_000, what="events per second"
        ),
        good_after_s=source.seconds("GINKGO_GOOD_AFTER_S", 60, lowest=0.5),
        child_memory_mb=int(
            source.number(
                "GINKGO_CHILD_MEMORY_MB", 1024, lowest=1, highest=1e9, what="a size in MB"
            )
        ),
        strategy_guard=source.boolean("GINKGO_STRATEGY_GUARD", default=True),
        keep_orders_days=source.days("GINKGO_KEEP_ORDERS_DAYS", 731),
        keep_equity_days=source.days("GINKGO_KEEP_EQUITY_DAYS", 30),
        keep_audit_days=source.days("GINKGO_KEEP_AUDIT_DAYS", 2557),
        keep_log_days=source.days("GINKGO_KEEP_LOG_DAYS", 14),
        archive=_folder(source, "GINKGO_ARCHIVE", home / "archive"),
        retention_interval_s=source.whole_seconds("GINKGO_RETENTION_INTERVAL_S", 3600),
        verify_interval_s=source.seconds("GINKGO_VERIFY_INTERVAL_S", 3600, lowest=0),
        encryption_keys_file=_path(
            source, "GINKGO_ENCRYPTION_KEYS_FILE", home / "secrets" / "encryption_keys"
        ),
        alert_url=source.text("GINKGO_ALERT_URL"),
        alert_language=source.choice("GINKGO_ALERT_LANGUAGE", "en", "zh-hans"),
        nats_url=_nats_url(source),
        encryption_keys=source.comma_separated("GINKGO_ENCRYPTION_KEYS"),
        failpoints=_failpoints(source),
        rehearsal=source.boolean("GINKGO_REHEARSAL", default=False),
    )
    _check_combinations(result)
    return result


def embedded_url(home: Path) -> str:
    """Return the URL of the embedded server of `home`, as the launcher recorded it.

    Before the first start nothing is recorded; then the place where it will listen is named, so a
    command run too early fails with a connection error that shows the folder.
    """
    try:
        recorded = (home / EMBEDDED_URL_FILE).read_text(encoding="utf-8").strip()
    except OSError:
        recorded = ""
    return recorded or f"postgresql://ginkgo@/ginkgo?host={home / 'postgres' / 'socket'}"


def embedded_admin_url(home: Path) -> str:
    """Return the URL of the embedded server for its superuser, for maintenance."""
    return embedded_url(home).replace("postgresql://ginkgo@", "postgresql://postgres@", 1)


class _Source:
    """Reads variables by type. Raises InvalidSetting for values of another type."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._env = environ.Env()
        self._env.escape_proxy = True
        # An empty variable is how shells and compose files say "not set". django-environ takes a
        # value that begins with "$" for the name of another variable; a random key may begin so.
        self._env.ENVIRON = {
            name: value.replace("$", r"\$") for name, value in variables.items() if value.strip()
        }

    def text(self, name: str) -> str | None:
        """Return the stripped value; None if the variable is unset or empty."""
        value: str | None = self._env.str(name, default=None)
        return None if value is None else value.strip()

    def comma_separated(self, name: str) -> tuple[str, ...]:
        return tuple(word.strip() for word in self._env.list(name, default=[]) if word.strip())

    def boolean(self, name: str, default: bool) -> bool:
        value = self.text(name)
        if value is None:
            return default
        if value.lower() in {"1", "true", "yes", "on"}:
            return True
        if value.lower() in {"0", "false", "no", "off"}:
            return False
        raise InvalidSetting(f"{name} is {value!r}, which is neither yes nor no: use 1 or 0.")

    def choice(self, name: str, default: str, *others: str) -> str:
        """Return the value in lower case, which has to be the default or one of `others`."""
        value = (self.text(name) or default).lower()
        if value not in (default, *others):
            allowed = ", ".join((default, *others[:-1]))
            raise InvalidSetting(f"{name} is {value!r}: use {allowed} or {others[-1]}.")
        return value

    def number(
        self, name: str, default: float, *, lowest: float, highest: float, what: str
    ) -> float:
        """Return a number in [lowest, highest]; `what` completes "which is not …" in an error."""
        try:
            # Not Env.float, which drops everything but digits: it reads 1h as 1 and 1e3 as 13.
            # And ASCII alone: float reads digits of every script.
            value = float((self.text(name) or str(default)).encode("ascii"))
        except ValueError:
            raise InvalidSetting(
                f"{name} is {self.text(name)!r}, which is not {what}: "
                f"give a number such as {default:g}, or leave it unset."
            ) from None
        if not lowest <= value <= highest:  # also refuses nan, which compares false
            raise InvalidSetting(
                f"{name} is {self.text(name)}, but must lie between {lowest:g} and {highest:g}: "
                f"the default is {default:g}."
            )
        return value

    def seconds(
        self, name: str, default: float, *, lowest: float, highest: float = 86_400
    ) -> float:
        return self.number(name, default, lowest=lowest, highest=highest, what="a time in seconds")

    def days(self, name: str, default: float) -> float:
        # Parts of a day are allowed for tests, which compress days into minutes.
        return self.number(name, default, lowest=0.0001, highest=36_525, what="a number of days")

    def whole_seconds(self, name: str, default: int) -> int:
        value = self.number(name, default, lowest=1, highest=86_400, what="a time in whole seconds")
        if value != int(value):
            raise InvalidSetting(
                f"{name} is {self.text(name)}, but must be whole seconds: "
                f"the schedule that uses it cannot be finer; the default is {default}."
            )
        return int(value)


def _path(source: _Source, name: str, default: Path) -> Path:
    """Return the absolute path that a variable names, or `default`. Raise InvalidSetting."""
    value = source.text(name)
    if value is None:
        return default
    try:
        path = Path(value).expanduser()
    except RuntimeError:
        raise InvalidSetting(
            f"{name} is {value!r}, which begins with a user who has no home on this machine: "
            "give an absolute path."
        ) from None
    # Children start from other folders than the person who typed a relative path.
    if path.is_absolute():
        return path
    try:
        return Path.cwd() / path
    except FileNotFoundError:
        raise InvalidSetting(
            f"{name} is {value!r}, relative to the current folder, which has been deleted: "
            "change to a folder that exists, or give an absolute path."
        ) from None


def _folder(source: _Source, name: str, default: Path) -> Path:
    """Return the folder that a variable names, or `default`; it need not exist.

    Raise InvalidSetting if the path is that of something else.
    """
    folder = _path(source, name, default)
    value = source.text(name) or str(folder)
    try:
        is_something_else = folder.exists() and not folder.is_dir()
    except OSError as error:
        raise InvalidSetting(
            f"{name} is {value!r}, which cannot be checked ({error.strerror}): "
            "name a folder that the user of this process can reach."
        ) from None
    if is_something_else:
        raise InvalidSetting(f"{name} is {value!r}, which is not a folder: name a folder.")
    return folder


def _database_url(source: _Source, home: Path) -> tuple[str, bool]:
    """Return the URL, and whether it is that of the embedded server."""
    url = source.text("DATABASE_URL")
    if url is None:
        return embedded_url(home), True
    remedy = (
        "give it as postgresql://USER:PASSWORD@HOST:5432/NAME, "
        "or unset it to use the embedded server."
    )
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme not in {"postgres", "postgresql"}:
        # The value is not repeated: it may hold a password.
        raise InvalidSetting(f"DATABASE_URL is not a PostgreSQL address: {remedy}")
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise InvalidSetting(f"DATABASE_URL cannot be read as an address: {remedy}") from None
    if not parts.get("dbname"):
        raise InvalidSetting(f"DATABASE_URL names no database: {remedy}")
    # One for each host; an empty one is 5432.
    for port in filter(None, str(parts.get("port") or "").split(",")):
        if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
            # Not repeated either: after an unescaped slash it is a part of the password.
            raise InvalidSetting(
                "DATABASE_URL has a port that is not a number from 1 to 65535 (a / or @ of a "
                f"password is written %2F or %40): {remedy}"
            )
    return url, False


def _redis_url(source: _Source) -> str | None:
    url = source.text("REDIS_URL")
    if url is not None and not _is_address(url, "redis://", "rediss://", "unix://"):
        raise InvalidSetting(
            "REDIS_URL is not a Redis address: give it as redis://HOST:6379/0, "
            "rediss://… or unix://…, or unset it to let PostgreSQL carry the pushes."
        )
    return url


def _nats_url(source: _Source) -> str | None:
    url, file = source.text("GINKGO_NATS_URL"), source.text("GINKGO_NATS_URL_FILE")
    name = "GINKGO_NATS_URL"
    if file is not None and url is None:
        name = f"The text of {file!r} (GINKGO_NATS_URL_FILE)"
        try:
            url = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidSetting(
                f"GINKGO_NATS_URL_FILE is {file!r}, which cannot be read ({type(error).__name__}):"
                " name a file that holds the address, or unset it."
            ) from None
    # The value is not repeated: it may hold a password.
    if url is not None and not _is_address(url, "nats://", "tls://"):
        raise InvalidSetting(
            f"{name} is not an address of a NATS server: give it as"
            " nats://USER:PASSWORD@HOST:4222 or tls://…, or unset it to keep feeds in PostgreSQL."
        )
    return url


def _is_address(url: str, *schemes: str) -> bool:
    """Return whether a URL begins with one of the schemes, and its port, if any, can be one."""
    try:
        return url.startswith(schemes) and urlsplit(url).port != 0
    except ValueError:  # not a number, above 65535, or a bracket is not closed
        return False


def _secret_key(source: _Source) -> str | None:
    key = source.text("GINKGO_SECRET_KEY")
    if key is not None and (len(key) < 32 or len(set(key)) < 5):
        raise InvalidSetting(
            "GINKGO_SECRET_KEY is too easy to guess: give at least 32 random characters, "
            "or unset it to have one made and kept under GINKGO_HOME."
        )
    return key


def _allowed_hosts(source: _Source) -> tuple[str, ...]:
    hosts = source.comma_separated("GINKGO_ALLOWED_HOSTS")
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise InvalidSetting(
                f"GINKGO_ALLOWED_HOSTS has {host!r}, which is not a host name: give names without "
                "scheme or port, separated by commas, such as ginkgo.example.org,10.0.0.5."
            )
    return hosts or ("localhost", "127.0.0.1", "[::1]")


def _trusted_proxies(source: _Source) -> tuple[str, ...]:
    proxies = source.comma_separated("GINKGO_TRUSTED_PROXIES")
    for proxy in proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError:
            raise InvalidSetting(
                f"GINKGO_TRUSTED_PROXIES has {proxy!r}, which is neither an address nor a network: "
                "give those of your own proxies, separated by commas, such as 127.0.0.1,10.0.0.0/8."
            ) from None
    return proxies


def _failpoints(source: _Source) -> str:
    text = source.text("GINKGO_FAILPOINTS") or ""
    if not text.startswith("@"):
        for piece in filter(None, re.split(r"[,\s]+", text)):
            if not re.fullmatch(FAILPOINT, piece):
                raise InvalidSetting(
                    f"GINKGO_FAILPOINTS has {piece!r}, which is not a failpoint: give "
                    "[PROCESS/]POINT=error|exit|pause(SECONDS)[@NTH], such as "
                    "web/handoff.release:after_grant=exit, or @ and the path of a file with some."
                )
    return text


def _check_combinations(env: Environment) -> None:
    """Raise InvalidSetting if settings that are valid alone contradict each other."""
    if env.failpoints and not env.rehearsal:
        raise InvalidSetting(
            "GINKGO_FAILPOINTS is set, so that processes would fail on purpose: unset it. "
            "Where nothing real depends on this installation, GINKGO_REHEARSAL=1 allows it."
        )
    if env.lease_ttl_s < 2 * env.heartbeat_interval_s:
        raise InvalidSetting(
            f"GINKGO_LEASE_TTL_S is {env.lease_ttl_s:g}, less than two heartbeats of "
            f"{env.heartbeat_interval_s:g} s: one late heartbeat would lose a node. "
            f"Set it to at least {2 * env.heartbeat_interval_s:g}, "
            "or lower GINKGO_HEARTBEAT_INTERVAL_S."
        )
    if env.socket_grace_s > env.lease_ttl_s:
        raise InvalidSetting(
            f"GINKGO_SOCKET_GRACE_S is {env.socket_grace_s:g}, longer than the lease of "
            f"{env.lease_ttl_s:g} s: set it to GINKGO_LEASE_TTL_S at most. If both are equal, a "
            "closed socket ends no lease early."
        )
