"""bin/soak: compression of days, and detection of growth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chaos.soak import report
from chaos.soak.compression import Compression
from ginkgo_site.env import read_environment

FOUND: dict[str, Any] = {
    "fleet": "one", "seed": 7, "minutes": 10.0, "version": "v", "began_at": "2026-11-26T12:00:00Z",
    "machine": {"processor": "p", "cores": 2, "memory_gb": 4.0, "system": "s", "python": "3.11"},
    "violations": [], "steps_done": 1, "handoffs": 0, "faults_lasted_s": 600.0, "verified": [],
    "canaries": 0, "ended_why": "the time was over", "table": [], "longest_bystander_gap_s": {},
    "looks": 1, "blind_looks": 0, "hiccups": [], "figures": {},
    "steps": [{"faults": ["kill-web"], "began_s": 60.0, "ended_s": 70.0, "measured": {}}],
}  # fmt: skip


def samples(grows_mb: float = 0.0, number: int = 40) -> list[dict[str, Any]]:
    """Return ten minutes of samples of a web process that grows by `grows_mb` in total."""
    return [
        {
            "at_s": 15.0 * n, "load": 1.0,
            "processes": {"web": {"processes": 1, "mb": 80 + grows_mb * n / number, "fds": 50}},
            "tables": {"portfolios_order": 1_000_000 * n}, "database": 10_000_000,
            "wal_written": 1_000 * n, "wal_files": 33_000_000, "archive": 0, "logs": 0,
            "connections": 20, "partitions": 12, "oldest_snapshot": 0, "age_p50_ms": 30.0,
            "age_worst_ms": 60.0,
        }
        if n != 5
        else {"at_s": 75.0, "load": 1.0, "processes": {}, "database": "the server is away"}
        for n in range(number)
    ]  # fmt: skip


def test_seven_days_in_100_minutes_shorten_every_retention_time_100_times() -> None:
    compression = Compression(7, 100.8)
    assert compression.factor == pytest.approx(100)
    assert compression.day_at(864) == pytest.approx(1)
    environment = compression.times().environment
    assert float(environment["GINKGO_KEEP_EQUITY_DAYS"]) == pytest.approx(0.01)
    assert float(environment["GINKGO_KEEP_ORDERS_DAYS"]) == pytest.approx(0.02)
    assert environment["GINKGO_RETENTION_INTERVAL_S"] == "36"


@pytest.mark.parametrize("minutes", [0.5, 2, 45, 10_080])
def test_every_compressed_environment_is_valid(minutes: float) -> None:
    read_environment(Compression(7, minutes).times().environment)


def test_a_growing_process_is_reported() -> None:
    assert report.not_flat(samples(0)) == []
    assert report.not_flat(samples(12)) == []  # less than GROWTH_MB
    (rising,) = report.not_flat(samples(100))
    assert rising.startswith("memory of web from ")
    assert "Not flat: memory of web" in report.as_text(FOUND, samples(100), Compression(7, 10), 500)


def test_a_run_with_too_few_samples_is_not_called_flat() -> None:
    text = report.as_text(FOUND, samples(0, number=7), Compression(7, 2), 500)
    assert "Not flat: growth is not known from 7 samples; it takes 8." in text


def test_the_report_has_each_series_with_its_growth_and_a_plot(tmp_path: Path) -> None:
    text = report.as_text(FOUND, samples(), Compression(7, 10), 500)
    assert "table portfolios_order, MB" in text
    assert "Flat: nothing grew" in text
    assert "No violation in 1 steps" in text
    path = tmp_path / "report.svg"
    report.draw(FOUND, samples(), Compression(7, 10), path)
    assert path.read_text().startswith("<svg")
