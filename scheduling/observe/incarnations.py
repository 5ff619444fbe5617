"""What is shown of an incarnation.

A daemon names its incarnation in whatever it reports. A viewer gets a digest: it tells two
incarnations apart, in nodes, tenures and the audit trail alike, and cannot be registered under.
"""

from __future__ import annotations

import hashlib
from typing import Any

DIGITS = 8


def digest(incarnation: object | None) -> str | None:
    """Return the digest that stands for `incarnation`, or None where there is none. Pure."""
    if incarnation is None:
        return None
    return hashlib.sha256(str(incarnation).encode()).hexdigest()[:DIGITS]


def without_incarnations(data: Any) -> Any:
    """Return what an audit line carries with the digest of each incarnation. Pure."""
    if isinstance(data, dict):
        return {
            key: digest(value) if key.endswith("incarnation") else without_incarnations(value)
            for key, value in data.items()
        }
    if isinstance(data, list):
        return [without_incarnations(value) for value in data]
    return data
