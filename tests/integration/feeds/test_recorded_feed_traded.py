"""A file that is appended to row by row over HTTP, traded by a real node through a real gateway."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ginkgo_site.env import CHECKOUT
from portfolios.models import Fill, Order, Portfolio
from portfolios.runtime.state import decode_state
from scheduling.models import Node, Run
from scheduling.operations.feeds import NewInstrument, add_instruments, create_feed
from scheduling.operations.portfolios import NewPortfolio, create_portfolio
from scheduling.operations.tokens import issue_api_token, issue_node_token
from scheduling.operations.users import create_user, give_role
from scheduling.permissions import Role
from scheduling.scheduler import Scheduler
from scheduling.verification.verify import verify_portfolio
from tests.support.web_process import running_web_process

pytestmark = pytest.mark.django_db(transaction=True)

#: (minute, open, high, low, close) of EURUSD, in the style of an exported file.
CSV = """\
time,open,high,low,close,volume
2026-11-02 10:00:00+00:00,1.07083,1.07091,1.07070,1.07088,12
2026-11-02 10:01:00+00:00,1.07088,1.07102,1.07081,1.07099,7
2026-11-02 10:02:00+00:00,1.07101,1.07101,1.07044,1.07050,31
2026-11-02 10:03:00+00:00,1.07051,1.07060,1.07031,1.07033,5
2026-11-02 10:04:00+00:00,1.07034,1.07039,1.07012,1.07015,9
2026-11-02 10:05:00+00:00,1.07016,1.07055,1.07016,1.07052,14
"""


def rows() -> Iterator[dict[str, str]]:
    header, *lines = CSV.splitlines()
    for line in lines:
        yield dict(zip(header.split(","), line.split(","), strict=True)) | {"symbol": "EURUSD"}


@contextmanager
def running_node(folder: Path, server: str) -> Iterator[subprocess.Popen[bytes]]:
    token = issue_node_token("node-1", actor="test")
    with (folder / "node.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "scheduling.node_daemon",
             "--name", "node-1", "--server", server],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), "GINKGO_NODE_TOKEN": token,
                 "GINKGO_NODE_CACHE": str(folder / "cache")},
            stderr=log,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        sys.stderr.write((folder / "node.log").read_text())


def until(holds: Callable[[], bool], limit_s: float = 60.0) -> float:
    """Return how long it took until the condition held."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < limit_s
        time.sleep(0.005)
    return time.monotonic() - began


class Source:
    """A client of the append address."""

    def __init__(self, server: str, feed: str) -> None:
        user = create_user("recorder")
        give_role(user, Role.OPERATOR)
        self._token = issue_api_token(user, actor="test")
        self._url = f"{server}/api/feeds/{feed}/append/"
        self._number = 0

    def append(self, *given: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        body = {"rows": given, "source": "file", "number": self._number}
        request = urllib.request.Request(
            self._url,
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return dict(json.load(answer))


def _have_committed(seq: int) -> bool:
    return min(map(last_seq, ("euro", "fx-canary"))) >= seq


def last_seq(name: str) -> int:
    return int(Run.objects.values_list("last_seq", flat=True).get(portfolio__name=name))


def test_each_row_is_traded_within_a_second_with_five_decimals_and_verifies(tmp_path: Path) -> None:
    create_feed("fx", [NewInstrument("EURUSD", Decimal("0.00001"))], actor="test")
    add_instruments("fx", [NewInstrument("KO")], actor="test")
    with (
        running_web_process(tmp_path, GINKGO_HTTPS="no") as server,
        running_node(tmp_path, server),
    ):
        until(lambda: Node.objects.filter(name="node-1", status="alive").exists())
        for name, strategy in (("euro", "buy_and_hold"), ("fx-canary", "canary")):
            symbols = ["EURUSD"] if strategy == "buy_and_hold" else []
            create_portfolio(NewPortfolio(name, strategy, symbols=symbols, feed="fx"), actor="test")
        Scheduler("test").tick()
        until(lambda: Run.objects.filter(phase="running").count() == 2)
        source, waits = Source(server, "fx"), []
        for seq, row in enumerate(rows(), start=1):
            done = source.append(row)
            assert (done["from_seq"], done["to_seq"]) == (seq, seq)
            waits.append(until(partial(_have_committed, seq)))
        sys.stderr.write(f"traded after {[f'{wait * 1000:.0f} ms' for wait in waits]}\n")
        assert max(waits) < 1.0, waits
        order = Order.objects.get(portfolio__name="euro")
        fill = Fill.objects.get(portfolio__name="euro")
        assert (order.status, order.price, fill.price) == (
            "filled", Decimal("1.07088"), Decimal("1.07088"),
        )  # fmt: skip
        assert fill.fill_seq == 2
        for name in ("euro", "fx-canary"):
            verdict = verify_portfolio(name)
            assert verdict.identical, verdict.sentence
        account = decode_state(bytes(Portfolio.objects.get(name="euro").checkpoint.state)).account
        assert str(account.positions["EURUSD"].mark) == "1.07052"
        digest = bytes(32)
        for seq, row in enumerate(rows(), start=1):
            digest = hashlib.sha256(digest + f"{seq} EURUSD {row['close']}".encode()).digest()
        canary = Portfolio.objects.get(name="fx-canary")
        assert decode_state(bytes(canary.checkpoint.state)).strategy.data["digest"] == digest
