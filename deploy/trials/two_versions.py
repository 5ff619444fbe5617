#!/usr/bin/env python3
"""Run two versions side by side on one installation, under load.

OLD is a commit of this repository. It starts an installation: PostgreSQL, HAProxy, two web
processes, watcher, worker and three nodes, with portfolios that trade and are moved and reloaded
all the time. Nodes of this checkout join; the tables are migrated; the control plane becomes this
checkout's, process by process, with the old nodes; the epoch floor is raised; the control plane
goes back to OLD on the new tables, with nodes of both; the floor is raised again; then everything
becomes this checkout's. At the end every portfolio is verified. Printed are the longest times
between two commits of a portfolio, and what nodes and handoffs came to.

OLD gets a worktree in a folder that is deleted, and packages of its own if it pins others.
Needs HAProxy, and the packages of this checkout:

    PYTHONPATH=. .venv/bin/python deploy/trials/two_versions.py OLD
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from commits import Commits

from chaos.checkers.history import history_violations
from ginkgo_site.launcher.postgres import EmbeddedPostgres
from ginkgo_site.launcher.spawn import spawn
from ginkgo_site.launcher.web import web_command

CHECKOUT = Path(__file__).resolve().parents[2]
WEBS = ("web-1", "web-2")
OLD_NODES = ("old-1", "old-2", "old-3")
NEW_NODES = ("new-1", "new-2")
SYMBOLS = ("IBM", "GE", "HD", "XOM", "CVX", "JPM", "MS", "WFC")
#: Of a process to start or to end, of a handoff, of a node to be empty, on a busy machine.
LIMIT_S = 300.0
HAPROXY = """
defaults
    mode http
    timeout connect 2s
    timeout client 70s
    timeout server 70s
    timeout tunnel 1h
frontend ginkgo
    bind 127.0.0.1:{front}
    option forwardfor
    default_backend web
backend web
    balance leastconn
    option httpchk
    http-check send meth GET uri /api/readyz/ hdr Host 127.0.0.1
    http-check expect status 200
    timeout check 5s
    default-server check inter 1s fastinter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
    option redispatch
    retries 2
    server web-1 127.0.0.1:{web_1}
    server web-2 127.0.0.1:{web_2}
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", metavar="OLD", help="the commit of the version before")
    parser.add_argument("--seconds", type=float, default=30, help="of each stage (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the load (%(default)s)")
    args = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("the trial was ended"))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ginkgo-versions-")))
        folder.chmod(0o755)  # PostgreSQL runs as a user of its own
        old = stack.enter_context(checked_out(args.old, folder / "old"))
        trial = Trial(folder / "home", old, Version("new", CHECKOUT), args.seconds, args.seed)
        stack.callback(trial.end)
        trial.run()


# --- versions and processes ----------------------------------------------------------------------


@dataclass(frozen=True)
class Version:
    """A checkout with the packages that it pins."""

    name: str
    checkout: Path

    @property
    def python(self) -> str:
        return str(self.checkout / ".venv/bin/python")


@contextlib.contextmanager
def checked_out(commit: str, folder: Path) -> Iterator[Version]:
    """A worktree of the commit, with this checkout's packages where it pins the same."""
    git = ("git", "-C", str(CHECKOUT), "worktree")
    command(*git, "add", "--detach", str(folder), commit)
    try:
        pins = ("requirements.txt", "requirements-node.txt")
        if all((folder / pin).read_bytes() == (CHECKOUT / pin).read_bytes() for pin in pins):
            (folder / ".venv").symlink_to((CHECKOUT / ".venv").resolve())
        else:
            print("OLD pins other packages, which are installed …", flush=True)
            command(sys.executable, str(folder / "bin/environment.py"), "control-plane", "-c", "")
        yield Version("old", folder)
    finally:
        command(*git, "remove", "--force", str(folder))


