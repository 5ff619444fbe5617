"""Portfolios: owner and progress of each, and actions on them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import F, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from portfolios.feed_registration import current_head
from portfolios.feeds import DEFAULT_FEED
from portfolios.models import EquityPoint, Order, Portfolio, Revision
from scheduling.admin.base import AdminAction, FleetAdmin, ReadOnlyInline
from scheduling.admin.display import coloured_state, link, list_link
from scheduling.admin.labels import label
from scheduling.decide.planner.targets import NotInSnapshot, targets
from scheduling.errors import SnapshotUnavailable
from scheduling.models import Event, Handoff, Tenure
from scheduling.observe.localized_reason import localized_reason
from scheduling.observe.snapshot import observe
from scheduling.operations.registry import portfolio_actions
from scheduling.presentation.formatting import UNKNOWN, whole
from scheduling.presentation.sentences import handoff_sentence, pending_sentence
from scheduling.presentation.state_words import state_word
from scheduling.timing import timing


def _targets_of(rows: list[Portfolio]) -> dict[str, Any]:
    """Return the `targets` that the confirmation page offers: every node.

    For one portfolio each target says whether the node could run it. If the fleet cannot be read,
    none is offered.
    """
    try:
        snapshot = observe(timing()).snapshot
        if len(rows) == 1:
            return {"targets": targets(snapshot, rows[0].name, get_language())}
    except (SnapshotUnavailable, NotInSnapshot):
        return {"targets": []}
    return {"targets": [{"node": node.name, "feasible": True} for node in snapshot.nodes]}


def _handoff_outcome(row: Portfolio, handoff: Handoff | None) -> str:
    """Return the outcome of an action; without a handoff the portfolio is pending."""
    return handoff_sentence(handoff) if handoff else pending_sentence(row.name)


def _chosen_target(fields: dict[str, str]) -> dict[str, Any]:
    """Return the argument `target`: the node that was chosen, or None for the balancer's choice."""
    return {"target": fields.get("target") or None}


class DeletedFilter(admin.SimpleListFilter):
    """Hide deleted portfolios, or show only those."""

    title = _("deleted")
    parameter_name = "deleted"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", str(_("deleted")))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(archived_at__isnull=self.value() != "yes")


class RevisionInline(ReadOnlyInline):
    """The revisions of a portfolio, newest first."""

    model = Revision
    ordering = ("-number",)
    fields = ("number", "strategy", "config", "symbols", "limits", "status", "status_reason")
    readonly_fields = fields


@admin.register(Portfolio)
class PortfolioAdmin(FleetAdmin):
    """Portfolios with owner, revision and progress."""

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
    actions = tuple(
        action.as_action(_("selected portfolios"))
        for action in (
            AdminAction(
                portfolio_actions.MIGRATE,
                _handoff_outcome,
                extra=_targets_of,
                arguments=_chosen_target,
            ),
            AdminAction(portfolio_actions.RELOAD, _handoff_outcome),
            AdminAction(portfolio_actions.START, _handoff_outcome),
            AdminAction(portfolio_actions.STOP, _handoff_outcome),
            AdminAction(portfolio_actions.UNPIN),
            AdminAction(portfolio_actions.DELETE),
        )
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return portfolios with everything that the list shows, in one statement."""
        revisions = Revision.objects.filter(portfolio=OuterRef("pk"), number=OuterRef("revision"))
        points = EquityPoint.objects.filter(portfolio=OuterRef("pk")).order_by("-seq")
        return (
            super()
            .get_queryset(request)
            .select_related("run__node", "run__pinned_node", "feed")
            .annotate(
                lag_events=Coalesce(F("feed__writer__head"), Value(current_head(DEFAULT_FEED)))
                - F("run__last_seq"),
                strategy_name=Subquery(revisions.values("strategy")[:1]),
                revision_status=Subquery(revisions.values("status")[:1]),
                newest_equity=Subquery(points.values("equity")[:1]),
            )
        )

    @admin.display(description=label("phase"), ordering="run__phase")
    def phase(self, row: Portfolio) -> str:
        return coloured_state(row.run.phase)

    @admin.display(description=label("node"), ordering="run__node__name")
    def node(self, row: Portfolio) -> str:
        return link(row.run.node)

    @admin.display(description=label("strategy"), ordering="strategy_name")
    def strategy(self, row: Any) -> str:
        """Return the strategy of the wanted revision."""
        return str(row.strategy_name or UNKNOWN)

    @admin.display(description=_("revision"), ordering="revision")
    def revision_shown(self, row: Any) -> str:
        """Return the wanted revision and its status, and the running one if it differs."""
        running = row.run.revision
        other = ""
        if running != row.revision:
            other = _(", running r{number}").format(number=running)
        return f"r{row.revision} {state_word(row.revision_status)}{other}"

    @admin.display(description=label("epoch"), ordering="run__epoch")
    def epoch(self, row: Portfolio) -> int:
        return int(row.run.epoch)

    @admin.display(description=label("last seq"), ordering="run__last_seq")
    def last_seq(self, row: Portfolio) -> str:
        """Return the seq of the portfolio's last committed event."""
        return whole(row.run.last_seq)

    @admin.display(description=label("lag"), ordering="lag_events")
    def lag(self, row: Any) -> str:
        """Return how many events the portfolio is behind the head of its feed."""
        return whole(max(row.lag_events, 0))

    @admin.display(description=label("equity"), ordering="newest_equity")
    def equity(self, row: Any) -> str:
        """Return the newest point of the equity curve, or a dash if there is none."""
        return UNKNOWN if row.newest_equity is None else f"{row.newest_equity:,.2f}"

    @admin.display(description=label("pinned"), ordering="run__pinned_node__name")
    def pinned(self, row: Portfolio) -> str:
        """Return a link to the node that the portfolio is pinned to, or a dash."""
        return link(row.run.pinned_node)

    @admin.display(description=_("reason"))
    def why(self, row: Portfolio) -> str:
        """Return the reason of the portfolio's phase; empty if there is none."""
        return localized_reason(row.run)

    @admin.display(description=_("see also"))
    def more(self, row: Portfolio) -> str:
        """Return links to the portfolio's handoffs, tenures, orders and events."""
        links = (
            (list_link(model, str(model._meta.verbose_name_plural), portfolio__id__exact=row.pk),)
            for model in (Handoff, Tenure, Order, Event)
        )
        return format_html_join(" · ", "{}", links)
