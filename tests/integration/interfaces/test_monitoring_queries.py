"""Each query of the dashboard and the rules in deploy/ names series that /api/metrics has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from scheduling.db.transaction import execute
from scheduling.enact.pass_lock import record_watcher_seen
from scheduling.gateway.request_metrics import commits_answered, request_seconds
from scheduling.models import Handoff, Node, Resilience
from tests.support.api_client import ApiClient
from tests.support.factories import ago, make_node, make_running_portfolio, serving_since, tick

pytestmark = pytest.mark.django_db

DEPLOY = Path(__file__).parents[3] / "deploy"
PANELS = json.loads((DEPLOY / "grafana/ginkgo.json").read_text(encoding="utf-8"))["panels"]
#: Added by Prometheus to every series of a target.
OF_TARGETS = {"instance", "job"}


def queries() -> Iterator[str]:
    for panel in PANELS:
        yield from (target["expr"] for target in panel.get("targets", ()))
    rules = yaml.safe_load((DEPLOY / "prometheus/ginkgo.rules.yml").read_text(encoding="utf-8"))
    yield from (rule["expr"] for group in rules["groups"] for rule in group["rules"])


def series_of(text: str) -> dict[str, set[str]]:
    """Return the names of the series, each with its labels."""
    found: dict[str, set[str]] = {"up": set()}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.fixture
def series(viewer: ApiClient) -> dict[str, set[str]]:
    """Return the series of a fleet with a node, a portfolio, a forecast and requests."""
    make_running_portfolio("p", make_node("node-1"))
    Resilience.objects.create(
        node=Node.objects.get(), as_of=ago(1), runs=1, fit=0, homeless=1, waiting=0
    )
    tick()
    execute(record_watcher_seen("w"))
    Handoff.objects.update(kind="migrate", state="done", pause_ms=40)
    serving_since(60)
    request_seconds("heartbeat", 200).observe(0.01)
    commits_answered("ok").inc()
    return series_of(viewer.get("metrics").content.decode())


def test_every_query_names_series_and_labels_that_exist(series: dict[str, set[str]]) -> None:
    wrong = []
    for query in queries():
        named = re.findall(r"\b(ginkgo_\w+|up\b)(?:\{([^}]*)\})?", query)
        assert named or query == "vector(1)", query
        labels: set[str] = set(OF_TARGETS)
        for name, matchers in named:
            has = series.get(name, set()) | OF_TARGETS
            labels |= has
            asked = set(re.findall(r"(\w+)[!=]", matchers))
            if name not in series or asked - has:
                wrong.append((query, name, asked - has))
        for given in re.findall(r"\bby \(([^)]*)\)", query):
            asked = {label.strip() for label in given.split(",")}
            if asked - labels:
                wrong.append((query, "by", asked - labels))
    assert wrong == []


def test_every_panel_has_a_title_and_a_query() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert all(panel["title"] and (panel["type"] == "row" or panel["targets"]) for panel in PANELS)
