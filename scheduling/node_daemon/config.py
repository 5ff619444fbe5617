"""Settings of a daemon: arguments and environment, read once at its start."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from portfolios.runtime.readable_paths import hidden_home
from portfolios.runtime.sandbox import NETWORK_VARIABLE
from portfolios.text import unprintable_in
from scheduling.node_daemon.errors import InvalidArguments

TOKEN_VARIABLE = "GINKGO_NODE_TOKEN"
CACHE_VARIABLE = "GINKGO_NODE_CACHE"
_NAME = re.compile(r"[-a-zA-Z0-9_]{1,80}")


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Settings of one daemon."""

    name: str
    server: str  #: http(s)://host:port, perhaps with a path, without a slash at the end
    token: str = field(repr=False)
    capacity: int = 5
    labels: Mapping[str, str] = field(default_factory=dict)
    json_logs: bool = False
    batch_limit_s: float = 10.0  #: a batch that takes longer is killed with its process
    load_limit_s: float = 20.0  #: the same for a load of a state
    child_memory_mb: int = 1024
    sandboxed: bool = True  #: strategies get no new processes, signals, sockets or files
    token_file: str = ""  #: absolute path; strategies may not read this file
    client_key: str = ""  #: absolute path; strategies may not read this file
    tls: ssl.SSLContext | None = None  #: None: the default of aiohttp, the system's certificates
    leave_within_s: float = 8.0  #: for moving portfolios to other nodes after SIGTERM
    cache: Path = Path()  #: artifacts and environments of this node; nothing else writes there

    @property
    def hidden(self) -> str:
        """Return the files that strategies may not read, separated as in PATH."""
        return os.pathsep.join(filter(None, (self.token_file, self.client_key)))

    @property
    def socket_url(self) -> str:
        return re.sub("^http", "ws", self.server) + "/ws/agent/"


def make_config(
    *,
    name: str,
    server: str,
    token: str = "",
    token_file: str = "",
    capacity: int = 5,
    labels: list[str] | None = None,
    json_logs: bool = False,
    tls: ssl.SSLContext | None = None,
    client_key: str = "",
    environment: Mapping[str, str] = os.environ,
) -> NodeConfig:
    """Return the settings. Raise InvalidArguments with a sentence if they are invalid."""
    if not _NAME.fullmatch(name or ""):
        raise InvalidArguments(f'--name is {name!r}; use at most 80 letters, digits, "-" and "_".')
    if not token:
        token = _read_token(token_file) if token_file else environment.get(TOKEN_VARIABLE, "")
    if not token:
        raise InvalidArguments(
            f"No token: give --token-file PATH or set {TOKEN_VARIABLE}. "
            f"On the machine of the control plane, `manage.py create_node_token {name}` makes one."
        )
    _yes_or_no(environment, NETWORK_VARIABLE)  # only checked here: the sandbox uses it
    if capacity < 1:
        raise InvalidArguments(f"--capacity is {capacity}; it must be at least 1.")
    return NodeConfig(
        name=name,
        server=_server_address(server),
        token=token,
        capacity=capacity,
        labels=_labels(labels or []),
        json_logs=json_logs,
        batch_limit_s=_number(environment, "GINKGO_BATCH_LIMIT_S", 10.0),
        child_memory_mb=int(_number(environment, "GINKGO_CHILD_MEMORY_MB", 1024, lowest=1)),
        sandboxed=_yes_or_no(environment, "GINKGO_STRATEGY_GUARD"),
        cache=_cache_folder(environment, name),
        token_file=os.path.abspath(token_file) if token_file else "",
        client_key=os.path.abspath(client_key) if client_key else "",
        tls=tls,
    )


def _cache_folder(environment: Mapping[str, str], name: str) -> Path:
    """Return the node's own folder, in that of GINKGO_NODE_CACHE or the installation's home."""
    given = environment.get(CACHE_VARIABLE, "")
    if given and not os.path.isabs(given):
        raise InvalidArguments(f"{CACHE_VARIABLE} is {given!r}; use an absolute path.")
    try:
        home = hidden_home()
    except FileNotFoundError:
        raise InvalidArguments(
            f"GINKGO_HOME is {os.environ['GINKGO_HOME']!r}, relative to the current folder, which "
            "has been deleted: Ginkgo cannot tell which folder to hide from strategies. Change to "
            "a folder that exists, or set GINKGO_HOME to an absolute path."
        ) from None
    return Path(given or Path(home, "nodes"), name)


def _read_token(path: str) -> str:
    try:
        text = Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise InvalidArguments(f"--token-file {path!r} cannot be read: {why}.") from None
    token = text.strip()
    if not token or len(token.split()) != 1:
        raise InvalidArguments(
            f"--token-file {path!r} must contain one token and nothing else: write the output of "
            "`manage.py create_node_token` to it."
        )
    return token


def _server_address(server: str) -> str:
    """Return the address without a trailing slash. Raise InvalidArguments if it is none."""
    try:
        parts = urlsplit(server or "")
        host, _ = (parts.hostname or "").encode("idna"), parts.port
    except ValueError:  # a bracket is not closed, a name that no host can have, a port above 65535
        parts, host = urlsplit(""), b""
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise InvalidArguments(
            f"--server is {server!r}; use an address like http://127.0.0.1:8000."
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _labels(given: list[str]) -> dict[str, str]:
    labels = {}
    for label in given:
        key, equals, value = label.partition("=")
        if not key or not equals:
            raise InvalidArguments(f"--label is {label!r}; use KEY=VALUE.")
        if unprintable_in(label):
            raise InvalidArguments(
                f"--label {label!r} contains a control or bidirectional character; remove it."
            )
        labels[key] = value
    return labels


def _number(
    environment: Mapping[str, str], name: str, default: float, lowest: float = 0.0
) -> float:
    """Return an environment variable as a number; `default` if it is empty or not set. Raise
    InvalidArguments unless it is above 0, at least `lowest`, and below 1e9."""
    text = environment.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = 0.0
    if not (0 < value < 1e9 and value >= lowest):
        least = f"of at least {lowest:g}" if lowest else "above 0"
        raise InvalidArguments(f"{name} is {text!r}; use a number {least} and below 1e9.")
    return value


def _yes_or_no(environment: Mapping[str, str], name: str) -> bool:
    """Return whether an environment variable says yes, the default. Raise InvalidArguments."""
    text = environment.get(name, "") or "yes"
    if text not in ("yes", "no"):
        raise InvalidArguments(f"{name} is {text!r}; use yes or no.")
    return text == "yes"