@dataclass
class Unit:
    """A process of the installation, in the version that runs now."""

    name: str
    argv: list[str]  #: without the interpreter
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self, version: Version) -> None:
        paths = {"PYTHONPATH": str(version.checkout)}
        with self.log.open("ab") as output:
            output.write(f"--- {version.name}\n".encode())
            output.flush()
            self.process = spawn(
                [version.python, *self.argv],
                environment=self.environment | paths,
                output=output,
                folder=version.checkout,
            )

    def end(self) -> None:
        """Ask it to end, as systemd does."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise


# --- the trial -----------------------------------------------------------------------------------


class Trial:
    """One installation, whose processes change their version."""

    def __init__(self, home: Path, old: Version, new: Version, seconds: float, seed: int) -> None:
        self.home, self.old, self.new = home, old, new
        self.seconds, self.seed = seconds, seed
        self.server = EmbeddedPostgres(home)
        self.front, *webs = free_ports(1 + len(WEBS))
        self.url = f"http://127.0.0.1:{self.front}"
        self.units: dict[str, Unit] = {}
        self.haproxy: subprocess.Popen[bytes] | None = None
        self.load: Load | None = None
        self.token = ""
        self.ports = dict(zip(WEBS, webs, strict=True))

    def run(self) -> None:
        """Old alone, new nodes, new tables, new control plane, back, and all new."""
        started = time.monotonic()
        self.start_old()
        self.commits = Commits(self.server.admin_url)
        self.commits.wait_until_all_commit(LIMIT_S)
        self.load = Load(self)
        self.load.start()
        say(f"{len(self.commits.newest)} portfolios trade on the old version")
        with self.stage("old nodes and control plane"):
            self.let_run()
        with self.stage("new nodes join the old control plane"):
            self.start_nodes(NEW_NODES, self.new)
            self.let_run()
        with self.stage("new nodes and old control plane, the epoch floor is raised"):
            self.raise_floor(self.old)
        with self.stage("the tables are migrated beneath the old control plane"):
            self.manage(self.new, "migrate", "--verbosity=0")
            self.let_run()
        with self.stage("the control plane becomes new, process by process"):
            self.replace_control_plane(self.new)
        with self.stage("old and new nodes on the new control plane"):
            self.let_run()
        with self.stage("the same, the epoch floor is raised"):
            self.raise_floor(self.new)
        with self.stage("the control plane becomes old again"):
            self.replace_control_plane(self.old)
        with self.stage("old and new nodes on the old control plane and new tables"):
            self.let_run()
        with self.stage("the same, the epoch floor is raised"):
            self.raise_floor(self.old)
        with self.stage("everything becomes new"):
            self.replace_control_plane(self.new)
            for name in OLD_NODES:
                self.replace_node(name, self.new)
        with self.stage("new nodes and control plane"):
            self.let_run()
        self.load.stop()
        say(f"load: {self.load.summary()}")
        self.check()
        say(f"passed after {time.monotonic() - started:.0f} s")

    def start_old(self) -> None:
        """Start the installation in the old version, with an operator's token."""
        self.server.prepare()
        self.server.start()
        self.server.wait_until_ready()
        self.manage(self.old, "migrate", "--verbosity=0")
        self.manage(self.old, "seed_demo")
        words = "create_api_token load --create --role operator"
        self.token = self.manage(self.old, *words.split())
        logs = self.home / "logs"
        for name, port in self.ports.items():
            argv = web_command("127.0.0.1", port)[1:]
            self.units[name] = Unit(name, argv, self.environment(), logs / f"{name}.log")
        for name, word in (("watcher", "run_watcher"), ("worker", "qcluster")):
            argv = ["manage.py", word]
            self.units[name] = Unit(name, argv, self.environment(), logs / f"{name}.log")
        for unit in self.units.values():
            unit.start(self.old)
        file = self.home / "haproxy.cfg"
        ports = {name.replace("-", "_"): port for name, port in self.ports.items()}
        file.write_text(HAPROXY.format(front=self.front, **ports))
        with (logs / "haproxy.log").open("ab") as output:
            self.haproxy = spawn(
                ["haproxy", "-db", "-f", str(file)],
                environment={"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
                output=output,
                folder=self.home,
            )
        for web in WEBS:
            self.wait_until_ready(web)
        self.start_nodes(OLD_NODES, self.old)
        for number, symbol in enumerate(SYMBOLS):
            body = {
                "name": f"trader-{number}",
                "strategy": "sma_cross",
                "symbols": [symbol],
                "config": {"fast": 2, "slow": 5, "quantity": "10"},
            }
            self.ask("POST", "/api/portfolios/", body)

    def environment(self) -> dict[str, str]:
        """Variables of control-plane processes and commands."""
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith(("GINKGO_", "PYTHON"))},
            "GINKGO_HOME": str(self.home),
            "DATABASE_URL": self.server.url,
            "GINKGO_ALLOWED_HOSTS": "127.0.0.1",
            "GINKGO_TRUSTED_PROXIES": "127.0.0.1",
            "GINKGO_SECRET_KEY": "of-the-trial-" * 5,
            "DJANGO_SETTINGS_MODULE": "ginkgo_site.settings",
            "PYTHONUNBUFFERED": "1",
        }

    def manage(self, version: Version, *words: str, is_checked: bool = True) -> str:
        """Run a command of one of the versions."""
        ended = subprocess.run(
            [version.python, "manage.py", *words], cwd=version.checkout,
            env=self.environment() | {"PYTHONPATH": str(version.checkout)},
            capture_output=True, text=True,
        )  # fmt: skip
        if is_checked and ended.returncode != 0:
            raise AssertionError(f"{version.name} manage.py {words[0]}: {ended.stderr}")
        return (ended.stdout if is_checked else ended.stdout + ended.stderr).strip()

    def start_nodes(self, names: tuple[str, ...], version: Version) -> None:
        """Start daemons, and wait until they have registered."""
        secrets = {"DATABASE_URL", "GINKGO_SECRET_KEY", "DJANGO_SETTINGS_MODULE"}
        for name in names:
            token = json.loads(self.ask("POST", "/api/node-tokens/", {"node": name}))["token"]
            argv = ["-m", "scheduling.node_daemon", "--name", name, "--server", self.url]
            argv += ["--capacity", "16"]
            environment = {k: v for k, v in self.environment().items() if k not in secrets}
            environment["GINKGO_NODE_TOKEN"] = token
            log = self.home / "logs" / f"{name}.log"
            self.units[name] = Unit(name, argv, environment, log)
            self.units[name].start(version)
        self.wait_for(lambda: all(map(self.is_alive, names)), f"{', '.join(names)} register")

    def ask(self, method: str, path: str, body: dict[str, Any]) -> str:
        """Send a request that has to be accepted, again while nobody answers. Return the text."""
        until = time.monotonic() + LIMIT_S
        while True:
            status, text = call(self.url, self.token, method, path, body)
            if 0 < status < 300 or (status == 409 and path == "/api/portfolios/"):
                return text
            assert status == 0 or status >= 500, f"{method} {path}: {status} {text}"
            assert time.monotonic() < until, f"{method} {path}: {status} {text}"

    # --- steps --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def stage(self, what: str) -> Iterator[None]:
        """Do the block under load; then every portfolio has to commit."""
        with self.commits.measured(what):
            yield
            self.commits.wait_until_all_commit(LIMIT_S)
        for unit in self.units.values():
            assert unit.process is not None
            code = unit.process.poll()
            assert code is None, f"{unit.name} has ended with {code}: {unit.log}"

    def let_run(self) -> None:
        time.sleep(self.seconds)

    def replace_control_plane(self, version: Version) -> None:
        """Restart web processes, watcher and worker, each once the one before works."""
        for name in (*WEBS, "watcher", "worker"):
            self.units[name].end()
            self.units[name].start(version)
            if name in WEBS:
                self.wait_until_ready(name)
                time.sleep(3)  # until HAProxy sends it requests

    def replace_node(self, name: str, version: Version) -> None:
        """Drain the node, restart its daemon, and let it run portfolios again."""
        self.ask("POST", f"/api/nodes/{name}/drain/", {"until_return": True})
        self.wait_for(lambda: not self.rows(_OWNED, name), f"{name} is empty")
        ((registrations,),) = self.rows(_REGISTRATIONS, name)
        self.units[name].end()
        self.units[name].start(version)
        self.wait_for(
            lambda: self.is_alive(name) and self.rows(_REGISTRATIONS, name)[0][0] > registrations,
            f"{name} is back",
        )

    def raise_floor(self, version: Version) -> None:
        """Raise every epoch, as after a restore, while everything runs."""
        self.manage(version, "raise_epoch_floor", "--reason", "trial")
        self.wait_for(
            lambda: all(self.is_alive(name) for name in self.nodes), "all nodes register again"
        )
        self.let_run()

    # --- what is read -------------------------------------------------------------------------

    @property
    def nodes(self) -> list[str]:
        return [name for name in list(self.units) if name in (*OLD_NODES, *NEW_NODES)]

    def rows(self, text: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.server.admin_url, autocommit=True) as session:
            return session.execute(text.encode(), values or None).fetchall()

    def is_alive(self, name: str) -> bool:
        found = self.rows("SELECT status = 'alive' FROM scheduling_node WHERE name = %s", name)
        return found == [(True,)]

    def wait_until_ready(self, web: str) -> None:
        address = f"http://127.0.0.1:{self.ports[web]}"
        self.wait_for(lambda: call(address, "", "GET", "/api/readyz/")[0] == 200, f"{web} is ready")

    def wait_for(self, holds: Any, what: str) -> None:
        until = time.monotonic() + LIMIT_S
        while not holds():
            if time.monotonic() > until:
                raise AssertionError(f"not within {LIMIT_S:g} s: {what}; logs: {self.home}/logs")
            time.sleep(0.1)

    def check(self) -> None:
        """Say what nodes and handoffs came to, and verify every portfolio."""
        self.wait_for(lambda: self.rows(_OPEN) == [(0,)], "all handoffs end")
        self.commits.wait_until_all_commit(LIMIT_S)
        for kind, state, found in self.rows(_HANDOFFS):
            say(f"handoffs: {found} {kind} {state}")
        for line in self.rows(_NOT_DONE):
            say(f"  {line}")
        lost = self.rows("SELECT reason FROM scheduling_event WHERE kind = 'node_lost'")
        say(f"nodes lost: {len(lost)} {lost or ''}")
        tracebacks = {
            log.name: found
            for log in sorted((self.home / "logs").glob("*.log"))
            if (found := log.read_text(errors="replace").count("Traceback (most recent call"))
        }
        say(f"tracebacks in logs: {tracebacks or 0}")
        violations = history_violations(lambda text: self.rows(text))
        verified = self.manage(self.new, "verify_portfolio", "--all", "--full", is_checked=False)
        say(verified)
        fine = verified.endswith("portfolios are identical.")
        if violations or lost or tracebacks or not fine:
            kept = Path(tempfile.mkdtemp(prefix="ginkgo-versions-logs-"))
            shutil.copytree(self.home / "logs", kept, dirs_exist_ok=True)
            raise AssertionError(f"not as it should be: {violations}; logs: {kept}")

    def end(self) -> None:
        """End all processes: nodes, then the control plane, then the servers."""
        if self.load is not None:
            self.load.stop()
        for unit in reversed(list(self.units.values())):
            with contextlib.suppress(subprocess.TimeoutExpired):
                unit.end()
        if self.haproxy is not None:
            self.haproxy.kill()
            self.haproxy.wait()
        self.server.stop()


