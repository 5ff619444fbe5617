"""Web, watcher and worker: killed, frozen, away, doubled."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Mapping

import psutil

from chaos.faults.daemons import taken_over
from chaos.faults.fault import Fault
from chaos.harness.cluster import alive
from chaos.runner.fault_context import PATIENCE, RESTART_LIMIT_S, WATCHER, WEB, WORKER, FaultContext
from ginkgo_site.env import CHECKOUT
from ginkgo_site.launcher.instance_lock import OWNER_ENV
from ginkgo_site.launcher.web import GUARDED

EVERYTHING_THROUGH_WEB = "every commit goes through the web"


def kill_web(scene: FaultContext) -> None:
    """kill -9 of the web process."""
    scene.touch_everything(EVERYTHING_THROUGH_WEB)
    _kill(scene, WEB)
    scene.expect(scene.fleet.answers, RESTART_LIMIT_S, "the API back")


def kill_watcher(scene: FaultContext) -> None:
    """kill -9 of the watcher."""
    _kill(scene, WATCHER)


def kill_worker(scene: FaultContext) -> None:
    """kill -9 of the worker."""
    _kill(scene, WORKER)


def kill_control_plane(scene: FaultContext) -> None:
    """kill -9 of web, watcher and worker at once."""
    scene.touch_everything(EVERYTHING_THROUGH_WEB)
    victims = [scene.parts(words)[0] for words in (WEB, WATCHER, WORKER)]
    for victim in victims:
        victim.kill()
    scene.expect(scene.fleet.answers, RESTART_LIMIT_S, "the API back")


def _kill(scene: FaultContext, words: tuple[str, ...]) -> None:
    victim = scene.parts(words)[0]
    victim.kill()
    scene.expect(lambda: not alive([victim]), 2 * PATIENCE, f"the end of {words[0]}")
    scene.expect(lambda: scene.parts(words), RESTART_LIMIT_S, f"another {words[0]} in its place")


def web_away(scene: FaultContext) -> None:
    """The web is away for two thirds of a lease, and connections to it are refused."""
    _web_away(scene, scene.ttl_s * 20 / 30)


def web_away_long(scene: FaultContext) -> None:
    """The web is away for longer than a lease; nobody can be blamed for that."""
    _web_away(scene, scene.ttl_s * 40 / 30)


def _web_away(scene: FaultContext, seconds: float) -> None:
    scene.touch_everything(EVERYTHING_THROUGH_WEB)
    with scene.away(scene.parts(WEB)):
        scene.sleep(seconds)
    scene.expect(scene.fleet.answers, RESTART_LIMIT_S, "the API back")


def freeze_web(scene: FaultContext) -> None:
    """SIGSTOP of the web process for longer than a lease: connections stay open and silent."""
    scene.touch_everything(EVERYTHING_THROUGH_WEB)
    with scene.held(scene.parts(WEB)):
        scene.sleep(scene.ttl_s * 40 / 30)


def starve_web(scene: FaultContext) -> None:
    """The web gets a twentieth of a processor for longer than a lease: what it does comes late."""
    scene.touch_everything(EVERYTHING_THROUGH_WEB)
    web = scene.parts(WEB)
    for _ in range(int(scene.ttl_s * 40 / 30 / 0.2)):
        with scene.held(web):
            scene.sleep(0.19)
        scene.sleep(0.01)


def watcher_away(scene: FaultContext) -> None:
    """The watcher is away; what it makes fast is still done, only later."""
    with scene.away(scene.parts(WATCHER)):
        run = scene.portfolio()
        handoff = scene.migrate(run, scene.target_for(run))
        scene.expect_end(handoff, 30 * PATIENCE)
        scene.sleep(5)


def worker_away(scene: FaultContext) -> None:
    """The worker is away for a while."""
    with scene.away(scene.parts(WORKER)):
        scene.sleep(8)


def freeze_lock_holder(scene: FaultContext) -> None:
    """SIGSTOP of the process that holds the pass lock, while a daemon dies."""
    ((holder, _),) = scene.fleet.query("SELECT holder, until FROM scheduling_passlock LIMIT 1")
    node = scene.node()
    had = scene.fleet.runs_on(node)
    with scene.held(scene.parts(WATCHER)):  # it is the one that looks all the time
        scene.kill_node(node)
        scene.note(f"held by {holder}")
        scene.expect(
            lambda: taken_over(had, scene.fleet.runs()),
            # Its lock ends after 5 s, and the worker's turn comes every 30 s.
            (scene.ttl_s + 5 + 30 + 3) * PATIENCE,
            f"{', '.join(run.name for run in had)} taken over without the watcher",
        )
    scene.relaunch_far(node)


def two_watchers(scene: FaultContext) -> None:
    """Two watchers at once."""
    withanother_process(scene, [sys.executable, "manage.py", "run_watcher"], 8)


def two_workers(scene: FaultContext) -> None:
    """Two workers at once."""
    withanother_process(scene, [sys.executable, "manage.py", "qcluster"], 8)


def two_webs(scene: FaultContext) -> None:
    """A node talks to a second web process for a while, and then to the first one again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    _, wire = scene.far_node()
    argv = [sys.executable, "-m", "uvicorn", "ginkgo_site.asgi:application"]
    argv += ["--port", str(port), "--log-level", "warning", "--no-access-log", *GUARDED]
    with another_process(scene, argv) as web:
        if not scene.expect(lambda: _listens(port), RESTART_LIMIT_S, "the second web process"):
            return
        with wire.to_another(f"http://127.0.0.1:{port}"):
            wire.reset()
            scene.sleep(6)
        wire.reset()
        scene.expect(lambda: web.poll() is None, 1, "the second web process alive")
        scene.sleep(1)


def withanother_process(scene: FaultContext, argv: list[str], seconds: float) -> None:
    """Run one more process of the control plane for a while."""
    with another_process(scene, argv):
        scene.sleep(seconds)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class another_process:
    """One more process, ended with all that it started."""

    def __init__(
        self,
        scene: FaultContext,
        argv: list[str],
        more_environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log = open(scene.fleet.home / "logs" / "another.log", "ab")  # noqa: SIM115
        environment = scene.fleet.environment() | {
            OWNER_ENV: str(scene.fleet.home),
            "DJANGO_SETTINGS_MODULE": "ginkgo_site.settings",
            "PYTHONPATH": str(CHECKOUT),
            **(more_environment or {}),
        }
        self._process = subprocess.Popen(
            argv,
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self._process

    def __exit__(self, *_: object) -> None:
        family = [psutil.Process(self._process.pid)] if self._process.poll() is None else []
        family += family[0].children(recursive=True) if family else []
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self._process.wait(10)
        self._log.close()


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
