"""Where a portfolio of a form would run, in a sentence. Reads the fleet and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.utils.translation import get_language

from portfolios.models import Artifact, FeedKind, FeedRow
from portfolios.strategy_inspection import facts
from scheduling.decide.reasons import render
from scheduling.decide.types import RECORDED_FEEDS, ArtifactNeeds, PortfolioView
from scheduling.decide.what_if.placement import NEW, preview_changed, preview_new
from scheduling.observe.shared_snapshot import shared_snapshot
from scheduling.operations import NewPortfolio


def placement_of_new(new: NewPortfolio) -> str:
    """Return where the balancer would place a checked portfolio, or why it would be pending.

    Raise SnapshotUnavailable if the fleet cannot be read.
    """
    name, sha256 = _feed_need(new.feed)
    artifact = _artifact_needs(new.artifact)
    with shared_snapshot() as observed:
        named = (node.id for node in observed.snapshot.nodes if node.name == new.pinned_node)
        view = PortfolioView(
            NEW,
            new.name,
            weight=new.weight,
            priority=new.priority,
            selector=new.selector,
            spread_group=new.spread_group or None,
            spread_hard=new.spread_hard,
            strategy=new.strategy,
            strategy_version=facts(new.strategy, new.artifact).version,
            artifact=artifact,
            feed=name,
            feed_sha=sha256,
            pinned=next(named, None),
        )
        found = preview_new(observed.snapshot, view)
    sentence = ": ".join(render(reason, get_language()) for reason in found)
    return f"{new.name} {sentence}."


def placement_after_change(portfolio: int, placement: Mapping[str, Any]) -> list[str]:
    """Return what the portfolio's node would no longer meet if the placement fields became these.

    A sentence for each requirement; none for a portfolio that the snapshot does not have. Raise
    SnapshotUnavailable if the fleet cannot be read.
    """
    changed = {
        "weight": placement["weight"],
        "priority": placement["priority"],
        "selector": placement["selector"],
        "spread_group": placement["spread_group"] or None,
        "spread_hard": placement["spread_hard"],
    }
    with shared_snapshot() as observed:
        for view in observed.snapshot.portfolios:
            if view.id == portfolio:
                return preview_changed(observed.snapshot, replace(view, **changed))
    return []


def _feed_need(name: str) -> tuple[str, str]:
    """Return (name, version) of the feed that a node must have; "" is the packaged feed.

    Every recorded feed needs the same ability of a node: its name is RECORDED_FEEDS. Empty texts:
    no portfolio has used the feed yet, so any node will do.
    """
    rows = FeedRow.objects.filter(name=name) if name else FeedRow.objects.filter(kind="replay")
    row = rows.first()
    if row is None:
        return "", ""
    return (RECORDED_FEEDS, "1") if row.kind == FeedKind.RECORDED else (row.name, row.sha256)


def _artifact_needs(sha256: str | None) -> ArtifactNeeds | None:
    """Return what the artifact needs of a node; None for a strategy without an artifact."""
    if sha256 is None:
        return None
    row = Artifact.objects.get(pk=sha256)
    return ArtifactNeeds(str(row), row.python_requirement, tuple(row.pythons))
