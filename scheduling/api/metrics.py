"""Metrics for Prometheus, read from the database on request.

Only the answers of a web process to nodes are counted in the process that gave them
(`gateway/request_metrics.py`).
"""

from __future__ import annotations

from collections.abc import Iterable

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from rest_framework.request import Request

from scheduling.api.base import ApiView
from scheduling.api.openapi import described
from scheduling.db.transaction import execute
from scheduling.enact.alerts import KINDS
from scheduling.gateway.request_metrics import REGISTRY
from scheduling.models import Phase
from scheduling.observe.control_plane import ControlPlane, read_control_plane
from scheduling.observe.fleet_view.read import read_fleet_view
from scheduling.observe.fleet_view.types import FleetView
from scheduling.observe.storage import Storage, read_storage

#: Series of strategies' own metrics in one answer; of a portfolio there are at most 32.
MAX_STRATEGY_SERIES = 10_000


class FleetMetrics:
    """Collect metrics from one read of the fleet."""

    def __init__(self, board: FleetView) -> None:
        self._board = board

    def collect(self) -> Iterable[Metric]:
        yield from self._nodes()
        yield from self._losses()
        yield from self._portfolios()
        yield from self._strategies()
        yield from self._fleet()

    def _nodes(self) -> Iterable[Metric]:
        status = GaugeMetricFamily("ginkgo_nodes", "Nodes by status.", labels=["status"])
        for word in ("alive", "suspect", "lost", "left"):
            status.add_metric([word], sum(node.status == word for node in self._board.nodes))
        yield status
        load = GaugeMetricFamily("ginkgo_node_load", "Weight that the node runs.", labels=["node"])
        capacity = GaugeMetricFamily(
            "ginkgo_node_capacity", "Weight that the node can run.", labels=["node"]
        )
        lease = GaugeMetricFamily(
            "ginkgo_node_lease_seconds", "Seconds left of the lease.", labels=["node"]
        )
        for node in self._board.nodes:
            load.add_metric([node.name], float(node.load))
            capacity.add_metric([node.name], float(node.capacity))
            if node.lease_left_s is not None:
                lease.add_metric([node.name], node.lease_left_s)
        yield from (load, capacity, lease)

    def _losses(self) -> Iterable[Metric]:
        homeless = GaugeMetricFamily(
            "ginkgo_node_loss_homeless",
            "Portfolios that would have no place if the node were lost.",
            labels=["node"],
        )
        known = [(node.name, node.loss) for node in self._board.nodes if node.loss is not None]
        for name, loss in known:
            homeless.add_metric([name], loss.homeless)
        yield homeless
        yield GaugeMetricFamily(
            "ginkgo_loss_homeless",
            "The sum of ginkgo_node_loss_homeless over all nodes.",
            value=sum(loss.homeless for _, loss in known),
        )
        yield GaugeMetricFamily(
            "ginkgo_losses_unabsorbed",
            "Nodes whose loss would leave a portfolio without a place or waiting for one.",
            value=sum(not loss.absorbed for _, loss in known),
        )
        if known:
            oldest = min(loss.as_of for _, loss in known)
            yield GaugeMetricFamily(
                "ginkgo_loss_age_seconds",
                "Age of the oldest node-loss forecast.",
                value=max((self._board.at - oldest).total_seconds(), 0.0),
            )

    def _portfolios(self) -> Iterable[Metric]:
        lines = self._board.portfolios
        phase = GaugeMetricFamily("ginkgo_portfolios", "Portfolios by phase.", labels=["phase"])
        for word in Phase.values:
            phase.add_metric([word], sum(line.phase == word for line in lines))
        yield phase
        lag = GaugeMetricFamily(
            "ginkgo_portfolio_lag_events", "Events behind the head.", labels=["portfolio"]
        )
        stalled = GaugeMetricFamily(
            "ginkgo_portfolio_stalled",
            "1 if stalled: no progress while events wait.",
            labels=["portfolio"],
        )
        epoch = GaugeMetricFamily(
            "ginkgo_portfolio_epoch",
            "The epoch of the portfolio, its fencing token.",
            labels=["portfolio"],
        )
        unplaced = GaugeMetricFamily(
            "ginkgo_portfolio_orders_unplaced",
            "Orders that were never placed, by status.",
            labels=["portfolio", "status"],
        )
        behind = GaugeMetricFamily(
            "ginkgo_portfolio_behind",
            "1 while the portfolio is behind: it lags too far to trade.",
            labels=["portfolio"],
        )
        for line in lines:
            lag.add_metric([line.name], line.lag_events)
            stalled.add_metric([line.name], float(line.stalled))
            epoch.add_metric([line.name], line.epoch)
            unplaced.add_metric([line.name, "refused"], line.orders_refused)
            unplaced.add_metric([line.name, "suppressed"], line.orders_suppressed)
            behind.add_metric([line.name], float(line.behind_since is not None))
        yield from (lag, stalled, epoch, unplaced, behind)

    def _strategies(self) -> Iterable[Metric]:
        """Yield what running strategies gave to `ctx.metric`: all of a portfolio, or none."""
        metric = GaugeMetricFamily(
            "ginkgo_strategy_metric",
            "The newest value of a strategy's own metric.",
            labels=["portfolio", "metric"],
        )
        left_out = 0
        for line in self._board.portfolios:
            found = line.account.get("metrics", {}) if line.phase == "running" else {}
            if len(metric.samples) + len(found) > MAX_STRATEGY_SERIES:
                left_out += len(found)
                continue
            for name, value in found.items():
                metric.add_metric([line.name, name], value)
        yield metric
        yield GaugeMetricFamily(
            "ginkgo_strategy_metrics_left_out",
            f"Metrics of strategies beyond the {MAX_STRATEGY_SERIES} series of one answer.",
            value=left_out,
        )

    def _fleet(self) -> Iterable[Metric]:
        board = self._board
        yield GaugeMetricFamily("ginkgo_feed_head", "Newest released seq.", value=board.head)
        yield GaugeMetricFamily(
            "ginkgo_handoffs_active", "Handoffs under way.", value=len(board.handoffs_active)
        )
        yield GaugeMetricFamily(
            "ginkgo_frozen", "1 while automatic moves are frozen.", value=float(bool(board.frozen))
        )
        yield GaugeMetricFamily(
            "ginkgo_failover_held", "1 while failover is held.", value=float(bool(board.storm))
        )
        alerts = GaugeMetricFamily("ginkgo_alerts_open", "Open alerts by kind.", labels=["kind"])
        for kind in KINDS:
            alerts.add_metric([kind], sum(alert.kind == kind for alert in board.alerts))
        yield alerts
        # Not `quantile`: that label belongs to summaries, which count since the start of a process.
        pause = GaugeMetricFamily(
            "ginkgo_handoff_pause_seconds", "Pause of the last 50 moves.", labels=["percentile"]
        )
        for percentile, value in (("50", board.pause_p50_ms), ("99", board.pause_p99_ms)):
            if value is not None:
                pause.add_metric([percentile], value / 1000)
        yield pause


