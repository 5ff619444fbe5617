"""Digests of incarnations, for viewers.

A daemon authenticates its reports with its incarnation. A digest distinguishes incarnations in
nodes, tenures and the audit log, but a daemon cannot register with it.
"""

from __future__ import annotations

import hashlib
from typing import Any

DIGITS = 8  #: hexadecimal, of a digest


def digest(incarnation: object | None) -> str | None:
    """Return the digest of `incarnation`, or None if it is None. Pure."""
    if incarnation is None:
        return None
    return hashlib.sha256(str(incarnation).encode()).hexdigest()[:DIGITS]


def without_incarnations(data: Any) -> Any:
    """Return the data of an audit line with each incarnation replaced by its digest. Pure."""
    if isinstance(data, dict):
        return {
            key: digest(value) if key.endswith("incarnation") else without_incarnations(value)
            for key, value in data.items()
        }
    if isinstance(data, list):
        return [without_incarnations(value) for value in data]
    return data
