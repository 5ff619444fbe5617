"""Parts of Chinese sentences of several modules."""

from __future__ import annotations

from scheduling.decide.reasons.figures import Params, number


def places(p: Params) -> str:
    """Return `2 个空位`."""
    return f"{number(p['weight'])} 个空位"


def load(before: float, after: float, capacity: float) -> str:
    """Return `2 → 3，共 5`."""
    return f"{number(before)} → {number(after)}，共 {number(capacity)}"


def artifact_python(p: Params) -> str:
    """Return `Python >=3.12（momentum 2.0）`, or an empty string."""
    needs = p.get("artifact_python")
    return f"Python {needs}（{p['artifact']}）" if needs else ""


def python(p: Params) -> str:
    """Return `Python 3.11`, or `Python 3.11 或 3.12` with an accepted one, or an empty string."""
    versions = (p.get("python"), p.get("accept_python"))
    found = " 或 ".join(version for version in versions if version)
    return f"Python {found}" if found else ""
