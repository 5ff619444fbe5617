#!/usr/bin/env python3
"""Run two versions side by side on one installation, under load.

OLD is a commit of this repository. An installation starts in this version: PostgreSQL, HAProxy, two
web processes, watcher, worker and three nodes, with portfolios that trade and are moved and
reloaded all the time. Nodes of this checkout join; the tables are migrated; the control plane
becomes this checkout's, process by process, with the old nodes; the epoch floor is raised; the
control plane goes back to OLD on the new tables, with nodes of both; the floor is raised again;
then everything becomes this checkout's. At the end every portfolio is verified. The trial prints
the longest times between two commits of a portfolio, and how nodes and handoffs ended.

OLD gets a worktree in a folder that is deleted, and packages of its own if it pins others.
Needs HAProxy, and the packages of this checkout:

    PYTHONPATH=. .venv/bin/python deploy/trials/two_versions.py OLD
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from commits import Commits
from load import SYMBOLS, Load, call
from machine import CHECKOUT, command, free_ports, say
from versions import LIMIT_S, Unit, Version, checked_out

from chaos.checkers.history import history_violations
from ginkgo_site.launcher.postgres import EmbeddedPostgres
from ginkgo_site.launcher.spawn import spawn
from ginkgo_site.launcher.web import web_command

WEBS = ("web-1", "web-2")
OLD_NODES = ("old-1", "old-2", "old-3")
NEW_NODES = ("new-1", "new-2")
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
        """Go through all stages, from the old version alone to the new one alone."""
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
        self.server.start()
        self.server.wait_until_ready()
        self.manage(self.old, "migrate", "--verbosity=0")
        self.manage(self.old, "seed_demo")
        words = "create_api_token load --create --role operator"
        self.token = self.manage(self.old, *words.split())
        logs = self.home / "logs"
        for name, port in self.ports.items():
            _python, *argv = web_command("127.0.0.1", port)  # a Unit has its version's Python
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
                death_signal=signal.SIGTERM,
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
        """Return the variables of control-plane processes and commands."""
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
        """Run a command of one of the versions. Return what it printed; if it fails, raise
        AssertionError, unless `is_checked` is False."""
        environment = self.environment() | {"PYTHONPATH": str(version.checkout)}
        argv = (version.python, "manage.py", *words)
        return command(*argv, check=is_checked, cwd=version.checkout, env=environment)

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
        """Send a request until it is answered. Return the answer's text. Raise AssertionError if it
        is refused, or not answered within LIMIT_S."""
        until = time.monotonic() + LIMIT_S
        while True:
            status, text = call(self.url, self.token, method, path, body)
            # 409: an earlier try, whose answer was lost, has created the portfolio.
            if 0 < status < 300 or (status == 409 and path == "/api/portfolios/"):
                return text
            assert status == 0 or status >= 500, f"{method} {path}: {status} {text}"
            late = f"{method} {path} failed for {LIMIT_S:g} s, the last answer: {status} {text}"
            assert time.monotonic() < until, late

    # --- steps --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def stage(self, what: str) -> Iterator[None]:
        """Do the block under load; then every portfolio has to commit, and every process run."""
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
        """Restart web processes, watcher and worker in `version`, one after the other.
        A web process has to be ready, and to get requests, before the next one is ended."""
        for name in (*WEBS, "watcher", "worker"):
            self.units[name].end()
            self.units[name].start(version)
            if name in WEBS:
                self.wait_until_ready(name)
                time.sleep(3)  # until HAProxy sends it requests

    def replace_node(self, name: str, version: Version) -> None:
        """Drain the node until it is empty, and restart its daemon in `version`."""
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
        """Raise the epoch floor by a command of `version`, as after a restore.
        All processes go on meanwhile. Wait until all nodes are alive again."""
        self.manage(version, "raise_epoch_floor", "--reason", "trial")
        self.wait_for(
            lambda: all(self.is_alive(name) for name in self.nodes), "all nodes register again"
        )
        self.let_run()

    # --- what is read -------------------------------------------------------------------------

    @property
    def nodes(self) -> list[str]:
        """The started nodes. `list` copies: the load generator reads while nodes are added."""
        return [name for name in list(self.units) if name in (*OLD_NODES, *NEW_NODES)]

    def rows(self, text: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query, run by the database's superuser."""
        with psycopg.connect(self.server.admin_url, autocommit=True) as session:
            return session.execute(text.encode(), values or None).fetchall()

    def is_alive(self, name: str) -> bool:
        found = self.rows("SELECT status = 'alive' FROM scheduling_node WHERE name = %s", name)
        return found == [(True,)]

    def wait_until_ready(self, web: str) -> None:
        address = f"http://127.0.0.1:{self.ports[web]}"
        self.wait_for(lambda: call(address, "", "GET", "/api/readyz/")[0] == 200, f"{web} is ready")

    def wait_for(self, holds: Any, what: str) -> None:
        """Wait until `holds()`. Raise AssertionError with `what` after LIMIT_S."""
        until = time.monotonic() + LIMIT_S
        while not holds():
            if time.monotonic() > until:
                raise AssertionError(
                    f"waited {LIMIT_S:g} s in vain for this: {what}; see {self.home}/logs"
                )
            time.sleep(0.1)

    def check(self) -> None:
        """Print how handoffs and nodes ended, and verify every portfolio."""
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
        are_identical = "Identical: " in verified
        if violations or lost or tracebacks or not are_identical:
            kept = Path(tempfile.mkdtemp(prefix="ginkgo-versions-logs-"))
            shutil.copytree(self.home / "logs", kept, dirs_exist_ok=True)
            raise AssertionError(
                f"violations of the history: {violations}; lost nodes, tracebacks and differences"
                f" are printed above; logs: {kept}"
            )

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


if __name__ == "__main__":
    main()
