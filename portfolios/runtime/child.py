"""The event loop of one portfolio process. Pure of scheduling: it answers what its socket asks."""

from __future__ import annotations

import socket


def serve(sock: socket.socket) -> None:
    """Answer requests until Stop or until the other end closes. Returns normally in both cases."""
    raise NotImplementedError
