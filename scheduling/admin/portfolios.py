"""Portfolios: what runs where, and acts on them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import F, OuterRef, QuerySet, Subquery, Value
from django.http import HttpRequest

from portfolios.feed_registration import current_head
from portfolios.feeds import DEFAULT_FEED
from portfolios.models import EquityPoint, Order, Portfolio, Revision
from scheduling import operations
from scheduling.admin.base import AdminAction, FleetAdmin, acting
from scheduling.admin.display import PLACEHOLDER, count, link, list_link, word
from scheduling.decide.planner.targets import NotInSnapshot, targets
from scheduling.errors import SnapshotUnavailable
from scheduling.models import Event, Handoff, Tenure
from scheduling.observe.localized_reason import localized_reason
from scheduling.observe.snapshot import observe
from scheduling.presentation.sentences import handoff_sentence
from scheduling.timing import timing


def _migrate(row: Portfolio, actor: str, fields: dict[str, str]) -> str:
    target = fields.get("target") or None
    reason = fields.get("reason", "")
    return handoff_sentence(operations.migrate(row.name, target, actor=actor, reason=reason))


def _reload(row: Portfolio, actor: str, fields: dict[str, str]) -> str:
    return handoff_sentence(
        operations.reload(row.name, actor=actor, reason=fields.get("reason", ""))
    )


def _start(row: Portfolio, actor: str, fields: dict[str, str]) -> str:
    handoff = operations.start(row.name, actor=actor, reason=fields.get("reason", ""))
    if handoff is None:
        return f"{row.name} is pending: the balancer places it at its next pass."
    return handoff_sentence(handoff)


def _stop(row: Portfolio, actor: str, fields: dict[str, str]) -> str:
    return handoff_sentence(operations.stop(row.name, actor=actor, reason=fields.get("reason", "")))


def _unpin(row: Portfolio, actor: str, fields: dict[str, str]) -> str:
    operations.unpin(row.name, actor=actor)
    return f"{row.name} is no longer pinned."


def _delete(row: Portfolio, actor: str, fields: dict[str, str]) -> str:
    handoff = operations.delete_portfolio(row.name, actor=actor, reason=fields.get("reason", ""))
    released = f" {handoff_sentence(handoff)}" if handoff else ""
    return f"{row.name} was deleted; its orders and its trail stay.{released}"


def _targets_of(rows: list[Portfolio]) -> dict[str, Any]:
    """Return where the chosen portfolio could go; for several, every node without a verdict."""
    try:
        snapshot = observe(timing()).snapshot
        if len(rows) == 1:
            return {"targets": targets(snapshot, rows[0].name)}
    except (SnapshotUnavailable, NotInSnapshot):
        return {"targets": []}
    return {"targets": [{"node": node.name, "feasible": True} for node in snapshot.nodes]}


MIGRATE = AdminAction(
    verb="Migrate",
    consequence=(
        "Each portfolio is prepared on its new node while it goes on where it is, then handed over "
        "at a batch boundary. If preparing fails, nothing changes. A node chosen here keeps the "
        "portfolio until it is unpinned."
    ),
    do=_migrate,
    extra=_targets_of,
)
RELOAD = AdminAction(
    verb="Reload",
    consequence=(
        "Each portfolio gets a new process on its own node with the wanted revision, make before "
        "break. If that fails, the old one runs on."
    ),
    do=_reload,
)
START = AdminAction(
    verb="Start",
    consequence="Each portfolio becomes pending and is placed by the balancer at once. This also "
    "lifts halted and quarantined.",
    do=_start,
)
STOP = AdminAction(
    verb="Stop",
    consequence="Each portfolio commits what it has and is then owned by no node. Open orders stay "
    "open and are not filled until it is started again.",
    do=_stop,
)
UNPIN = AdminAction(
    verb="Unpin",
    consequence="The balancer may move these portfolios again.",
    do=_unpin,
    reason=False,
)
DELETE = AdminAction(
    verb="Delete",
    consequence=(
        "Each portfolio is released for certain and never runs again. Its orders, fills and audit "
        "trail stay; its name becomes free."
    ),
    do=_delete,
)


class DeletedFilter(admin.SimpleListFilter):
    """Present portfolios unless asked for the others."""

    title = "deleted"
    parameter_name = "deleted"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choice beside the default."""
        return [("yes", "Deleted")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows."""
        return queryset.filter(archived_at__isnull=self.value() != "yes")


class RevisionInline(admin.TabularInline):
    """The revisions of a portfolio, newest first."""

    model = Revision
    extra = 0
    can_delete = False
    ordering = ("-number",)
    fields = ("number", "strategy", "config", "symbols", "limits", "status", "status_reason")
    readonly_fields = fields

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Shown wherever the portfolio is."""
        return True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Revisions are made by PATCH."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Revisions are immutable."""
        return False


@admin.register(Portfolio)
class PortfolioAdmin(FleetAdmin):
    """What runs where."""

    list_display = (
        "name",
        "phase",
        "node",
        "strategy",
        "revision_shown",
        "epoch",
        "last_seq",
        "lag",
        "equity",
        "pinned",
        "why",
    )
    list_filter = ("run__phase", "run__node", "desired_state", "spread_group", DeletedFilter)
    search_fields = ("name",)
    inlines = (RevisionInline,)
    readonly_fields = ("phase", "node", "epoch", "last_seq", "lag", "pinned", "why", "more")
    actions = (
        acting("Migrate…", MIGRATE),
        acting("Reload…", RELOAD),
        acting("Start…", START),
        acting("Stop…", STOP),
        acting("Unpin…", UNPIN),
        acting("Delete…", DELETE),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return portfolios with everything the list shows, in one statement."""
        revisions = Revision.objects.filter(portfolio=OuterRef("pk"), number=OuterRef("revision"))
        points = EquityPoint.objects.filter(portfolio=OuterRef("pk")).order_by("-seq")
        return (
            super()
            .get_queryset(request)
            .select_related("run__node", "run__pinned_node", "feed")
            .annotate(
                lag_events=Value(current_head(DEFAULT_FEED)) - F("run__last_seq"),
                strategy_name=Subquery(revisions.values("strategy")[:1]),
                revision_status=Subquery(revisions.values("status")[:1]),
                newest_equity=Subquery(points.values("equity")[:1]),
            )
        )

    @admin.display(ordering="run__phase")
    def phase(self, row: Portfolio) -> str:
        """Return the phase of its run."""
        return word(row.run.phase)

    @admin.display(ordering="run__node__name")
    def node(self, row: Portfolio) -> str:
        """Return its owner."""
        return link(row.run.node)

    @admin.display(ordering="strategy_name")
    def strategy(self, row: Any) -> str:
        """Return the strategy of the wanted revision."""
        return str(row.strategy_name or PLACEHOLDER)

    @admin.display(description="revision", ordering="revision")
    def revision_shown(self, row: Any) -> str:
        """Return the wanted revision, its status, and the running one where it is another."""
        running = row.run.revision
        other = f", running r{running}" if running != row.revision else ""
        return f"r{row.revision} {row.revision_status or ''}{other}"

    @admin.display(ordering="run__epoch")
    def epoch(self, row: Portfolio) -> int:
        """Return the fencing token."""
        return int(row.run.epoch)

    @admin.display(ordering="run__last_seq")
    def last_seq(self, row: Portfolio) -> str:
        """Return the last committed event."""
        return count(row.run.last_seq)

    @admin.display(ordering="lag_events")
    def lag(self, row: Any) -> str:
        """Return how many events it is behind the head."""
        return count(max(row.lag_events, 0))

    @admin.display(ordering="newest_equity")
    def equity(self, row: Any) -> str:
        """Return the newest point of its curve."""
        return PLACEHOLDER if row.newest_equity is None else f"{row.newest_equity:,.2f}"

    @admin.display(ordering="run__pinned_node__name")
    def pinned(self, row: Portfolio) -> str:
        """Return the node it is pinned to."""
        return link(row.run.pinned_node)

    @admin.display(description="reason")
    def why(self, row: Portfolio) -> str:
        """Return why it is where it is, if it is not simply running."""
        return localized_reason(row.run)

    @admin.display(description="see also")
    def more(self, row: Portfolio) -> str:
        """Return links to what it left behind."""
        from django.utils.html import format_html_join

        lists = ((Handoff, "handoffs"), (Tenure, "tenures"), (Order, "orders"), (Event, "events"))
        links = ((list_link(model, text, portfolio__id__exact=row.pk),) for model, text in lists)
        return format_html_join(" · ", "{}", links)