_OWNED = """
SELECT 1 FROM scheduling_run r JOIN scheduling_node n ON n.id = r.node_id WHERE n.name = %s
"""
_REGISTRATIONS = "SELECT registrations FROM scheduling_node WHERE name = %s"
_OPEN = """
SELECT count(*) FROM scheduling_handoff
WHERE state IN ('requested', 'preparing', 'draining', 'activating')
"""
_HANDOFFS = "SELECT kind, state, count(*) FROM scheduling_handoff GROUP BY 1, 2 ORDER BY 1, 2"
_NOT_DONE = """
SELECT kind, state, reason, count(*) FROM scheduling_handoff WHERE state <> 'done'
GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 20
"""


class Load(threading.Thread):
    """Moves and reloads a portfolio every half second, as impatient operators would."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(daemon=True)
        self._trial = trial
        self._random = random.Random(trial.seed)
        self._stopped = threading.Event()
        self.answers: collections.Counter[str] = collections.Counter()

    def run(self) -> None:
        """Until it is stopped."""
        names = [f"trader-{number}" for number in range(len(SYMBOLS))]
        while not self._stopped.wait(0.5):
            path = f"/api/portfolios/{self._random.choice(names)}/"
            body: dict[str, Any]
            match self._random.randrange(3):
                case 0:
                    target = self._random.choice(self._trial.nodes)
                    body = {"target_node": target, "reason": "trial"}
                    self._count("move", "POST", f"{path}migrate/", body)
                case 1:
                    self._count("reload", "POST", f"{path}reload/", {})
                case _:
                    quantity = str(self._random.randrange(1, 100))
                    body = {"config": {"fast": 2, "slow": 5, "quantity": quantity}}
                    self._count("change", "PATCH", path, body)

    def _count(self, what: str, method: str, path: str, body: dict[str, Any]) -> None:
        status, text = call(self._trial.url, self._trial.token, method, path, body)
        code = ""
        if status >= 400:
            with contextlib.suppress(ValueError):
                code = f" {json.loads(text).get('code', '')}"
        self.answers[f"{what} {status}{code}"] += 1

    def stop(self) -> None:
        """End with the request that is on its way."""
        self._stopped.set()
        if self.is_alive():
            self.join()

    def summary(self) -> str:
        """Answers by what was asked."""
        return ", ".join(f"{found} {what}" for what, found in sorted(self.answers.items()))


def call(
    address: str, token: str, method: str, path: str, body: dict[str, Any] | None = None
) -> tuple[int, str]:
    """Return status and text of an answer; 0 if there is none."""
    request = urllib.request.Request(
        address + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError as error:
        return 0, str(error)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def command(*words: str) -> None:
    ended = subprocess.run(words, capture_output=True, text=True)
    if ended.returncode != 0:
        raise AssertionError(f"{' '.join(words)} failed: {ended.stdout}{ended.stderr}")


def say(sentence: str) -> None:
    print(sentence, flush=True)


if __name__ == "__main__":
    main()
