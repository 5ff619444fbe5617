"""Every strategy that a portfolio can run, from the database and the release. Imports none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from portfolios.models import ArtifactStrategy
from portfolios.strategies import registry
from scheduling.models import Node


@dataclass(frozen=True, slots=True)
class StrategyLine:
    """A strategy of the release, of an artifact, or installed on nodes, of which less is known."""

    name: str
    version: int | None
    origin: str  #: release, artifact or installed
    artifact: str | None = None
    artifact_name: str | None = None
    artifact_version: str | None = None
    state_version: int | None = None
    sees_every_symbol: bool | None = None
    warm_up: int | None = None
    schema: dict[str, Any] | None = None
    summary: str = ""

    @property
    def key(self) -> str:
        """Return the text that lists are sorted by: the name, then the artifact."""
        return f"{self.name} {self.artifact or ''}"


def strategy_lines() -> list[StrategyLine]:
    """Return every strategy by name. Two statements."""
    lines = [
        StrategyLine(
            name=name,
            version=found.version,
            origin="release",
            state_version=found.state_version,
            sees_every_symbol=found.sees_every_symbol,
            schema=found.schema(),
            summary=" ".join((found.__doc__ or "").split()),
        )
        for name, found in registry.BUILT_IN.items()
    ]
    # The strategies of artifacts; the wheels, which can be large, are not read.
    rows = ArtifactStrategy.objects.select_related("artifact").defer("artifact__wheel")
    lines += [
        StrategyLine(
            name=row.name,
            version=row.version,
            origin="artifact",
            artifact=row.artifact_id,
            artifact_name=row.artifact.name,
            artifact_version=row.artifact.version,
            state_version=row.state_version,
            sees_every_symbol=row.sees_every_symbol,
            warm_up=row.warm_up,
            schema=row.schema,
            summary=row.summary,
        )
        for row in rows
    ]
    installed: dict[str, int] = {}  # name → version, on one of the nodes that have it
    for strategies in Node.objects.exclude(status="left").values_list("strategies", flat=True):
        installed.update(strategies)
    lines += [
        StrategyLine(name=name, version=version, origin="installed")
        for name, version in installed.items()
        if name not in registry.BUILT_IN
    ]
    return sorted(lines, key=lambda line: line.key)
