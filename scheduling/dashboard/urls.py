"""URLs of the dashboard."""

from __future__ import annotations

from django.urls import path

from scheduling.dashboard.views import (
    actions,
    artifacts,
    board,
    feeds,
    halt,
    history,
    incidents,
    nodes,
    orders,
    portfolio,
    portfolio_form,
    roll_outs,
    tables,
    whatif,
)

urlpatterns = [
    path("", board.board, name="board"),
    path("halt/", halt.halt, name="halt"),
    path("halts/<int:number>/", halt.halted, name="halted"),
    path("halts/<int:number>/undo/", halt.undo, name="undo-halt"),
    path("fleet/<slug:verb>/", actions.fleet_action, name="fleet-action"),
    path("portfolios/", tables.portfolios, name="portfolios"),
    path("portfolios/<slug:name>/", portfolio.portfolio, name="portfolio"),
    path("portfolios/<slug:name>/equity.json", portfolio.equity, name="portfolio-equity"),
    path("portfolios/<slug:name>/edit/", portfolio_form.edit, name="edit-portfolio"),
    path("portfolios/<slug:name>/clone/", portfolio_form.clone, name="clone-portfolio"),
    path("new-portfolio/", portfolio_form.create, name="new-portfolio"),
    path("portfolios/<slug:name>/<slug:verb>/", actions.portfolio_action, name="portfolio-action"),
    path("nodes/", tables.nodes, name="nodes"),
    path("add-node/", nodes.new_token, name="add-node"),
    path("nodes/<slug:name>/", nodes.node, name="node"),
    path("nodes/<slug:name>/incident/", incidents.of_node, name="node-incident"),
    path("nodes/<slug:name>/drain/", nodes.drain, name="node-drain"),
    path("nodes/<slug:name>/labels/", nodes.labels, name="node-labels"),
    path("nodes/<slug:name>/new-token/", nodes.new_token, name="node-new-token"),
    path(
        "nodes/<slug:name>/tokens/<int:number>/revoke/",
        nodes.revoke_token,
        name="node-revoke-token",
    ),
    path("nodes/<slug:name>/<slug:verb>/", actions.node_action, name="node-action"),
    path("feeds/", feeds.feed_list, name="feeds"),
    path("feeds/<slug:name>/", feeds.feed, name="feed"),
    path("incidents/", incidents.incident_list, name="incidents"),
    path("incidents/<int:number>/", incidents.incident, name="incident"),
    path(
        "incidents/<int:number>/export.json",
        incidents.export,
        {"form": "json"},
        name="incident-json",
    ),
    path(
        "incidents/<int:number>/export.csv", incidents.export, {"form": "csv"}, name="incident-csv"
    ),
    path("handoffs/<int:handoff_id>/incident/", incidents.of_handoff, name="handoff-incident"),
    path("orders/", orders.orders, name="orders"),
    path("handoffs/", history.handoffs, name="handoffs"),
    path("handoffs/<int:handoff_id>/", history.handoff, name="handoff"),
    path("roll-outs/", roll_outs.roll_out_list, name="roll-outs"),
    path("roll-outs/new/", roll_outs.begin_roll_out, name="begin-roll-out"),
    path("roll-outs/<int:number>/", roll_outs.roll_out, name="roll-out"),
    path("roll-outs/<int:number>/<slug:verb>/", roll_outs.roll_out_action, name="roll-out-action"),
    path("strategies/", artifacts.artifact_list, name="artifacts"),
    path("strategies/<slug:sha256>/", artifacts.artifact, name="artifact"),
    path("strategies/<slug:sha256>/delete/", artifacts.delete_artifact, name="artifact-delete"),
    path("what-if/", whatif.what_if, name="what-if"),
    path("audit/", history.audit, name="audit"),
]
