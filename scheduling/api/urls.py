"""Addresses under /api/. The gateway serves the node protocol (/api/agent/) before Django."""

from __future__ import annotations

from django.urls import include, path, re_path

from scheduling.api import (
    alerts,
    artifacts,
    feed,
    feeds,
    halts,
    handoffs_events,
    health,
    incidents,
    node_loss,
    nodes,
    plan,
    policy,
    portfolio_records,
    portfolios,
    roll_outs,
    schedule,
    secrets,
    tokens,
)
from scheduling.api.metrics import Metrics
from scheduling.api.not_found import NotFoundView
from scheduling.api.schema_views import ApiDocs, ApiSchema
from scheduling.operations.registry import node_actions

app_name = "api"

_NAME = "<slug:name>"

_OF_ONE_NODE = [
    path("", nodes.NodeDetail.as_view(), name="node"),
    path("drain/", nodes.node_action(node_actions.DRAIN).as_view(), name="drain"),
    path("drain-plan/", nodes.NodeDrainPlan.as_view(), name="drain-plan"),
    path("disable/", nodes.node_action(node_actions.DRAIN).as_view(), name="disable"),
    path("undrain/", nodes.node_action(node_actions.UNDRAIN).as_view(), name="undrain"),
    path("cordon/", nodes.node_action(node_actions.CORDON).as_view(), name="cordon"),
    path("uncordon/", nodes.node_action(node_actions.UNCORDON).as_view(), name="uncordon"),
]
_OF_ONE_PORTFOLIO = [
    path("", portfolios.PortfolioDetail.as_view(), name="portfolio"),
    path("migrate/", portfolios.MigratePortfolio.as_view(), name="migrate"),
    path("reload/", portfolios.ReloadPortfolio.as_view(), name="reload"),
    path("start/", portfolios.StartPortfolio.as_view(), name="start"),
    path("stop/", portfolios.StopPortfolio.as_view(), name="stop"),
    path("unpin/", portfolios.UnpinPortfolio.as_view(), name="unpin"),
    path("accept-python/", portfolios.AcceptPython.as_view(), name="accept-python"),
    path("checkpoint/", portfolios.PortfolioCheckpoint.as_view(), name="checkpoint"),
    path("verification/", portfolios.PortfolioVerification.as_view(), name="verification"),
    path("revisions/", portfolio_records.PortfolioRevisions.as_view(), name="revisions"),
    path("orders/", portfolio_records.PortfolioOrders.as_view(), name="orders"),
    path("fills/", portfolio_records.PortfolioFills.as_view(), name="fills"),
    path("metrics/", portfolio_records.PortfolioMetrics.as_view(), name="metrics"),
    path("equity/", portfolio_records.PortfolioEquity.as_view(), name="equity"),
    path("tenures/", portfolio_records.PortfolioTenures.as_view(), name="tenures"),
    path("log/", portfolio_records.PortfolioLogLines.as_view(), name="log"),
]

