"""Read roll-outs: those that a pass has to advance, and what pages and the API show."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any, NamedTuple

from django.db.models import Count, Q, QuerySet

from scheduling.db.statements import ACTIVE_HANDOFF_STATES, Statement
from scheduling.db.transaction import Transaction, query
from scheduling.decide.roll_out import (
    NOT_RETURNABLE,
    OPEN_ITEMS,
    OPEN_ROLL_OUTS,
    RETURNABLE,
    Item,
    ItemState,
    RollOut,
    RollOutState,
)
from scheduling.decide.types import Reason
from scheduling.errors import NotFound
from scheduling.models import RollOut as RollOutRow
from scheduling.models import RollOutItem
from scheduling.observe.view_fields import same_named


class OpenRow(NamedTuple):
    """A roll-out that a pass has to advance, and the Python that its artifact needs."""

    id: int
    state: RollOutState
    at_a_time: int
    canary_s: float | None
    now: float
    artifact: str
    python_requirement: str
    pythons: list[str]
    has_environment: bool


#: The roll-outs that a pass has to advance.
OPEN = Statement(
    "OPEN",
    f"""
SELECT o.id, o.state, o.at_a_time, o.canary_s, extract(epoch FROM clock_timestamp())::float AS now,
       a.name || ' ' || a.version AS artifact, a.python_requirement, a.pythons,
       a.env_sha256 <> '' AS has_environment
FROM scheduling_rollout o JOIN portfolios_artifact a ON a.sha256 = o.artifact_sha256
WHERE o.state IN ({", ".join(f"'{state}'" for state in OPEN_ROLL_OUTS)})
ORDER BY o.id
""",
    row=OpenRow,
)


class ItemRow(NamedTuple):
    """An item of a roll-out, with the state of its portfolio: see `decide.roll_out.Item`."""

    roll_out_id: int
    id: int
    name: str
    state: ItemState
    position: int
    since: float
    seen_revision: int
    from_revision: int | None
    to_revision: int | None
    wanted: int
    running: int | None
    has_owner: bool
    has_good: bool
    has_progress: bool
    status: str | None
    status_reason: str | None
    is_deleted: bool
    is_wanted: bool
    phase: str
    in_handoff: bool
    node: str | None
    python: str | None


#: Items of roll-outs: `r` is the run, `t` its present tenure, `v` the revision of the roll-out.
ITEMS = Statement(
    "ITEMS",
    f"""
SELECT i.roll_out_id, i.id, p.name, i.state, i.position,
       extract(epoch FROM i.since)::float AS since,
       i.seen_revision, i.from_revision, i.to_revision, p.revision AS wanted,
       CASE WHEN r.node_id IS NOT NULL AND r.first_commit_at IS NOT NULL THEN r.revision END
           AS running,
       r.node_id IS NOT NULL AS has_owner, r.good_revision IS NOT NULL AS has_good,
       coalesce(r.first_commit_at IS NOT NULL AND r.last_seq > t.from_seq, false) AS has_progress,
       v.status, v.status_reason,
       p.archived_at IS NOT NULL AS is_deleted, p.desired_state = 'running' AS is_wanted, r.phase,
       EXISTS (SELECT FROM scheduling_handoff h WHERE h.portfolio_id = i.portfolio_id
               AND h.state IN {ACTIVE_HANDOFF_STATES}) AS in_handoff,
       n.name AS node, n.python
