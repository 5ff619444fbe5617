"""Processor time in heartbeats: over a full minute in which no process started or ended."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest

from scheduling.node_daemon.metrics import CpuSample, CpuUsage, Metrics


def after(*samples: tuple[float, float, Mapping[int, float]]) -> CpuUsage:
    """Two processors: 2 s of all for each second. Samples are (at, busy, processes)."""
    usage = CpuUsage()
    for at_s, busy_s, processes in samples:
        usage.add(CpuSample(at_s, busy_s, 2 * at_s, processes))
    return usage


def test_cpu_usage_is_per_cent_of_the_whole_machine() -> None:
    # In 60 s two processors give 120 s: 60 of them busy, 30 for 7, 6 for 8.
    usage = after((0, 0, {7: 1, 8: 0}), (60, 60, {7: 31, 8: 6}))
    assert (usage.machine_pct(), usage.process_pct(7), usage.process_pct(8)) == (50, 25, 5)


def test_cpu_usage_is_unknown_before_a_full_minute() -> None:
    usage = after((0, 0, {7: 0}), (59, 59, {7: 30}))
    assert (usage.machine_pct(), usage.process_pct(7)) == (None, None)
    assert CpuUsage().machine_pct() is None


@pytest.mark.parametrize("processes", [{7: 31.0, 8: 0.0}, {}, {9: 0.0}])
def test_started_or_ended_process_restarts_the_cpu_minute(processes: dict[int, float]) -> None:
    changed = (61.0, 61.0, processes)
    usage = after((0, 0, {7: 0}), (60, 60, {7: 30}), changed)
    assert usage.machine_pct() is None
    usage = after((0, 0, {7: 0}), changed, (121, 61, dict(processes)))
    assert usage.machine_pct() == 0


def test_cpu_usage_is_that_of_the_last_minute() -> None:
    busy_then_idle = [(10.0 * n, min(10.0 * n, 60.0), {7: 0.0}) for n in range(13)]
    assert after(*busy_then_idle).machine_pct() == 0
    assert after(*busy_then_idle[:10]).machine_pct() == 25  # 30 of 120 s: from 30 to 60, of 90


def test_unknown_process_has_no_cpu_usage() -> None:
    assert after((0, 0, {7: 0}), (60, 60, {7: 30})).process_pct(9) is None
    assert Metrics().cpu_pct_of(None) is None


def test_cpu_usage_is_never_negative() -> None:
    usage = after((0, 50, {7: 9}), (60, 40, {7: 0}))
    assert (usage.machine_pct(), usage.process_pct(7)) == (0, 0)


def test_cpu_usage_of_the_machine_and_of_a_process_is_measured() -> None:
    metrics, me = Metrics(), os.getpid()
    first = metrics.read(1_000.0, [me])
    assert "cpu_minute_pct" not in first
    assert first["children_rss_mb"] > 1
    while sum(os.times()[:2]) < 0.05:
        pass
    figures = metrics.read(1_061.0, [me])
    share = metrics.cpu_pct_of(me)
    assert 0 <= figures["cpu_minute_pct"] <= 100
    assert share is not None
    assert 0 <= share <= 100


def test_ended_process_has_zero_cpu_usage() -> None:
    assert Metrics().read(1_000.0, [2**22 + 1])["children_rss_mb"] == 0
