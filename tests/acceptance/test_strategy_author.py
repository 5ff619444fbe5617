"""An author's first hour, as docs/strategies.md tells it, on a running installation."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.harness.cluster import Cluster
from chaos.harness.installation import SLOW_MACHINE_S, eventually
from ginkgo_site.env import CHECKOUT
from tests.support.documented_commands import sh_blocks

PORTFOLIO = "momentum-1"
LIMIT_S = 5 * SLOW_MACHINE_S
PRINTED = "is above its average"  #: by the second version


@pytest.fixture
def walked(quick_cluster: Cluster, tmp_path: Path) -> Iterator[str]:
    """Run the page's lines in an empty folder; return what they print.

    Before the replay, which comes last, wait as an author would for something to replay.
    """
    *before, replay = sh_blocks("docs/strategies.md")
    lines = "".join([*before, "read -r\n", replay])
    lines = lines.replace("/path/to/ginkgo", shlex.quote(str(CHECKOUT)))
    # One strategy is enough of those from outside; and an author may have no network.
    environment = {**quick_cluster.environment(), "UV_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    said = tmp_path / "said.txt"
    with said.open("w") as output:
        walk = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", lines],
            cwd=tmp_path,
            env={**environment, "HOME": os.environ.get("HOME", "/")},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        eventually(lambda: walk.poll() is not None or has_printed(quick_cluster), LIMIT_S, PRINTED)
        walk.communicate("\n", timeout=LIMIT_S)
    finally:
        walk.kill()
    assert walk.returncode == 0, said.read_text()
    yield said.read_text()
    quick_cluster.delete(PORTFOLIO)


def has_printed(cluster: Cluster) -> bool:
    """Return whether the second version has printed a line that its node has sent."""
    return PRINTED in cluster.call("GET", f"/api/portfolios/{PORTFOLIO}/log/").text


def test_the_strategy_guide_leads_to_a_portfolio_that_is_rolled_out_and_replayed(
    quick_cluster: Cluster, walked: str, tmp_path: Path
) -> None:
    assert "<svg" in (tmp_path / "momentum" / "backtest.html").read_text(encoding="utf-8")
    shown = eventually(
        lambda: (
            (found := quick_cluster.get(f"/api/portfolios/{PORTFOLIO}/"))["run"]["phase"]
            == "running"
            and found
        ),
        what=f"{PORTFOLIO} running",
    )
    assert shown["revision"] == 2  # by the roll-out
    assert walked.rstrip().endswith("It equals the records.")
    assert PRINTED in walked
