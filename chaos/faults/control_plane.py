"""Faults of web, watcher and worker: killed, frozen, kept down, doubled."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from chaos.faults.daemons import are_taken_over
from chaos.faults.fault import Fault, titled
from chaos.harness.many.servers import answers
from chaos.harness.processes import kill_processes, process_tree, still_running
from chaos.runner.fault_context import (
    BUDGET_FACTOR,
    RESTART_LIMIT_S,
    WATCHER,
    WEB,
    WORKER,
    FaultContext,
)
from ginkgo_site.env import CHECKOUT
from ginkgo_site.launcher.address import free_address
from ginkgo_site.launcher.instance_lock import OWNER_ENV
from ginkgo_site.launcher.web import LIMIT_ARGUMENTS

EVERYTHING_THROUGH_WEB = "every commit goes through the web"


def kill_web(context: FaultContext) -> None:
    """kill -9 of the web process."""
    context.mark_all_affected(EVERYTHING_THROUGH_WEB)
    _kill(context, WEB)
    context.expect(context.cluster.is_ready, RESTART_LIMIT_S, "the API back")


def kill_control_plane(context: FaultContext) -> None:
    """kill -9 of web, watcher and worker at once."""
    context.mark_all_affected(EVERYTHING_THROUGH_WEB)
    kill_processes([context.processes_matching(words)[0] for words in (WEB, WATCHER, WORKER)])
    context.expect(context.cluster.is_ready, RESTART_LIMIT_S, "the API back")


def _kill(context: FaultContext, words: tuple[str, ...]) -> None:
    """Kill the oldest process with these words on its command line, and expect another one."""
    victim = context.processes_matching(words)[0]
    victim.kill()
    context.expect(lambda: not still_running([victim]), 2 * BUDGET_FACTOR, f"the end of {words[0]}")
    context.expect(
        lambda: context.processes_matching(words),
        RESTART_LIMIT_S,
        f"another {words[0]} in its place",
    )


kill_watcher = titled("kill -9 of the watcher.", _kill, WATCHER)
kill_worker = titled("kill -9 of the queue worker.", _kill, WORKER)


def _web_away(context: FaultContext, leases: float) -> None:
    """Keep the web process down for `leases` times a lease, and expect the API back."""
    context.mark_all_affected(EVERYTHING_THROUGH_WEB)
    with context.kept_down(context.processes_matching(WEB)):
        context.sleep(context.ttl_s * leases)
    context.expect(context.cluster.is_ready, RESTART_LIMIT_S, "the API back")


web_away = titled(
    "The web process is down for two thirds of a lease; connections are refused.", _web_away, 2 / 3
)
web_away_long = titled(
    "The web process is down for longer than a lease; no node may be marked lost.", _web_away, 4 / 3
)


def freeze_web(context: FaultContext) -> None:
    """SIGSTOP of the web process for longer than a lease; connections stay open."""
    context.mark_all_affected(EVERYTHING_THROUGH_WEB)
    with context.suspended(context.processes_matching(WEB)):
        context.sleep(context.ttl_s * 4 / 3)


def starve_web(context: FaultContext) -> None:
    """The web process gets a twentieth of a processor for longer than a lease."""
    context.mark_all_affected(EVERYTHING_THROUGH_WEB)
    web = context.processes_matching(WEB)
    for _ in range(int(context.ttl_s * 4 / 3 / 0.2)):
        with context.suspended(web):
            context.sleep(0.19)
        context.sleep(0.01)


def watcher_away(context: FaultContext) -> None:
    """The watcher is down while a portfolio moves: the move still ends, only later."""
    with context.kept_down(context.processes_matching(WATCHER)):
        run = context.choose_portfolio()
        handoff = context.migrate(run, context.choose_target(run))
        context.expect_handoff_end(handoff, 30 * BUDGET_FACTOR)  # the worker's pass every 30 s
        context.sleep(5)


def worker_away(context: FaultContext) -> None:
    """The worker is down for 8 s."""
    with context.kept_down(context.processes_matching(WORKER)):
        context.sleep(8)


def freeze_lock_holder(context: FaultContext) -> None:
    """SIGSTOP of the process that holds the pass lock, while a daemon dies."""
    ((holder,),) = context.cluster.query("SELECT holder FROM scheduling_passlock LIMIT 1")
    node = context.choose_node()
    owned = context.cluster.runs_on(node)
    # The watcher polls all the time, so it is nearly always the holder.
    with context.suspended(context.processes_matching(WATCHER)):
        context.kill_node(node)
        context.note(f"the pass lock was held by {holder}")
        context.expect(
            lambda: are_taken_over(owned, context.cluster.runs()),
            # The watcher's lock expires after 5 s, and the worker runs a pass every 30 s.
            (context.ttl_s + 5 + 30 + 3) * BUDGET_FACTOR,
            f"{', '.join(run.name for run in owned)} taken over without the watcher",
        )
    context.relaunch_if_proxied(node)


def two_webs(context: FaultContext) -> None:
    """A node uses a second web process for a while, and then the first one again."""
    port = free_address("127.0.0.1", 0).port
    _, proxy = context.choose_proxied_node()
    argv = [sys.executable, "-m", "uvicorn", "ginkgo_site.asgi:application"]
    argv += ["--port", str(port), "--log-level", "warning", "--no-access-log", *LIMIT_ARGUMENTS]
    with another_process(context, argv) as web:
        if not context.expect(
            lambda: answers("127.0.0.1", port), RESTART_LIMIT_S, "the second web process"
        ):
            return
        with proxy.redirect_to(f"http://127.0.0.1:{port}"):
            proxy.reset()
            context.sleep(6)
        proxy.reset()
        context.expect(lambda: web.poll() is None, 1, "the second web process alive")
        context.sleep(1)


def _run_second(context: FaultContext, command: str) -> None:
    """Run this command of manage.py for 8 s, beside the launcher's own process of it."""
    with another_process(context, [sys.executable, "manage.py", command]):
        context.sleep(8)


