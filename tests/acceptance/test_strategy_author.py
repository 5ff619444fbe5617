"""An author's first hour, as docs/strategies.md tells it, on a running installation."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.harness.cluster import Cluster
from ginkgo_site.env import CHECKOUT
from tests.support.documented_commands import sh_blocks

PORTFOLIO = "momentum-1"


@pytest.fixture
def walked(quick_cluster: Cluster, tmp_path: Path) -> Iterator[str]:
    """Run the page's lines in an empty folder; return what they print."""
    lines = "".join(sh_blocks("docs/strategies.md"))
    lines = lines.replace("/path/to/ginkgo", shlex.quote(str(CHECKOUT)))
    # One strategy is enough of those from outside; and an author may have no network.
    environment = {**quick_cluster.environment(), "UV_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    with quick_cluster.feed_at(300):  # an author reads for longer than five bars of each share
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", lines],
            cwd=tmp_path,
            env={**environment, "HOME": os.environ.get("HOME", "/")},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    yield done.stdout
    quick_cluster.call("DELETE", f"/api/portfolios/{PORTFOLIO}/", {})


def test_the_first_hour_leads_to_a_portfolio_that_is_rolled_out_and_replayed(
    quick_cluster: Cluster, walked: str, tmp_path: Path
) -> None:
    assert "<svg" in (tmp_path / "momentum" / "backtest.html").read_text(encoding="utf-8")
    shown = quick_cluster.get(f"/api/portfolios/{PORTFOLIO}/")
    assert shown["run"]["phase"] == "running"
    assert shown["revision"] == 2  # by the roll-out
    assert walked.rstrip().endswith("It equals the records.")
    assert "is above its average" in walked  # printed by the second version
