"""Findings about an installation, from facts about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from scheduling.decide.deploy_check import (
    DiskFact,
    Finding,
    GatewayFact,
    Installation,
    NodeFact,
    UrlFact,
    find_faults,
)

DAY_S = 86_400.0
SOUND = Installation(
    embedded=False, secret_key_given=True, secrets_stored=2, keys_problem="",
    server_version=180_001, supported_versions=(15, 18), max_connections=100, standbys=1,
    clock_offset_s=0.01, clock_uncertainty_s=0.001, unknown_migrations=(),
    gateways=(GatewayFact("a", 1, 0.5), GatewayFact("b", 2, 0.9)), pass_age_s=1.0,
    watcher_age_s=0.5, queue_overdue_s=-3.0,
    nodes=(NodeFact("n1", "alive", None), NodeFact("n2", "alive", 90 * DAY_S)), operators=1,
    alert_channels=1, redis_problem="", disks=(DiskFact("/var/lib/ginkgo", 50, 100),),
    urls=(UrlFact("https://g", "", 60 * DAY_S),),
)  # fmt: skip


def with_node(status: str = "alive", expires_s: float | None = None, **more: Any) -> dict[str, Any]:
    """Return the nodes of an installation whose second one is in this state."""
    return {"nodes": (NodeFact("n1", "alive", None), NodeFact("n2", status, expires_s, **more))}


TRIAL: dict[str, Any] = {
    "embedded": True, "secret_key_given": False, "standbys": 0, "alert_channels": 0,
    "gateways": (GatewayFact("a", 1, 0.1),),
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{}, {"clock_offset_s": 2.0, "clock_uncertainty_s": 1.9}, TRIAL],
    ids=[
        "as it is",
        "slow answers of the database are no clock offset",
        "trial on one machine needs less",
    ],
)
def test_sound_installation_has_no_finding(change: dict[str, Any]) -> None:
    assert find_faults(replace(SOUND, **change)) == []


@pytest.mark.parametrize(
    ("change", "severity", "topic", "words"),
    [
        ({"secret_key_given": False}, "error", "secrets", "run on 2 hosts"),
        ({"keys_problem": "No key."}, "error", "secrets", "No key."),
        ({"keys_problem": "No key.", "secrets_stored": 0}, "warning", "secrets", "No key."),
        ({"server_version": 190_000}, "warning", "database", "PostgreSQL 19"),
        ({"max_connections": 69}, "warning", "database", "max_connections of the database is 69"),
        ({"standbys": 0}, "warning", "database", "no standby"),
        ({"unknown_migrations": ("s.0009_x",)}, "warning", "migrations", "s.0009_x"),
        ({"gateways": ()}, "error", "web", "No web process has pulsed"),
        ({"gateways": (GatewayFact("a", 1, 11.0),)}, "error", "web", "No web process has pulsed"),
        ({"gateways": (GatewayFact("a", 1, 0.1),)}, "warning", "web", "One web process runs"),
        ({"watcher_age_s": 11.0}, "warning", "watcher", "11 s ago"),
        ({"watcher_age_s": None}, "warning", "watcher", "never"),
        ({"pass_age_s": 61.0}, "error", "passes", "61 s ago"),
        ({"queue_overdue_s": 61.0}, "error", "worker", "due for 61 s"),
        ({"queue_overdue_s": None}, "error", "worker", "Nothing is scheduled"),
        ({"nodes": ()}, "error", "nodes", "none is alive"),
        ({"clock_offset_s": -0.6}, "warning", "clock", "0.6 s behind the database's"),
        ({"clock_offset_s": 5.1}, "error", "clock", "5.1 s ahead of the database's"),
        ({"redis_problem": "refused"}, "error", "redis", "does not answer: refused"),
        ({"nats_problem": "NATS is away."}, "error", "nats", "NATS is away."),
        ({"disks": (DiskFact("/d", 9, 100),)}, "warning", "disk", "9% of its disk"),
        ({"disks": (DiskFact("/d", 1, 100),)}, "error", "disk", "1% of its disk"),
        ({"urls": (UrlFact("https://g", "it answers 503"),)}, "error", "url", "answers 503"),
        ({"urls": (UrlFact("https://g", "", 2 * DAY_S),)}, "warning", "url", "in 2.0 days"),
        (with_node("lost"), "warning", "nodes", "Lost: n2."),
        (with_node(token_revoked=True), "error", "tokens", "is revoked"),
        (with_node(expires_s=-5.0), "error", "tokens", "has expired"),
        (with_node(expires_s=3 * DAY_S), "warning", "tokens", "expires in 3.0 days"),
        ({"operators": 0}, "warning", "people", "nobody can halt"),
        ({"alert_channels": 0}, "warning", "alerts", "sent nowhere"),
    ],
)
def test_each_fault_of_an_installation_is_the_only_finding(
    change: dict[str, Any], severity: str, topic: str, words: str
) -> None:
    (finding,) = find_faults(replace(SOUND, **change))
    assert (finding.severity, finding.topic) == (severity, topic)
    assert words in finding.found
    assert finding.wanted
    assert finding.helps


def test_a_dead_web_process_beside_a_living_one_is_named() -> None:
    (finding,) = find_faults(replace(SOUND, gateways=(*SOUND.gateways, GatewayFact("c", 7, 40.0))))
    assert "on c, pid 7, pulsed last 40 s ago" in finding.found


def test_findings_list_errors_before_warnings() -> None:
    said = (Finding("warning", "w", "f", "w", "h"),)
    found = find_faults(replace(SOUND, settings=said, nodes=()))
    assert [finding.severity for finding in found] == ["error", "warning"]
