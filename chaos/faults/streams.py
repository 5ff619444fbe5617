"""Faults of the NATS server that keeps a feed which grows throughout the run (`--fleet jetstream`).

Portfolios of other feeds must not notice any of them, and none may move.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from chaos.faults.fault import Fault
from chaos.faults.feeds import SYMBOL, create_feed, create_trader, csv_lines, expect_each_row_once
from chaos.runner.fault_context import BUDGET_FACTOR, RESTART_LIMIT_S, FaultContext, NotAvailable
from chaos.runner.live_feed import LiveFeed, feed_head

GROWS_WITHIN_S = 15.0 * BUDGET_FACTOR  #: until an append is refused, or succeeds again
KILLS, ROWS = 3, 200  #: kills of a recorder, and rows that are written while each recorder runs


def live_feed(context: FaultContext) -> LiveFeed:
    """Return the run's feed in JetStream. Raise NotAvailable if it has none."""
    if context.topology.live is None:
        raise NotAvailable("the run has no feed in JetStream (--fleet jetstream)")
    return context.topology.live


def killed(context: FaultContext) -> None:
    """kill -9 of the NATS server, several times at random moments, while a feed grows."""
    live = live_feed(context)
    for _ in range(context.rng.randrange(2, 6)):
        context.sleep(context.rng.random() * 1.5)
        live.server.kill()
        context.sleep(context.rng.random())
        live.server.start()
    _expect_growth(context, live)


def away(context: FaultContext) -> None:
    """The NATS server is down for two leases; appends are refused with a sentence."""
    live = live_feed(context)
    live.server.kill()
    with ExitStack() as repaired:
        repaired.callback(live.server.start)
        _expect_refusals(context, live)
        context.sleep(2 * context.ttl_s)
    _expect_growth(context, live)


def frozen(context: FaultContext) -> None:
    """SIGSTOP of the NATS server for two leases; its connections stay open."""
    live = live_feed(context)
    with context.suspended([live.process()]):
        _expect_refusals(context, live)
        context.sleep(2 * context.ttl_s)
    _expect_growth(context, live)


def full(context: FaultContext) -> None:
    """The stream of a feed is full for the time of a lease; refused appends succeed afterwards."""
    live = live_feed(context)
    with ExitStack() as repaired:
        repaired.callback(live.limit_growth, None)
        live.limit_growth(more_bytes=2_000)
        _expect_refusals(context, live, "maximum bytes")
        context.sleep(context.ttl_s)
    _expect_growth(context, live)


def recorder_killed(context: FaultContext) -> None:
    """kill -9 of a recorder and of the NATS server while a file grows; each row is there once."""
    live = live_feed(context)
    feed = f"tape-{context.rng.getrandbits(24):06x}"
    create_feed(context, feed)
    name = create_trader(context, feed)
    header, *lines = csv_lines(0, (KILLS + 1) * ROWS)
    with tempfile.TemporaryDirectory(prefix="ginkgo-chaos-tape-") as folder:
        path = Path(folder) / "rows.csv"
        path.write_text(header, encoding="utf-8")
        for kill in range(KILLS + 1):
            recorder = _start_recorder(context, feed, path)
            try:
                before = feed_head(context.cluster, feed)
                _write(context, path, lines[kill * ROWS : (kill + 1) * ROWS])
                if kill < KILLS:
                    _expect_head(context, feed, before + 1)
                    context.sleep(0.3 * context.rng.random())
                    if context.rng.random() < 0.5:
                        live.server.kill()
                        live.server.start()
                else:
                    _expect_head(context, feed, len(lines))
            finally:
                recorder.kill()
                recorder.wait(10)
    context.cluster.manage("feed", "release", feed, check=False)
    expect_each_row_once(context, name, feed, len(lines))


def _write(context: FaultContext, path: Path, lines: list[str]) -> None:
    """Append the lines to a file, one every 10 ms."""
    with path.open("a", encoding="utf-8") as file:
        for line in lines:
            file.write(line)
            file.flush()
            context.sleep(0.01)


def _expect_head(context: FaultContext, feed: str, seq: int) -> None:
    context.expect(
        lambda: feed_head(context.cluster, feed) >= seq,
        RESTART_LIMIT_S,
        f"seq {seq} in {feed}",
        "I8",
    )


def _start_recorder(context: FaultContext, feed: str, path: Path) -> subprocess.Popen[str]:
    """Start a recorder that reads the file and becomes the writer of the feed."""
    argv = [sys.executable, "manage.py", "feed", "record", feed, "--file", str(path)]
    argv += ["--symbol", SYMBOL, "--take-over"]
    return context.cluster.spawn(argv, f"logs/{feed}.txt")


def _expect_refusals(context: FaultContext, live: LiveFeed, cause: str = "") -> None:
    """Expect that an append is refused from now on, with `cause` in the text of the refusal."""
    before = live.failed_requests
    live.last_refusal = ""
    context.expect(
        lambda: live.failed_requests > before and live.last_refusal and cause in live.last_refusal,
        GROWS_WITHIN_S,
        f"an append refused{f' because of {cause}' if cause else ''}",
    )
    context.note(live.last_refusal[:160])


def _expect_growth(context: FaultContext, live: LiveFeed) -> None:
    """Expect new records in JetStream of the chaos run's feed from now on."""
    before = live.head()
    context.expect(
        lambda: live.head() > before, GROWS_WITHIN_S, "new records of the feed in JetStream", "I8"
    )


FAULTS = (
    Fault("kill-nats", killed, 6, moves_nothing=True),
    Fault("nats-away", away, 14, moves_nothing=True),
    Fault("freeze-nats", frozen, 14, moves_nothing=True),
    # Alone, since it sends requests to the server, which another fault may have frozen.
    Fault("nats-full", full, 10, moves_nothing=True, alone=True),
    Fault("kill-recorder", recorder_killed, 20, alone=True),
)
