"""The shell lines that start a node's daemon, on any machine with a checkout."""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote


def node_command(
    server: str, name: str, capacity: int | None = None, labels: Mapping[str, str] | None = None
) -> str:
    """Return the line that starts the node's daemon with the token in `NAME.token`."""
    options = "" if capacity is None else f" --capacity {capacity}"
    options += "".join(
        f" --label {quote(f'{key}={value}')}" for key, value in sorted((labels or {}).items())
    )
    return (
        f"bin/node --server {quote(server)} --token-file {quote(name)}.token --name {quote(name)}"
        f"{options}"
    )


def first_start(token: str, name: str, command: str) -> str:
    """Return the line that stores a token for its owner only, and then starts the daemon.

    The shell writes the token itself, so that no process shows it in its command line.
    """
    return f"(umask 077; echo {quote(token)} >{quote(name)}.token) && {command}"
