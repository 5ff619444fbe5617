"""Strategy artifacts: find them, and keep them while a revision is written."""

from __future__ import annotations

from typing import Any

from portfolios import validation
from portfolios.artifacts.catalog import UnknownArtifact, find_artifact
from scheduling.db.transaction import execute
from scheduling.enact import artifacts as enact
from scheduling.errors import Refused


def resolve_artifact(given: Any) -> tuple[str | None, list[dict[str, str]]]:
    """Return the complete hash for a hash or its beginning, and the errors of the field."""
    if given is None:
        return None, []
    if not isinstance(given, str):
        message = "artifact is the sha256 of an artifact: give a text, or null."
        return None, [validation.error("artifact", "wrong_type", message)]
    try:
        return find_artifact(given).sha256, []
    except UnknownArtifact as unknown:
        return None, [validation.error("artifact", "unknown_artifact", str(unknown))]


def hold_artifact(artifact: str) -> None:
    """Keep the artifact from deletion until the transaction ends. Raise Refused if it is gone."""
    if not execute(enact.hold(artifact)):
        raise Refused(
            "artifact_gone",
            f"The artifact {artifact[:12]}… has just been deleted; upload it again.",
        )