two_watchers = titled("A second watcher runs for 8 s.", _run_second, "run_watcher")
two_workers = titled("A second worker runs for 8 s.", _run_second, "qcluster")


@contextmanager
def another_process(
    context: FaultContext, argv: list[str], **more_environment: str
) -> Iterator[subprocess.Popen[str]]:
    """Run one more process in the block; kill it and its descendants at the end."""
    environment = {
        OWNER_ENV: str(context.cluster.home),
        "DJANGO_SETTINGS_MODULE": "ginkgo_site.settings",
        "PYTHONPATH": str(CHECKOUT),
    }
    process = context.cluster.spawn(argv, "logs/another.log", **environment, **more_environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            kill_processes(process_tree(psutil.Process(process.pid)))
        process.wait(10)


FAULTS = (
    Fault("kill-web", kill_web, 5, moves_nothing=True, alone=True),
    Fault("kill-watcher", kill_watcher, 4, moves_nothing=True),
    Fault("kill-worker", kill_worker, 4, moves_nothing=True),
    Fault("kill-control-plane", kill_control_plane, 6, moves_nothing=True, alone=True),
    Fault("web-away", web_away, 8, moves_nothing=True, alone=True),
    Fault("web-away-long", web_away_long, 12, moves_nothing=True, alone=True),
    Fault("freeze-web", freeze_web, 8, moves_nothing=True, alone=True),
    Fault("starve-web", starve_web, 8, moves_nothing=True, alone=True),
    Fault("watcher-away", watcher_away, 9, alone=True),
    Fault("worker-away", worker_away, 9, moves_nothing=True, alone=True),
    Fault("freeze-lock-holder", freeze_lock_holder, 15, alone=True),
    Fault("two-watchers", two_watchers, 9, moves_nothing=True),
    Fault("two-workers", two_workers, 9, moves_nothing=True),
    Fault("two-webs", two_webs, 12, moves_nothing=True),
)
