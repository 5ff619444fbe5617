"""Measure the board of a large fleet: `bin/bench board [NODES] [PORTFOLIOS] [SECONDS]`.

Runs a real installation with a fleet that exists in its database, where every figure moves once a
second (bench/board_fleet.py), the real web process, and the board in the machine's Chromium.
Measures the processor time of the web process without a board, with one and with ten (nine of them
sockets without a browser), how long the first paint takes, how busy the main thread of the browser
is, what the page weighs, and the time from a commit that moves two cards to the picture that shows
them moved.

On a busy machine only the processor times are reliable; elapsed times are upper bounds. Prints JSON
rows; writes board.txt to the directory BENCH_OUT, if set.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any

import psutil
import websockets
from playwright.sync_api import BrowserContext, Page
from websockets.typing import Origin

from bench import board_fleet
from bench.fleet_installation import FleetInstallation, fleet_installation
from bench.result_table import given_numbers, median_row, report, row
from chaos.harness.installation import SLOW_MACHINE_S, eventually
from ginkgo_site.env import embedded_url
from tests.support.browser import DashboardWindow, open_browser, open_context, window_in

FEED_RATE = 100
MOVES = 25  #: measured moves of two cards
MOVES_APART_S = 0.7
MOVE_LIMIT_S = 30.0
FURTHER_BOARDS = 9
LOADS = 5  #: measured loads of the page

#: Targets; MAIN_THREAD, WEB_ONE and WEB_TEN are in % of a core, with one and with ten boards.
FIRST_PAINT_MS = 1000.0
PIXEL_P95_MS = 500.0
MAIN_THREAD = 30.0
WEB_ONE, WEB_TEN = 15.0, 20.0

#: Resolves to the time of the picture in which the card is in the column, in epoch ms.
SEEN_IN_COLUMN = """
([portfolio, node]) => new Promise((resolve) => {
  const card = `.col[data-node="${node}"] .card[data-portfolio="${portfolio}"]`;
  const look = () => {
    if (!document.querySelector(card)) return false;
    observer.disconnect();
    requestAnimationFrame(() => resolve(performance.timeOrigin + performance.now()));
    return true;
  };
  const observer = new MutationObserver(look);
  observer.observe(document.getElementById("board"), { childList: true, subtree: true });
  look();
})
"""
#: Times of the page's load in ms since the navigation began; `cards`: a card was in a picture.
LOAD_TIMES = """
() => ({
  first_byte: performance.getEntriesByType("navigation")[0].responseStart,
  bytes: performance.getEntriesByType("navigation")[0].decodedBodySize,
  first_paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime,
  cards: window.cardsSeenAt,
})
"""
#: Sets window.cardsSeenAt to the time of the first picture that has a card.
WATCH_CARDS = """
const watchCards = () => {
  if (!document.querySelector(".card")) return requestAnimationFrame(watchCards);
  requestAnimationFrame(() => { window.cardsSeenAt = performance.now(); });
};
watchCards();
"""


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    report(measure(*given_numbers(100, 1_000, 20)), "board")


def measure(nodes: int, portfolios: int, seconds: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of one size."""
    setup = f"{nodes} nodes, {portfolios} portfolios"
    with fleet_installation(FEED_RATE) as installation, installation.connection() as db:
        board_fleet.create(db, nodes, portfolios)
        with moving_fleet(installation), open_browser() as browser:
            yield from rows_of_board(setup, installation, open_context(browser), seconds)


@contextmanager
def moving_fleet(installation: FleetInstallation) -> Iterator[None]:
    """Let another process advance the figures of the fleet until the context ends."""
    command = [sys.executable, "-m", "bench.board_fleet", embedded_url(installation.home)]
    with subprocess.Popen(command) as mover:
        try:
            eventually(
                lambda: installation.query("SELECT min(seq) > 1 FROM portfolios_checkpoint")[0][0],
                what="every portfolio has committed",
            )
            yield
        finally:
            mover.terminate()