class ControlPlaneMetrics:
    """Collect metrics of web processes, watcher and passes from their rows."""

    def __init__(self, found: ControlPlane) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        age = GaugeMetricFamily(
            "ginkgo_gateway_pulse_age_seconds",
            "Seconds since a web process recorded that nodes can reach it; over 3 it is not fit.",
            labels=["gateway"],
        )
        serving = GaugeMetricFamily(
            "ginkgo_gateway_serving_seconds",
            "Seconds for which nodes could reach a web process without a gap.",
            labels=["gateway"],
        )
        for row in self._found.gateways:
            name = f"{row.host}:{row.pid}"
            age.add_metric([name], max(row.pulse_age_s, 0.0))
            serving.add_metric([name], max(row.serving_s, 0.0))
        yield from (age, serving)
        for name, metric, what in (
            ("pass", "ginkgo_pass_age_seconds", "Seconds since the last whole pass ended."),
            (
                "watcher",
                "ginkgo_watcher_overdue_seconds",
                "Seconds since a watcher should have looked for changes.",
            ),
        ):
            if name in self._found.passes:
                yield GaugeMetricFamily(metric, what, value=max(self._found.passes[name], 0.0))


class StorageMetrics:
    """Collect metrics from one read of the database's sizes."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def collect(self) -> Iterable[Metric]:
        storage = self._storage
        size = GaugeMetricFamily(
            "ginkgo_table_bytes", "Size with partitions and indexes.", labels=["table"]
        )
        rows = GaugeMetricFamily(
            "ginkgo_table_rows", "Rows as PostgreSQL estimates them.", labels=["table"]
        )
        for table in storage.tables:
            size.add_metric([table.name], table.bytes)
            rows.add_metric([table.name], table.rows)
        yield from (size, rows)
        yield GaugeMetricFamily(
            "ginkgo_database_bytes", "Size of the database.", value=storage.database_bytes
        )
        yield CounterMetricFamily(
            "ginkgo_wal_written_bytes", "Write-ahead log written.", value=storage.wal_bytes
        )
        yield GaugeMetricFamily(
            "ginkgo_oldest_snapshot_seconds",
            "Age of the oldest database snapshot that is held.",
            value=storage.oldest_snapshot_s,
        )
        if storage.disk_free_bytes is not None:
            yield GaugeMetricFamily(
                "ginkgo_disk_free_bytes",
                "Free space on the disk of the embedded database server.",
                value=storage.disk_free_bytes,
            )


class Metrics(ApiView):
    """Metrics in Prometheus' text format."""

    @described({(200, "text/plain"): OpenApiTypes.STR}, summary="Metrics for Prometheus")
    def get(self, request: Request) -> HttpResponse:
        """Return the metrics."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(FleetMetrics(read_fleet_view()))  # type: ignore[arg-type]
        registry.register(StorageMetrics(read_storage()))  # type: ignore[arg-type]
        registry.register(ControlPlaneMetrics(execute(read_control_plane())))  # type: ignore[arg-type]
        text = generate_latest(registry) + generate_latest(REGISTRY)
        return HttpResponse(text, content_type=CONTENT_TYPE_PLAIN_0_0_4)
