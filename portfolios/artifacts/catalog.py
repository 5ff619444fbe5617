"""Read what the inspection stored of artifacts and their strategies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portfolios.models import Artifact, ArtifactStrategy
from portfolios.sentences import sentence as _
from portfolios.strategies.registry import UnknownStrategy

MIN_PREFIX = 8  #: digits of a hash by which an artifact may be named
_PREFIX = re.compile(rf"[0-9a-f]{{{MIN_PREFIX},64}}")


class UnknownArtifact(LookupError):
    """No artifact has that hash, or several begin with it. The text is a sentence."""


@dataclass(frozen=True, slots=True)
class StrategyFacts:
    """The declarations of one strategy of an artifact."""

    artifact: str  #: its sha256
    name: str
    class_path: str
    version: int
    sees_every_symbol: bool
    checks: bool  #: its code checks parameters or bars too, in a process of its own
    schema: Mapping[str, Any] = field(hash=False)


#: Facts by (sha256 of the artifact, name). The stored rows never change, so no entry gets stale.
_known: dict[tuple[str, str], StrategyFacts] = {}
MAX_KNOWN = 1_000  #: entries; at the limit all are dropped, and read again when needed


def find_artifact(text: str) -> Artifact:
    """Return the one artifact whose sha256 begins with `text`. Raise UnknownArtifact."""
    given = str(text).strip().lower()
    if not _PREFIX.fullmatch(given):
        raise UnknownArtifact(
            _(
                "{text!r} is not the sha256 of an artifact: give its 64 hexadecimal digits, "
                "or the first {min_prefix} or more of them.",
                text=str(text)[:80],
                min_prefix=MIN_PREFIX,
            )
        )
    found = list(Artifact.objects.filter(sha256__startswith=given).order_by("sha256")[:2])
    if not found:
        raise UnknownArtifact(
            _(
                "There is no artifact {given}; upload its wheel with add_artifact first.",
                given=given,
            )
        )
    if len(found) > 1:
        raise UnknownArtifact(
            _(
                "{given} is the beginning of several artifacts, such as {first}… and "
                "{second}…; give more digits.",
                given=given,
                first=found[0].sha256[:16],
                second=found[1].sha256[:16],
            )
        )
    return found[0]


def find_strategy(artifact: str, name: str) -> StrategyFacts:
    """Return the facts of a strategy of an artifact. Raise UnknownStrategy."""
    key = (artifact, name)
    found = _known.get(key)
    if found is None:
        row = ArtifactStrategy.objects.filter(artifact_id=artifact, name=name).first()
        if row is None:
            raise UnknownStrategy(_why_not_found(artifact, name))
        if len(_known) >= MAX_KNOWN:
            _known.clear()
        found = _known[key] = StrategyFacts(
            artifact=artifact, name=row.name, class_path=row.class_path, version=row.version,
            sees_every_symbol=row.sees_every_symbol, checks=row.checks, schema=row.schema,
        )  # fmt: skip
    return found


def _why_not_found(artifact: str, name: str) -> str:
    """Return the text of UnknownStrategy: the artifact was deleted, or which strategies it has."""
    found = Artifact.objects.filter(sha256=artifact).first()
    if found is None:
        return f"the artifact {artifact[:12]}… was deleted; upload its wheel again"
    names = ", ".join(found.strategies.values_list("name", flat=True))
    return (
        f"the artifact {found} ({artifact[:12]}…) has no strategy {name!r}; it has: {names}; "
        'name one of them, or give "artifact": null for a strategy of the release'
    )
