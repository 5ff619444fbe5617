"""Real processes under the launcher's supervision."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from chaos.harness.installation import SLOW_MACHINE_S, budget_s, eventually
from ginkgo_site.env import CHECKOUT
from ginkgo_site.launcher.instance_lock import OWNER_ENV, kill_orphans
from ginkgo_site.launcher.supervised_process import Program, Service

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
WITH_CHILD = [
    sys.executable,
    "-c",
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(60)\n",
]


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def a_service(tmp_path: Path, argv: list[str], after_s: float = 0) -> tuple[Service, list[str]]:
    said: list[str] = []
    program = Program(argv, dict(os.environ), tmp_path / "it.log")
    return Service("it", program, said.append, restart_after_s=after_s), said


def kill(service: Service) -> int:
    """Kill the process behind the back of its service. Return its pid."""
    assert service.process is not None
    service.process.kill()
    service.process.wait()
    return service.process.pid


def test_a_process_that_dies_is_restarted_at_once(tmp_path: Path) -> None:
    service, said = a_service(tmp_path, SLEEPER)
    service.start(now=0)
    first = kill(service)
    service.poll(now=100)
    service.poll(now=100)
    assert service.process is not None
    assert service.process.pid != first
    assert service.is_running
    assert said == ["it exited (signal SIGKILL); restarting at once."]
    service.kill()


def test_a_killed_service_with_a_restart_delay_restarts_after_that_delay(tmp_path: Path) -> None:
    service, said = a_service(tmp_path, SLEEPER, after_s=15)
    service.start(now=0)
    kill(service)
    service.poll(now=100)
    service.poll(now=114.9)
    assert not service.is_running
    service.poll(now=115)
    assert service.is_running
    assert "in 15 s" in said[0]
    service.kill()


def test_a_process_that_fails_at_its_start_waits_longer_each_time(tmp_path: Path) -> None:
    service, said = a_service(tmp_path, [sys.executable, "-c", "raise SystemExit(3)"])
    now = 0.0
    for _ in range(5):
        service.start(now)
        assert service.process is not None
        service.process.wait()
        service.poll(now)
        now += 60
    waits = [line.rpartition("restarting ")[2] for line in said]
    assert waits == ["at once.", "in 1 s.", "in 2 s.", "in 4 s.", "in 8 s."]
    assert "exit code 3" in said[0]


def test_children_of_a_killed_service_end(tmp_path: Path) -> None:
    service, _ = a_service(tmp_path, WITH_CHILD)
    service.start(now=0)
    log = tmp_path / "it.log"
    eventually(lambda: log.read_text().strip())
    child = int(log.read_text())
    kill(service)
    service.poll(now=1)
    eventually(lambda: is_gone(child))
    service.kill()


def test_services_end_with_a_killed_launcher(tmp_path: Path) -> None:
    launcher = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys, time\n"
            "from pathlib import Path\n"
            "from ginkgo_site.launcher.supervised_process import Program, Service\n"
            "program = Program(sys.argv[2:], dict(os.environ), Path(sys.argv[1]))\n"
            "service = Service('it', program, print)\n"
            "service.start(0)\n"
            "print(service.process.pid, flush=True)\n"
            "time.sleep(60)\n",
            str(tmp_path / "it.log"),
            *SLEEPER,
        ],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
    )
    assert launcher.stdout is not None
    child = int(launcher.stdout.readline())
    launcher.kill()
    launcher.wait()
    eventually(lambda: is_gone(child), limit_s=budget_s(1))


def test_a_start_kills_processes_that_an_earlier_start_of_the_same_home_left(
    tmp_path: Path,
) -> None:
    left = subprocess.Popen(SLEEPER, env={**os.environ, OWNER_ENV: str(tmp_path)})
    other = subprocess.Popen(SLEEPER, env={**os.environ, OWNER_ENV: str(tmp_path / "other")})
    assert kill_orphans(tmp_path) == 1
    assert left.wait(SLOW_MACHINE_S) == -signal.SIGKILL
    assert other.poll() is None
    other.kill()
    other.wait()
