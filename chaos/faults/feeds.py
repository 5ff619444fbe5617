"""A recorded feed that is appended to and imported into while the control plane fails."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from chaos.faults.fault import Fault
from chaos.harness.processes import kill_processes
from chaos.runner.fault_context import BUDGET_FACTOR, RESTART_LIMIT_S, WATCHER, WEB, FaultContext
from chaos.runner.live_feed import bar

SYMBOL = "CHAOS"
APPENDS, ROWS = 30, 5  #: appends to a feed, and rows of each


def appended(context: FaultContext) -> None:
    """A feed grows by appends, some of them repeated; a portfolio handles each row once."""
    append_and_check(context, kill=False)


def killed_while_appending(context: FaultContext) -> None:
    """Web, watcher or the portfolio's daemon is killed while a feed grows; appends are repeated."""
    context.mark_all_affected("every commit goes through the web")
    append_and_check(context, kill=True)


def imported(context: FaultContext) -> None:
    """A CSV file is imported into a feed that a portfolio trades on; a repeat imports nothing."""
    feed = f"csv-{context.rng.getrandbits(24):06x}"
    with tempfile.TemporaryDirectory(prefix="ginkgo-chaos-feed-") as folder:
        path = Path(folder) / "rows.csv"
        command = ("feed", "import", feed, str(path), "--symbol", SYMBOL)
        path.write_text("".join(csv_lines(0, 50)), encoding="utf-8")
        if context.topology.live is not None:
            create_feed(context, feed)
        context.cluster.manage(*command)
        name = create_trader(context, feed)
        path.write_text("".join(csv_lines(50, 200)), encoding="utf-8")
        context.cluster.manage(*command)
        again = context.cluster.manage(*command, check=False)
        context.note(f"the same file again: {str(again)[:120]}")
    expect_each_row_once(context, name, feed, 250)


def append_and_check(context: FaultContext, *, kill: bool) -> None:
    """Append to a new feed while a portfolio trades on it, and check that every row counts once.

    With `kill`, web, watcher or the portfolio's daemon is killed before one of the appends.
    """
    feed = f"live-{context.rng.getrandbits(24):06x}"
    create_feed(context, feed)
    name = create_trader(context, feed)
    kill_at = context.rng.randrange(APPENDS)
    for number in range(APPENDS):
        if kill and number == kill_at:
            _kill(context, name)
        rows = [bar(number * ROWS + n, SYMBOL) for n in range(ROWS)]
        body = {"source": "chaos", "number": number + 1, "rows": rows}
        for _ in range(2 if context.rng.random() < 0.2 else 1):  # about one in five is repeated
            _append(context, feed, body)
    expect_each_row_once(context, name, feed, APPENDS * ROWS)


def create_feed(context: FaultContext, feed: str) -> None:
    """Create a feed, in JetStream if the run has a server."""
    where = [] if context.topology.live is None else ["--jetstream"]
    context.cluster.manage("feed", "create", feed, "--instrument", f"{SYMBOL}:tick=0.01", *where)


def _append(context: FaultContext, feed: str, body: dict[str, Any]) -> None:
    """Repeat one append until it is answered; report a violation if it is refused."""

    def answered() -> bool:
        answer = context.request("POST", f"/api/feeds/{feed}/append/", body)
        if answer is not None and 400 <= answer.status < 500 and answer.status != 429:
            context.report("I2", f"an append to {feed} was refused", {"answer": answer.text[:300]})
            return True
        return answer is not None and answer.status < 300

    context.expect(answered, RESTART_LIMIT_S, f"an append to {feed} answered", "I8")


def _kill(context: FaultContext, portfolio: str) -> None:
    """Kill web, watcher or the daemon that owns the portfolio."""
    victim = context.rng.choice(("web", "watcher", "daemon"))
    context.note(f"{victim} killed")
    if victim == "daemon":
        node = context.cluster.run(portfolio).node
        if node is not None:
            context.kill_node(node)
            context.relaunch_if_proxied(node)
        return
    kill_processes(context.processes_matching(WEB if victim == "web" else WATCHER))


def create_trader(context: FaultContext, feed: str) -> str:
    """Create a portfolio of a feed, which the fault's end deletes. Return its name once it runs."""
    name = f"on-{feed}"
    config = {"fast": 2, "slow": 4, "quantity": "10"}
    given = {"strategy": "sma_cross", "config": config, "symbols": [SYMBOL]}
    context.create_portfolio(name, **given, feed=feed, catch_up="full")
    context.expect(
        lambda: context.cluster.run(name).phase == "running", 30 * BUDGET_FACTOR, f"{name} running"
    )
    return name


def expect_each_row_once(context: FaultContext, name: str, feed: str, rows: int) -> None:
    """Report a violation unless the feed and its portfolio `name` have each of `rows` rows once.
    The portfolio has to reach the newest record, and to equal its reference run."""
    listed = context.cluster.manage("feed", "check", feed)
    context.note(f"{feed}: {str(listed)[:160]}")
    records = listed["records"]
    if records != rows:
        context.report("I2", f"{feed} has {records} records of {rows} rows appended", {})
    reached = context.expect(
        lambda: context.cluster.run(name).last_seq == records,
        60 * BUDGET_FACTOR,
        f"{name} at the head of {feed}",
        "I8",
    )
    if reached:
        verdict = context.cluster.manage("verify_portfolio", name, check=False) or {}
        context.note(f"{name}: {verdict.get('sentence') or verdict.get('message')}")
        if verdict.get("state") != "identical":
            context.report("I3", f"{name} differs from its reference run", verdict)


def csv_lines(first: int, count: int) -> list[str]:
    """Return the header and `count` lines of a CSV file: the bars from bar `first` on."""
    rows = [bar(number, SYMBOL) for number in range(first, first + count)]
    columns = ("time", "open", "high", "low", "close", "volume")
    lines = [",".join(str(row[column]) for column in columns) for row in rows]
    return [f"{line}\n" for line in (",".join(columns), *lines)]


FAULTS = (
    Fault("feed-appended", appended, 10, is_load=True),
    Fault("feed-imported", imported, 10, is_load=True),
    Fault("kill-while-appending", killed_while_appending, 20, alone=True),
)