FROM scheduling_rolloutitem i
JOIN portfolios_portfolio p ON p.id = i.portfolio_id
JOIN scheduling_run r ON r.portfolio_id = i.portfolio_id
LEFT JOIN scheduling_tenure t ON t.portfolio_id = r.portfolio_id AND t.epoch = r.epoch
LEFT JOIN portfolios_revision v ON v.portfolio_id = i.portfolio_id AND v.number = i.to_revision
LEFT JOIN scheduling_node n ON n.id = r.node_id
WHERE i.roll_out_id = ANY(%(roll_outs)s::bigint[])
ORDER BY i.roll_out_id, i.position
""",
    row=ItemRow,
)


def open_roll_outs() -> Transaction[list[RollOut]]:
    """Return the roll-outs that have not ended. One statement if there is none, else two."""
    found = yield from query(OPEN)
    if not found:
        return []
    rows = yield from query(ITEMS, roll_outs=[row.id for row in found])
    items: dict[int, list[Item]] = defaultdict(list)
    by_id = {row.id: row for row in found}
    for row in rows:
        items[row.roll_out_id].append(_decision_item(row, by_id[row.roll_out_id]))
    return [
        RollOut(
            id=row.id,
            state=row.state,
            now=row.now,
            items=tuple(items[row.id]),
            at_a_time=row.at_a_time,
            canary_s=row.canary_s,
            has_environment=row.has_environment,
        )
        for row in found
    ]


def _decision_item(row: ItemRow, roll_out: OpenRow) -> Item:
    """Return the item for `decide.roll_out`, from its row and the row of its roll-out."""
    fields = same_named(Item, row) | {
        "is_canary": row.position == 0,
        "status": row.status or "unproven",
        "status_reason": row.status_reason or "",
        "cannot_run_reason": _cannot_run_reason(row, roll_out),
    }
    return Item(**fields)


def _cannot_run_reason(row: ItemRow, roll_out: OpenRow) -> Reason | None:
    """Return why the node of an item cannot run the artifact, or None if it may be able to."""
    if not roll_out.pythons or not row.python or row.python in roll_out.pythons:
        return None
    params = {
        "node": row.node,
        "node_python": row.python,
        "artifact": roll_out.artifact,
        "artifact_python": roll_out.python_requirement,
    }
    return Reason("roll_out_python", params)


@dataclass(frozen=True, slots=True)
class ItemView:
    """One portfolio of a roll-out as pages show it."""

    portfolio: str
    deleted: bool
    canary: bool
    state: str
    since: datetime
    node: str | None
    from_revision: int | None
    to_revision: int | None
    pause_ms: float | None
    reason: str
    why: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class RollOutView:
    """One roll-out as pages show it."""

    id: int
    artifact: str  #: name and version
    artifact_sha256: str
    state: str
    at_a_time: int
    canary_s: float | None
    note: str
    requested_by: str
    reason: str
    why: Mapping[str, Any] | None
    created_at: datetime
    ended_at: datetime | None
    items: tuple[ItemView, ...]
    counts: Mapping[str, int]  #: item state → how many

    @property
    def total(self) -> int:
        """Return the number of portfolios."""
        return sum(self.counts.values())

    @property
    def ended(self) -> int:
        """Return the number of portfolios that the roll-out has finished with."""
        return self.total - sum(self.counts.get(state, 0) for state in OPEN_ITEMS)

    @property
    def changed(self) -> int:
        """Return the number of portfolios that the roll-out changed and did not take back."""
        return self.total - sum(self.counts.get(state, 0) for state in NOT_RETURNABLE)

    @property
    def is_open(self) -> bool:
        """Return whether a pass still advances the roll-out."""
        return self.state in OPEN_ROLL_OUTS

    @property
    def pauses_ms(self) -> list[float]:
        """Return the known pauses of the roll-out's handoffs in milliseconds, sorted."""
        return sorted(item.pause_ms for item in self.items if item.pause_ms is not None)

    @property
    def pause_p50_ms(self) -> float | None:
        """Return the median of the known pauses in milliseconds."""
        return median(self.pauses_ms) if self.pauses_ms else None

    @property
    def may_stop(self) -> bool:
        """Return whether an operator can stop the roll-out."""
        return self.state == "running"

    @property
    def may_go_back(self) -> bool:
        """Return whether an operator can take the roll-out back."""
        return self.state in RETURNABLE and self.changed > 0


def read_roll_out(number: int) -> RollOutView:
    """Return a roll-out with its items. Raise NotFound. Two statements."""
    row = RollOutRow.objects.select_related("artifact").filter(pk=number).first()
    if row is None:
        raise NotFound("roll-out", str(number))
    items = RollOutItem.objects.filter(roll_out=row).select_related("portfolio__run__node")
    return roll_out_view(row, tuple(map(_item_view, items.order_by("position"))))


def roll_outs() -> QuerySet[RollOutRow]:
    """Return all roll-outs, newest first, with two counts of their portfolios.

    `total` counts all, `ended` those that the roll-out has finished with.
    """
    is_open = Q(items__state__in=OPEN_ITEMS)
    return (
        RollOutRow.objects.select_related("artifact")
        .annotate(total=Count("items"), ended=Count("items", filter=~is_open))
        .order_by("-id")
    )


def roll_out_view(row: RollOutRow, items: tuple[ItemView, ...]) -> RollOutView:
    """Return a roll-out with these items."""
    fields = same_named(RollOutView, row) | {
        "artifact": str(row.artifact),
        "artifact_sha256": row.artifact_sha256,  # a property, which `same_named` does not see
        "items": items,
        "counts": Counter(item.state for item in items),
    }
    return RollOutView(**fields)


def _item_view(row: RollOutItem) -> ItemView:
    node = row.portfolio.run.node
    return ItemView(
        **same_named(ItemView, row),
        portfolio=row.portfolio.name,
        deleted=row.portfolio.archived_at is not None,
        canary=row.position == 0,
        node=None if node is None else node.name,
    )
