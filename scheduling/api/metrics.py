"""Metrics for Prometheus, read from the database on request.

Only the answers of a web process to nodes are counted in the process that gave them
(`gateway/request_metrics.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from rest_framework.request import Request

from scheduling.api.base import ApiView
from scheduling.api.openapi import described
from scheduling.db.transaction import execute
from scheduling.enact.alerts import KINDS
from scheduling.gateway.request_metrics import REGISTRY
from scheduling.models import Phase
from scheduling.observe.control_plane import ControlPlane, read_control_plane
from scheduling.observe.fleet_view.read import read_fleet_view
from scheduling.observe.fleet_view.types import FleetView, NodeView, PortfolioView
from scheduling.observe.storage import Storage, read_storage

#: The most series of strategies' own metrics in one answer; one portfolio has at most 32.
MAX_STRATEGY_SERIES = 10_000
#: Metric of each portfolio → its description, and its value.
_OF_PORTFOLIOS: dict[str, tuple[str, Callable[[PortfolioView], float]]] = {
    "ginkgo_portfolio_lag_events": ("Events behind the head.", attrgetter("lag_events")),
    "ginkgo_portfolio_stalled": ("1 if no progress while events wait.", attrgetter("stalled")),
    "ginkgo_portfolio_epoch": ("The portfolio's epoch: its fencing token.", attrgetter("epoch")),
    "ginkgo_portfolio_behind": (
        "1 while the portfolio is behind: it lags too far to trade.",
        lambda portfolio: portfolio.behind_since is not None,
    ),
}  # fmt: skip


def gauge(name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    """Return a gauge with one series for each (value of `label`, value)."""
    found = GaugeMetricFamily(name, text, labels=[label])
    for label_value, value in values:
        found.add_metric([label_value], float(value))
    return found


def fleet_metrics(fleet: FleetView) -> Iterator[Metric]:
    """Yield the metrics of one read of the fleet."""
    yield from _node_metrics(fleet.nodes)
    yield from _loss_metrics(fleet)
    yield from _portfolio_metrics(fleet.portfolios)
    yield from _strategy_metrics(fleet.portfolios)
    yield GaugeMetricFamily("ginkgo_feed_head", "Newest released seq.", fleet.head)
    active = len(fleet.handoffs_active)
    yield GaugeMetricFamily("ginkgo_handoffs_active", "Handoffs under way.", active)
    frozen, held = float(bool(fleet.frozen)), float(bool(fleet.storm))
    yield GaugeMetricFamily("ginkgo_frozen", "1 while automatic moves are frozen.", frozen)
    yield GaugeMetricFamily("ginkgo_failover_held", "1 while failover is held.", held)
    kinds = Counter(alert.kind for alert in fleet.alerts)
    counts = [(kind, kinds[kind]) for kind in KINDS]
    yield gauge("ginkgo_alerts_open", "Open alerts by kind.", "kind", counts)
    pauses_ms = {"50": fleet.pause_p50_ms, "99": fleet.pause_p99_ms}
    yield gauge(
        "ginkgo_handoff_pause_seconds",
        "Pause of the last 50 moves.",
        # Not `quantile`: that label belongs to summaries, which count since a process started.
        "percentile",
        [(name, ms / 1000) for name, ms in pauses_ms.items() if ms is not None],
    )


def _node_metrics(nodes: Sequence[NodeView]) -> Iterator[Metric]:
    statuses = Counter(node.status for node in nodes)
    counts = [(word, statuses[word]) for word in ("alive", "suspect", "lost", "left")]
    yield gauge("ginkgo_nodes", "Nodes by status.", "status", counts)
    loads = [(node.name, node.load) for node in nodes]
    yield gauge("ginkgo_node_load", "Weight that the node runs.", "node", loads)
    capacities = [(node.name, node.capacity) for node in nodes]
    yield gauge("ginkgo_node_capacity", "Weight that the node can run.", "node", capacities)
    leases = [(node.name, node.lease_left_s) for node in nodes if node.lease_left_s is not None]
    yield gauge("ginkgo_node_lease_seconds", "Seconds left of the lease.", "node", leases)


def _loss_metrics(fleet: FleetView) -> Iterator[Metric]:
    known = [(node.name, node.loss) for node in fleet.nodes if node.loss is not None]
    yield gauge(
        "ginkgo_node_loss_homeless",
        "Portfolios that would have no place if the node were lost.",
        "node",
        [(name, loss.homeless) for name, loss in known],
    )
    yield GaugeMetricFamily(
        "ginkgo_loss_homeless",
        "The sum of ginkgo_node_loss_homeless over all nodes.",
        sum(loss.homeless for _, loss in known),
    )
    yield GaugeMetricFamily(
        "ginkgo_losses_unabsorbed",
        "Nodes whose loss would leave a portfolio without a place or waiting for one.",
        sum(not loss.absorbed for _, loss in known),
    )
    if known:
        age_s = (fleet.at - min(loss.as_of for _, loss in known)).total_seconds()
        text = "Age of the oldest node-loss forecast."
        yield GaugeMetricFamily("ginkgo_loss_age_seconds", text, max(age_s, 0.0))


def _portfolio_metrics(portfolios: Sequence[PortfolioView]) -> Iterator[Metric]:
    phases = Counter(portfolio.phase for portfolio in portfolios)
    counts = [(word, phases[word]) for word in Phase.values]
    yield gauge("ginkgo_portfolios", "Portfolios by phase.", "phase", counts)
    for name, (text, value) in _OF_PORTFOLIOS.items():
        values = [(portfolio.name, value(portfolio)) for portfolio in portfolios]
        yield gauge(name, text, "portfolio", values)
    unplaced = GaugeMetricFamily(
        "ginkgo_portfolio_orders_unplaced",
        "Orders that were never placed, by status.",
        labels=["portfolio", "status"],
    )
    for portfolio in portfolios:
        unplaced.add_metric([portfolio.name, "refused"], portfolio.orders_refused)
        unplaced.add_metric([portfolio.name, "suppressed"], portfolio.orders_suppressed)
    yield unplaced


def _strategy_metrics(portfolios: Sequence[PortfolioView]) -> Iterator[Metric]:
    """Yield the metrics that running strategies set, of each portfolio all or none of them."""
    metric = GaugeMetricFamily(
        "ginkgo_strategy_metric",
        "The newest value of a strategy's own metric.",
        labels=["portfolio", "metric"],
    )
    left_out = 0
    for portfolio in portfolios:
        found = portfolio.account.get("metrics", {}) if portfolio.phase == "running" else {}
        if len(metric.samples) + len(found) > MAX_STRATEGY_SERIES:
            left_out += len(found)
            continue
        for name, value in found.items():
            metric.add_metric([portfolio.name, name], value)
    yield metric
    text = f"Metrics of strategies beyond the {MAX_STRATEGY_SERIES} series of one answer."
    yield GaugeMetricFamily("ginkgo_strategy_metrics_left_out", text, left_out)


def control_plane_metrics(found: ControlPlane) -> Iterator[Metric]:
    """Yield the metrics of web processes, watcher and passes, from their rows."""
    rows = [(f"{row.host}:{row.pid}", row) for row in found.gateways]
    yield gauge(
        "ginkgo_gateway_pulse_age_seconds",
        "Seconds since a web process recorded that nodes can reach it; over 3 it is not fit.",
        "gateway",
        [(name, max(row.pulse_age_s, 0.0)) for name, row in rows],
    )
    yield gauge(
        "ginkgo_gateway_serving_seconds",
        "Seconds for which nodes could reach a web process without a gap.",
        "gateway",
        [(name, max(row.serving_s, 0.0)) for name, row in rows],
    )
    for name, metric, text in (
        ("pass", "ginkgo_pass_age_seconds", "Seconds since the last whole pass ended."),
        (
            "watcher",
            "ginkgo_watcher_overdue_seconds",
            "Seconds since a watcher should have looked for changes.",
        ),
    ):
        if name in found.passes:
            yield GaugeMetricFamily(metric, text, max(found.passes[name], 0.0))


def storage_metrics(storage: Storage) -> Iterator[Metric]:
    """Yield the metrics of one read of the database's sizes."""
    sizes = [(table.name, table.bytes) for table in storage.tables]
    rows = [(table.name, table.rows) for table in storage.tables]
    yield gauge("ginkgo_table_bytes", "Size with partitions and indexes.", "table", sizes)
    yield gauge("ginkgo_table_rows", "Rows as PostgreSQL estimates them.", "table", rows)
    size, written = storage.database_bytes, storage.wal_bytes
    yield GaugeMetricFamily("ginkgo_database_bytes", "Size of the database.", size)
    yield CounterMetricFamily("ginkgo_wal_written_bytes", "Write-ahead log written.", written)
    yield GaugeMetricFamily(
        "ginkgo_oldest_snapshot_seconds",
        "Age of the oldest database snapshot that is held.",
        storage.oldest_snapshot_s,
    )
    if storage.disk_free_bytes is not None:
        text = "Free space on the disk of the embedded database server."
        yield GaugeMetricFamily("ginkgo_disk_free_bytes", text, storage.disk_free_bytes)


class Collected(Collector):
    """Hands metrics that were read already to a registry."""

    def __init__(self, *metrics: Iterable[Metric]) -> None:
        self._metrics = [metric for each in metrics for metric in each]

    def collect(self) -> Iterable[Metric]:
        return self._metrics


class Metrics(ApiView):
    """Metrics in Prometheus' text format."""

    @described({(200, "text/plain"): OpenApiTypes.STR}, summary="Metrics for Prometheus")
    def get(self, request: Request) -> HttpResponse:
        """Return the metrics."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(
            Collected(
                fleet_metrics(read_fleet_view()),
                storage_metrics(read_storage()),
                control_plane_metrics(execute(read_control_plane())),
            )
        )
        text = generate_latest(registry) + generate_latest(REGISTRY)
        return HttpResponse(text, content_type=CONTENT_TYPE_PLAIN_0_0_4)
