"""Real bars and quotes, appended over HTTP, recorded from a file that grows, and imported: traded.

By a real node through a real gateway.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from chaos.harness.installation import SLOW_MACHINE_S, budget_s
from ginkgo_site.env import CHECKOUT
from portfolios.feeds.columns import TimeForm
from portfolios.feeds.rows import time_text
from portfolios.models import FeedRecord, FeedRow, Fill, Order, Portfolio
from portfolios.runtime.state import decode_state
from scheduling.models import Node, Run
from scheduling.operations.feeds import NewInstrument, add_instruments, create_feed
from scheduling.operations.portfolios import NewPortfolio, create_portfolio
from scheduling.operations.tokens import issue_api_token, issue_node_token
from scheduling.operations.users import find_or_create_user, give_role
from scheduling.permissions import Role
from scheduling.recorded_feeds.postgres_log import PostgresLog
from scheduling.recorded_feeds.recorder import Recorder
from scheduling.recorded_feeds.recorder_session import RecorderSession
from scheduling.recorded_feeds.sources.base import FileLayout
from scheduling.recorded_feeds.sources.files import FileSource
from scheduling.verification.verify import verify_portfolio
from tests.support.commands import said
from tests.support.factories import tick
from tests.support.web_process import running_web_process

pytestmark = pytest.mark.django_db(transaction=True)

BY_HTTP = 6  #: rows that are appended one by one; the others are imported
#: Quotes of USD in Thai baht, June 1997, from the data set `usdthb` of R's package fBasics: several
#: in one minute, one that came late, and one without an ask.
USDTHB = """\
XDATE;DELAY;CONTRIBUTOR;BID;ASK;FLAG
9706011928;01;ANZM;+24.800;+25.000;0
9706011931;01;CBAP;+24.820;+25.020;0
9706012126;01;ANZM;+24.850;+25.005;0
9706012134;01;CBAP;+24.830;+25.030;0
9706012134;01;CBAP;+24.800;+25.000;0
9706200256;00;OUBV;+25.450;+25.550;0
9706200256;00;BBLS;+25.400;+25.600;0
9706200236;48;WLDB;+24.900;+25.400;0
9706200326;00;BBLT;+25.950;+26.050;0
9706260054;00;UOBX;+25.040;+25.540;0
9706260058;00;GBNP;+25.300;+0.000;0
9706260058;00;GBNP;+25.300;+25.450;0
"""


def eurusd_hours() -> Path:
    """Return a CSV file of 5,000 hourly bars with five decimals; weekends are left out."""
    package = find_spec("backtesting")  # found, not imported: it needs pandas and bokeh
    assert package is not None and package.submodule_search_locations
    return Path(package.submodule_search_locations[0]) / "test" / "EURUSD.csv"


def rows() -> Iterator[dict[str, str]]:
    """Yield the bars of the file as rows of an append."""
    _, *lines = eurusd_hours().read_text().splitlines()
    for line in lines:
        at, *prices, volume = line.split(",")
        stated = dict(zip(("open", "high", "low", "close"), prices, strict=True))
        yield {"symbol": "EURUSD", "time": f"{at}+00:00", **stated, "volume": volume}


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


def until(holds: Callable[[], bool], limit_s: float = SLOW_MACHINE_S) -> float:
    """Return how long it took until the condition held."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < limit_s
        time.sleep(0.005)
    return time.monotonic() - began


class Source:
    """A client of the append address."""

    def __init__(self, server: str, feed: str) -> None:
        user = find_or_create_user("recorder")
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
        with urllib.request.urlopen(request, timeout=SLOW_MACHINE_S) as answer:
            return dict(json.load(answer))


@contextmanager
def recorded(path: Path, layout: FileLayout) -> Iterator[None]:
    """Record a file into the feed thb, leaving out what is wrong."""
    loop = asyncio.new_event_loop()
    session = RecorderSession("thb", FeedRow.objects.get(name="thb").pk)
    source = FileSource(path, layout)
    recorder = Recorder(PostgresLog("thb", session.connect), source, "test", skip_bad=True)

    def run() -> None:
        loop.run_until_complete(recorder.run())
        loop.run_until_complete(session.close())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(recorder.end)
        thread.join(SLOW_MACHINE_S)
        assert not thread.is_alive(), f"the recorder of {path} has not ended"
        loop.close()


def last_seq(name: str) -> int:
    return int(Run.objects.values_list("last_seq", flat=True).get(portfolio__name=name))


def have_committed(seq: int, *names: str) -> bool:
    return min(map(last_seq, names)) >= seq


