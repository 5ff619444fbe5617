"""Parts of English sentences of several modules."""

from __future__ import annotations

from scheduling.decide.reasons.figures import Params, number


def count(value: float, one: str, many: str | None = None) -> str:
    """Return `1 place`, `2 places`."""
    return f"{number(value)} {one if value == 1 else many or one + 's'}"


def load(before: float, after: float, capacity: float) -> str:
    """Return `2 → 3 of 5`."""
    return f"{number(before)} → {number(after)} of {number(capacity)}"


def artifact_python(p: Params) -> str:
    """Return `Python >=3.12 for momentum 2.0`, or an empty string."""
    needs = p.get("artifact_python")
    return f"Python {needs} for {p['artifact']}" if needs else ""


def python(p: Params) -> str:
    """Return `Python 3.11`, or `Python 3.11 or 3.12` with an accepted one, or an empty string."""
    versions = (p.get("python"), p.get("accept_python"))
    found = " or ".join(version for version in versions if version)
    return f"Python {found}" if found else ""