urlpatterns = [
    re_path(r"^healthz/?$", health.healthz, name="healthz"),
    re_path(r"^readyz/?$", health.readyz, name="readyz"),
    re_path(r"^metrics/?$", Metrics.as_view(), name="metrics"),
    path("schema/", ApiSchema.as_view(), name="schema"),
    path("docs/", ApiDocs.as_view(url_name="api:schema"), name="docs"),
    path("nodes/", nodes.NodeList.as_view(), name="nodes"),
    path(f"nodes/{_NAME}/", include(_OF_ONE_NODE)),
    path("artifacts/", artifacts.ArtifactList.as_view(), name="artifacts"),
    path("artifacts/<slug:sha256>/", artifacts.ArtifactDetail.as_view(), name="artifact"),
    path("strategies/", artifacts.StrategyList.as_view(), name="strategies"),
    path("portfolios/", portfolios.PortfolioList.as_view(), name="portfolios"),
    path(f"portfolios/{_NAME}/", include(_OF_ONE_PORTFOLIO)),
    path("orders/", portfolio_records.OrderList.as_view(), name="fleet-orders"),
    path("incidents/", incidents.IncidentList.as_view(), name="incidents"),
    path("incidents/<int:pk>/", incidents.IncidentDetail.as_view(), name="incident"),
    path("handoffs/", handoffs_events.HandoffList.as_view(), name="handoffs"),
    path("handoffs/<int:pk>/", handoffs_events.HandoffDetail.as_view(), name="handoff"),
    path("roll-outs/", roll_outs.RollOutList.as_view(), name="roll-outs"),
    path("roll-outs/<int:pk>/", roll_outs.RollOutDetail.as_view(), name="roll-out"),
    path("roll-outs/<int:pk>/stop/", roll_outs.StopRollOut.as_view(), name="stop-roll-out"),
    path("roll-outs/<int:pk>/back/", roll_outs.ReturnRollOut.as_view(), name="return-roll-out"),
    path("alerts/", alerts.AlertList.as_view(), name="alerts"),
    path("alerts/<int:pk>/acknowledge/", alerts.AcknowledgeAlert.as_view(), name="acknowledge"),
    path("alert-channels/", alerts.AlertChannelList.as_view(), name="alert-channels"),
    path(f"alert-channels/{_NAME}/", alerts.AlertChannelDetail.as_view(), name="alert-channel"),
    path(f"alert-channels/{_NAME}/test/", alerts.TestAlertChannel.as_view(), name="test-channel"),
    path("tokens/", tokens.ApiTokenList.as_view(), name="tokens"),
    path("node-tokens/", tokens.NodeTokenList.as_view(), name="node-tokens"),
    path("node-tokens/<int:pk>/", tokens.NodeTokenDetail.as_view(), name="node-token"),
    path("secrets/", secrets.SecretList.as_view(), name="secrets"),
    path(f"secrets/{_NAME}/", secrets.SecretDetail.as_view(), name="secret"),
    path("events/", handoffs_events.EventList.as_view(), name="events"),
    path("feed/", feed.FeedEvents.as_view(), name="feed"),
    path("feeds/", feeds.FeedList.as_view(), name="feeds"),
    path(f"feeds/{_NAME}/", feeds.FeedDetail.as_view(), name="feed-detail"),
    path(f"feeds/{_NAME}/append/", feeds.FeedAppend.as_view(), name="feed-append"),
    path(f"feeds/{_NAME}/instruments/", feeds.FeedInstruments.as_view(), name="feed-instruments"),
    path("schedule/plan/", plan.SchedulePlan.as_view(), name="plan"),
    path("schedule/resilience/", node_loss.ScheduleResilience.as_view(), name="resilience"),
    path("schedule/targets/", schedule.ScheduleTargets.as_view(), name="targets"),
    path("schedule/rebalance/", schedule.ScheduleRebalance.as_view(), name="rebalance"),
    path("schedule/migrate/", schedule.ScheduleMigrate.as_view(), name="schedule-migrate"),
    path("schedule/policy/", policy.SchedulePolicy.as_view(), name="policy"),
    path(
        "schedule/migrate-several/",
        schedule.ScheduleMigrateSeveral.as_view(),
        name="schedule-migrate-several",
    ),
    path("schedule/freeze/", schedule.ScheduleFreeze.as_view(), name="freeze"),
    path("schedule/storm/release/", schedule.StormRelease.as_view(), name="release-storm"),
    path("schedule/storm/hold/", schedule.StormHold.as_view(), name="hold-storm"),
    path("schedule/unfreeze/", schedule.ScheduleUnfreeze.as_view(), name="unfreeze"),
    path("halt/", halts.HaltAll.as_view(), name="halt"),
    path("halt/undo/", halts.UndoHalt.as_view(), name="undo-halt"),
    path("halt/<int:pk>/", halts.HaltDetail.as_view(), name="halt-detail"),
    # Last: any other address is a problem document, never a redirect or a page.
    re_path(r"^", NotFoundView.as_view(), name="nothing"),
]