def rows_of_board(
    setup: str, installation: FleetInstallation, context: BrowserContext, seconds: float
) -> Iterator[dict[str, Any]]:
    """Yield the rows with no board open, with one, and with ten."""
    say("without a board")
    without = web_cpu_share(installation, seconds)
    yield row(setup, "web without a board", without, "% of a core")
    with window_in(context, installation) as window:
        window.page.add_init_script(WATCH_CARDS)
        window.sign_in(installation.access["username"], installation.access["password"])
        window.page.goto("about:blank")
        yield from rows_of_loads(setup, installation, window)
        yield from rows_of_one_board(setup, installation, window, without, seconds)
        yield from rows_of_moves(setup, installation, window.page)
        say(f"with {FURTHER_BOARDS} more")
        with further_boards(installation, context):
            time.sleep(2)
            ten = web_cpu_share(installation, seconds)
        what = "web with ten boards"
        yield row(setup, what, ten, "% of a core", against=without, at_most=WEB_TEN)


def rows_of_loads(
    setup: str, installation: FleetInstallation, window: DashboardWindow
) -> Iterator[dict[str, Any]]:
    """Yield the rows of LOADS loads of the page."""
    say("loading")
    loads, used = [], []
    for _ in range(LOADS):
        before = installation.cpu_s()["web"]
        window.open()
        wait_for_mark(window.page, "cardsSeenAt")
        used.append(installation.cpu_s()["web"] - before)
        loads.append(window.page.evaluate(LOAD_TIMES))
        window.page.goto("about:blank")
        time.sleep(1)
    for name, label, target_ms in (
        ("first_byte", "first byte", None),
        ("first_paint", "first paint", FIRST_PAINT_MS),
        ("cards", "first card in a picture", FIRST_PAINT_MS),
    ):
        yield median_row(setup, label, [load[name] for load in loads], "ms", at_most=target_ms)
    yield row(setup, "size of the page", loads[-1]["bytes"] / 1e3, "kB")
    yield row(setup, "web per load of the page", statistics.median(used), "CPU-s")