def first_fill(name: str) -> tuple[str, Decimal, int, Decimal]:
    order = Order.objects.filter(portfolio__name=name).order_by("seq")[0]
    fill = Fill.objects.filter(portfolio__name=name).order_by("fill_seq")[0]
    return order.status, order.price, fill.fill_seq, fill.price


def append_row_by_row(source: Source) -> list[float]:
    """Append the first bars; return how long each took to be traded."""
    waits = []
    for seq, row in enumerate(islice(rows(), BY_HTTP), start=1):
        done = source.append(row)
        assert (done["from_seq"], done["to_seq"]) == (seq, seq)
        waits.append(until(partial(have_committed, seq, "euro", "fx-canary")))
    return waits


def import_the_rest(folder: Path) -> None:
    """Import the other bars from a file like the one they come from."""
    header, *lines = eurusd_hours().read_text().splitlines()
    path = folder / "rest.csv"
    path.write_text("\n".join([header, *lines[BY_HTTP:]]))
    said("feed", "import", "fx", str(path), "--symbol", "EURUSD", "--time-zone", "UTC")
    until(partial(have_committed, 5_000, "euro", "fx-canary"))


def record_row_by_row(folder: Path) -> list[float]:
    """Write the quotes line by line; return how long each took to be traded."""
    waits, path = [], folder / "usdthb.csv"
    header, *lines = USDTHB.splitlines()
    path.write_text(f"{header}\n")
    times = TimeForm(ZoneInfo("UTC"), "%y%m%d%H%M")
    seq = 0
    with recorded(path, FileLayout({"time": "XDATE"}, "USDTHB", times)):
        for line in lines:
            with path.open("a") as file:
                file.write(f"{line}\n")
            if "WLDB" in line or "+0.000" in line:  # which is late, or not a quote
                continue
            seq += 1
            waits.append(until(partial(have_committed, seq, "baht")))
    return waits


def test_real_bars_and_quotes_are_traded_as_they_come_with_their_times_and_decimals(
    tmp_path: Path,
) -> None:
    create_feed("fx", [NewInstrument("EURUSD", Decimal("0.00001"))], actor="test")
    create_feed("thb", [NewInstrument("USDTHB", Decimal("0.001"))], actor="test")
    add_instruments("fx", [NewInstrument("KO")], actor="test")
    with running_web_process(tmp_path, GINKGO_HTTPS="no") as server, running_node(tmp_path, server):
        until(lambda: Node.objects.filter(name="node-1", status="alive").exists())
        for name, strategy, symbols, feed in (
            ("euro", "buy_and_hold", ["EURUSD"], "fx"),
            ("fx-canary", "canary", [], "fx"),
            ("baht", "buy_and_hold", ["USDTHB"], "thb"),
        ):
            create_portfolio(NewPortfolio(name, strategy, symbols=symbols, feed=feed), actor="test")
        tick()
        until(lambda: Run.objects.filter(phase="running").count() == 3)
        waits = append_row_by_row(Source(server, "fx"))
        waits += record_row_by_row(tmp_path)
        sys.stderr.write(f"traded after {[f'{wait * 1000:.0f} ms' for wait in waits]}\n")
        assert statistics.median(waits) < budget_s(1.0), waits
        import_the_rest(tmp_path)
        # Decided at the close of the first bar, filled at the open of the second.
        assert first_fill("euro") == ("filled", Decimal("1.07219"), 2, Decimal("1.07214"))
        # Decided in the middle of the first quote, filled at the ask of the second.
        assert first_fill("baht") == ("filled", Decimal("24.900"), 2, Decimal("25.020"))
        for name in ("euro", "fx-canary", "baht"):
            verdict = verify_portfolio(name)
            assert verdict.identical, verdict.sentence
        account = decode_state(bytes(Portfolio.objects.get(name="euro").checkpoint.state)).account
        assert str(account.positions["EURUSD"].mark) == "1.22904"
        digest = bytes(32)
        for seq, row in enumerate(rows(), start=1):
            close = Decimal(row["close"]).quantize(Decimal("0.00001"))
            digest = hashlib.sha256(digest + f"{seq} EURUSD {close}".encode()).digest()
        canary = Portfolio.objects.get(name="fx-canary")
        assert decode_state(bytes(canary.checkpoint.state)).strategy.data["digest"] == digest
        assert times_of("fx", 1, 5_000) == ["2017-04-19T09:00:00Z", "2018-02-07T15:00:00Z"]
        assert times_of("thb", 1, 4, 5) == ["1997-06-01T19:28:00Z", *["1997-06-01T21:34:00Z"] * 2]


def times_of(feed: str, *seqs: int) -> list[str]:
    found = FeedRecord.objects.filter(feed__name=feed, seq__in=seqs).order_by("seq")
    return [time_text(record.time_us) for record in found]