def rows_of_one_board(
    setup: str,
    installation: FleetInstallation,
    window: DashboardWindow,
    without: float,
    seconds: float,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of the cost of one open board; `without` is the web's share before it."""
    received: list[int] = []
    window.page.on(
        "websocket",
        lambda socket: socket.on("framereceived", lambda frame: received.append(len(frame))),
    )
    window.open()
    with suppress(Exception):  # the figures show a board that never becomes live
        window.wait_until_live()
    time.sleep(3)
    say("with one board")
    renderer = renderer_of(window.page)
    received.clear()
    before, began = main_thread_s(renderer), time.monotonic()
    web = web_cpu_share(installation, seconds)
    busy = 100 * (main_thread_s(renderer) - before) / (time.monotonic() - began)
    window.page.evaluate("0")  # the frames that came while this thread slept are counted now
    frames, size = len(received), sum(received)
    yield row(setup, "web with one board", web, "% of a core", against=without, at_most=WEB_ONE)
    yield row(setup, "main thread of the browser", busy, "% CPU", at_most=MAIN_THREAD)
    yield row(setup, "messages", frames / seconds, "a second")
    if frames:
        cost = (web - without) / 100 * seconds / frames
        yield row(setup, "web per message", 1e3 * cost, "CPU-ms")
    yield row(setup, "received, before compression", size / seconds / 1e3, "kB/s")
    count = window.page.evaluate("document.querySelectorAll('*').length")
    yield row(setup, "elements of the page", count, "")
    say(f"the badge: {window.page.inner_text('#live')}")


def rows_of_moves(
    setup: str, installation: FleetInstallation, page: Page
) -> Iterator[dict[str, Any]]:
    """Yield the rows of the time from a commit that moves two cards to its picture."""
    say("moving")
    nodes = ["node-000", "node-001"]
    took_ms: list[float] = []
    with installation.connection() as db:
        for _ in range(MOVES):
            pair = [  # the first portfolio of each node
                db.execute(
                    "SELECT p.id, p.name FROM scheduling_run r JOIN portfolios_portfolio p"
                    " ON p.id = r.portfolio_id JOIN scheduling_node n ON n.id = r.node_id"
                    " WHERE n.name = %s ORDER BY p.name LIMIT 1",
                    [node],
                ).fetchone()
                for node in nodes
            ]
            # The promise is kept on the page: an evaluation that waits would hold this thread.
            page.evaluate(
                f"given => {{ window.seen = 0; ({SEEN_IN_COLUMN})(given)"
                ".then((at) => { window.seen = at; }) }",
                [pair[0].name, nodes[1]],  # type: ignore[union-attr]
            )
            swapped_s = board_fleet.swap(db, [each.id for each in pair])  # type: ignore[union-attr]
            try:
                took_ms.append(wait_for_mark(page, "seen", MOVE_LIMIT_S) - 1e3 * swapped_s)
            except AssertionError:
                took_ms.append(1e3 * MOVE_LIMIT_S)
                say(f"a move was not shown within {MOVE_LIMIT_S:g} s")
                break
            time.sleep(MOVES_APART_S)
    took_ms.sort()
    p95 = took_ms[int(0.95 * (len(took_ms) - 1))]
    yield row(setup, "commit to pixel, median", statistics.median(took_ms), "ms")
    spread = [took_ms[0], took_ms[-1]]
    yield row(setup, "commit to pixel, p95", p95, "ms", spread=spread, at_most=PIXEL_P95_MS)


@contextmanager
def further_boards(installation: FleetInstallation, context: BrowserContext) -> Iterator[None]:
    """Keep FURTHER_BOARDS sockets of the board open, which read as browsers do."""
    cookies = "; ".join(f"{c['name']}={c['value']}" for c in context.cookies())
    url = installation.access["url"]
    loop = asyncio.new_event_loop()

    async def keep_one() -> None:
        address = url.replace("http", "ws") + "/ws/board/?view=board&language=en"
        async with websockets.connect(
            address, origin=Origin(url), additional_headers={"Cookie": cookies}, max_size=None
        ) as socket:
            async for _ in socket:
                pass

    async def keep_all() -> None:
        await asyncio.gather(*(keep_one() for _ in range(FURTHER_BOARDS)))

    task = loop.create_task(keep_all())

    def run() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
        assert thread.is_alive(), "a socket of the board was closed"
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(SLOW_MACHINE_S)
        loop.close()


def web_cpu_share(installation: FleetInstallation, seconds: float) -> float:
    """Return the processor time of the web process during `seconds`, in % of a core."""
    before, began = installation.cpu_s()["web"], time.monotonic()
    time.sleep(seconds)
    return 100 * (installation.cpu_s()["web"] - before) / (time.monotonic() - began)


def wait_for_mark(page: Page, name: str, limit_s: float = SLOW_MACHINE_S) -> float:
    """Return the number in the page's variable `name`, once it is set and not 0."""
    # Playwright's own wait needs `eval`, which the policy of the page forbids.
    found: float = eventually(lambda: page.evaluate(f"window.{name} || 0"), limit_s, name)
    return found


def renderer_of(page: Page) -> psutil.Process:
    """Return the browser's process that renders the page: the busiest of them."""
    assert page.context.browser is not None
    session = page.context.browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    busiest = max((p for p in processes if p["type"] == "renderer"), key=lambda p: p["cpuTime"])
    return psutil.Process(busiest["id"])


def main_thread_s(process: psutil.Process) -> float:
    """Return the processor time of the process's main thread."""
    found = next(thread for thread in process.threads() if thread.id == process.pid)
    return float(found.user_time + found.system_time)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text} (load {os.getloadavg()[0]:.1f})", file=sys.stderr)


if __name__ == "__main__":
    main()
