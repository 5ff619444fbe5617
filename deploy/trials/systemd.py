#!/usr/bin/env python3
"""Run the units of deploy/systemd/ under a real systemd and break them: deploy/trials/systemd.py

systemd is PID 1 of namespaces of its own, over a copy of this machine's files that is thrown away:
nothing outside changes and no port is taken. It runs PostgreSQL, HAProxy with TLS, two web
processes, watcher, worker and three nodes, each with the file of deploy/ and under its user. Then
units are killed, hung and restarted one by one, and all are upgraded. For each step, the longest
time between two commits of a portfolio is printed. Arguments choose steps: kill, hang, restart,
upgrade, alerts; the name of a unit chooses what is killed or restarted, and a step may be repeated:
`deploy/trials/systemd.py kill kill ginkgo-node@node-1`. Needs Linux with cgroup v2, and

    apt-get install systemd dbus haproxy postgresql openssl iproute2

With `prometheus` and `prometheus-alertmanager` the alerts are tried too (alerting.py).
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from commits import Commits
from machine import CHECKOUT, command, say

HOST = "ginkgo.example.org"
HOME = Path("/opt/ginkgo")
PYTHON = HOME / ".venv/bin/python"
OUT = Path("/trial")  #: the folder that the trial shares with the process outside
NODES = ("node-1", "node-2", "node-3")
WEBS = ("ginkgo-web@8001", "ginkgo-web@8002")
UNITS = (*WEBS, "ginkgo-watcher", "ginkgo-worker", *(f"ginkgo-node@{name}" for name in NODES))
DATABASE = "postgresql://ginkgo@127.0.0.1:5432/ginkgo"
PACKAGES = ("ginkgo_site", "portfolios", "scheduling")
STEPS = ("kill", "hang", "restart", "upgrade", "alerts")

POSTGRES = """
[Service]
Type=notify
User=postgres
ExecStart={bin}/postgres -D /srv/postgres -h 127.0.0.1 -k /tmp
KillSignal=SIGINT
"""
TRIAL = """
[Unit]
After=dbus.service systemd-journald.service
Wants=dbus.service systemd-journald.service
[Service]
Type=exec
ExecStart={python} {script} --inside
StandardOutput=append:/trial/out
StandardError=append:/trial/out
"""


def main() -> None:
    match sys.argv[1:]:
        case ["--prepare", folder]:
            become_systemd(Path(folder))
        case ["--inside"]:
            run_and_report()
        case [*words] if set(words) <= {*STEPS, *UNITS}:
            start_outside(words)
        case _:
            sys.exit(__doc__)


# --- outside -------------------------------------------------------------------------------------


def start_outside(words: list[str]) -> None:
    """Start systemd in its namespaces, and print what the trial writes until it ends."""
    if os.geteuid() != 0:
        sys.exit("Namespaces need root: run this with sudo.")
    for number in (signal.SIGTERM, signal.SIGHUP):  # as at Ctrl-C, nothing is left running
        signal.signal(number, lambda *_: sys.exit("the trial was ended"))
    with tempfile.TemporaryDirectory(prefix="ginkgo-systemd-") as folder:
        out, end = Path(folder, "out"), Path(folder, "end")
        out.touch()
        steps = [word for word in words if word in STEPS] or STEPS
        units = [word for word in words if word in UNITS] or UNITS
        Path(folder, "chosen.json").write_text(json.dumps({"steps": steps, "units": units}))
        namespaces = [f"--{name}" for name in ("mount", "pid", "cgroup", "net", "ipc", "uts")]
        argv = ["unshare", *namespaces, "--fork", "--kill-child", sys.executable, __file__]
        systemd = subprocess.Popen([*argv, "--prepare", folder])
        try:
            with out.open() as lines:
                while systemd.poll() is None and not end.exists():
                    print(lines.read(), end="", flush=True)
                    time.sleep(0.2)
                print(lines.read(), end="", flush=True)
        finally:
            systemd.kill()  # and with it, by --kill-child, PID 1 and all others
            systemd.wait()
        sys.exit(int(end.read_text()) if end.exists() else "systemd ended before the trial did")


# --- as PID 1 ------------------------------------------------------------------------------------


def become_systemd(folder: Path) -> None:
    """Make `folder`/root, a copy of this machine's files, the root; install; become systemd."""
    root = folder / "root"
    root.mkdir()
    command("mount", "-t", "tmpfs", "-o", "size=3g,mode=755", "tmpfs", str(root))
    for name in ("upper", "work", "merged"):
        (root / name).mkdir()
    layers = f"lowerdir=/,upperdir={root}/upper,workdir={root}/work"
    merged = root / "merged"
    command("mount", "-t", "overlay", "overlay", "-o", layers, str(merged))
    for name in ("trial", "opt/ginkgo", "old", "srv/postgres"):
        (merged / name).mkdir(parents=True, exist_ok=True)
    command("mount", "--bind", str(folder), str(merged / "trial"))
    command("mount", "--bind", f"{merged}{CHECKOUT}", str(merged / "opt/ginkgo"))
    os.chdir(merged)
    command("pivot_root", ".", "old")
    os.chroot(".")
    mount_system()
    command("umount", "--lazy", "/old")
    make_python_reachable()
    write_installation()
    os.environ.clear()
    os.environ.update(container="ginkgo-trial", PATH="/usr/sbin:/usr/bin:/sbin:/bin")
    systemd = "/usr/lib/systemd/systemd"
    os.execv(systemd, [systemd, "--unit=ginkgo-trial.service", "--log-level=warning"])


def mount_system() -> None:
    """Mount /proc, /sys, /dev, /run and /tmp, with the kernel's settings read-only.

    Bring up the loopback interface, and drop the units that Ginkgo's do not require.
    """
    command("mount", "-t", "proc", "proc", "/proc")
    command("mount", "--bind", "/proc/sys", "/proc/sys")
    command("mount", "-o", "remount,ro,bind", "/proc/sys")
    command("mount", "-t", "sysfs", "-o", "ro", "sysfs", "/sys")
    command("mount", "-t", "cgroup2", "none", "/sys/fs/cgroup")
    command("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/dev")
    devices = ("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9)
    for name, major, minor in (*devices, ("tty", 5, 0)):
        os.mknod(f"/dev/{name}", 0o020666, os.makedev(major, minor))
        os.chmod(f"/dev/{name}", 0o666)
    for kind, options, name in (
        ("tmpfs", "mode=1777", "shm"),
        ("devpts", "newinstance,ptmxmode=666,mode=620", "pts"),
        ("mqueue", "rw", "mqueue"),
    ):
        Path("/dev", name).mkdir()
        command("mount", "-t", kind, "-o", options, kind, f"/dev/{name}")
    Path("/dev/ptmx").symlink_to("pts/ptmx")
    command("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    command("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/tmp")
    command("ip", "link", "set", "lo", "up")
    # Without `wants`, no unit starts but those that Ginkgo's units require: no udev, sysctl, login.
    for units in (Path("/etc/systemd/system"), Path("/usr/lib/systemd/system")):
        for wants in units.glob("*.wants"):
            shutil.rmtree(wants)
    command("systemctl", "mask", "tmp.mount", "systemd-networkd-wait-online.service")


def make_python_reachable() -> None:
    """If the interpreter is in a home folder, which units cannot see, mount it at /opt/python."""
    interpreter = (CHECKOUT / ".venv/bin/python").resolve()
    if interpreter.is_relative_to("/root") or interpreter.is_relative_to("/home"):
        base = interpreter.parents[1]
        Path("/opt/python").mkdir()
        command("mount", "--bind", str(base), "/opt/python")
        venv = (CHECKOUT / ".venv").resolve()
        (venv / "bin/python3").unlink()
        (venv / "bin/python3").symlink_to(f"/opt/python/bin/{interpreter.name}")
        settings = (venv / "pyvenv.cfg").read_text()
        (venv / "pyvenv.cfg").write_text(settings.replace(str(base), "/opt/python"))
        # The interpreter would look for libpython where it was built, in the home folder.
        for_all = Path("/etc/systemd/system/service.d")
        for_all.mkdir(exist_ok=True)
        libraries = "[Service]\nEnvironment=LD_LIBRARY_PATH=/opt/python/lib\n"
        (for_all / "trial.conf").write_text(libraries)


def write_installation() -> None:
    """Set up one machine as docs/deploy.md says, with a PostgreSQL cluster of the trial."""
    deploy, etc = HOME / "deploy", Path("/etc/ginkgo")
    etc.mkdir(exist_ok=True)
    for name in ("ginkgo", "ginkgo-node"):
        command("useradd", "--system", name)
    environment = {
        "DATABASE_URL": DATABASE,
        "GINKGO_SECRET_KEY": secrets.token_urlsafe(48),
        "GINKGO_ENCRYPTION_KEYS": secrets.token_urlsafe(32) + "=",  # base64 with its padding
        # 127.0.0.1: Prometheus asks each web process by its address.
        "GINKGO_ALLOWED_HOSTS": f"{HOST},127.0.0.1",
        "GINKGO_WEB_HOST": "127.0.0.1",
        "GINKGO_TRUSTED_PROXIES": "127.0.0.1",
    }
    write_private(etc / "ginkgo.env", fill_in(deploy / "ginkgo.env.example", environment))
    variables = {
        "GINKGO_SERVER": f"https://{HOST}",
        "GINKGO_NODE_OPTIONS": "--ca /etc/ginkgo/ca.pem",
    }
    write_private(etc / "node.env", fill_in(deploy / "node.env.example", variables))
    openssl = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -out /etc/ginkgo/ca.pem"
        f" -keyout /etc/ginkgo/ca.key -subj /CN={HOST} -addext subjectAltName=DNS:{HOST}"
    )
    command(*openssl.split())
    os.chmod(etc / "ca.pem", 0o644)
    os.chmod(etc, 0o755)
    pem = (etc / "ca.pem").read_text() + (etc / "ca.key").read_text()
    write_private(Path("/etc/haproxy/ginkgo.pem"), pem)
    # This machine may not allow HAProxy the files for so many connections.
    text = (deploy / "haproxy.cfg").read_text().replace("maxconn 20000", "maxconn 200")
    lines = text.splitlines()
    lines = [line for line in lines if not line.strip().startswith("server ")]
    lines += [f"    server web-{port} 127.0.0.1:{port}" for port in (8001, 8002)]
    Path("/etc/haproxy/haproxy.cfg").write_text("\n".join(lines) + "\n")
    with Path("/etc/hosts").open("a") as hosts:
        hosts.write(f"127.0.0.1 {HOST}\n")
    system = Path("/etc/systemd/system")
    for unit in (deploy / "systemd").glob("*.service"):
        shutil.copy(unit, system)
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    (system / "postgres-trial.service").write_text(POSTGRES.format(bin=programs))
    trial = TRIAL.format(python=PYTHON, script=HOME / "deploy/trials/systemd.py")
    (system / "ginkgo-trial.service").write_text(trial)
    shutil.chown("/srv/postgres", "postgres")
    initdb = f"{programs}/initdb -D /srv/postgres -A trust -E UTF8 --locale=C"
    command("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *initdb.split())


def fill_in(example: Path, values: dict[str, str]) -> str:
    """Return the lines of an example with these values. Each has to be in it."""
    lines = example.read_text().splitlines()
    for name, value in values.items():
        (index,) = (n for n, line in enumerate(lines) if line.startswith(f"{name}="))
        lines[index] = f"{name}='{value}'"
    return "\n".join(lines) + "\n"


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    path.touch(mode=0o600)
    path.write_text(text)


# --- inside --------------------------------------------------------------------------------------


def run_and_report() -> None:
    """Try the units; leave the exit code for the process outside: 0, or 1 after a printed log."""
    code = 1
    try:
        try_units()
        code = 0
    except BaseException as error:
        say(f"FAILED: {type(error).__name__}: {error}")
        newest = ("journalctl", "--no-pager", "-n", "80", "-o", "short-monotonic")
        say(command(*newest, check=False))
    finally:
        (OUT / "end").write_text(str(code))


def try_units() -> None:
    """Start the installation as docs/deploy.md says, then break one process after the other."""
    environment = read_environment()
    command(str(PYTHON), "-m", "compileall", "-q", *(str(HOME / name) for name in PACKAGES))
    command("systemctl", "start", "postgres-trial")
    for words in ("createuser --no-superuser ginkgo", "createdb --owner=ginkgo ginkgo"):
        command(*words.split(), "--host=127.0.0.1", "--username=postgres")
    manage(environment, "migrate", "--verbosity=0")
    manage(environment, "seed_demo")
    for name in NODES:
        token = Path(f"/etc/ginkgo/{name}.token")
        write_private(token, manage(environment, "create_node_token", name))
        shutil.chown(token, "ginkgo-node")
    words = "create_api_token prometheus --create --role viewer --scope read"
    viewer = manage(environment, *words.split())
    write_private(Path("/etc/ginkgo/viewer.token"), viewer)
    began = time.monotonic()
    command("systemctl", "start", "haproxy", *UNITS)
    say(f"{len(UNITS)} units and HAProxy started after {time.monotonic() - began:.1f} s")
    commits = Commits(DATABASE)
    commits.wait_until_all_commit(120)
    print(f"all {len(commits.newest)} portfolios commit after {time.monotonic() - began:.1f} s")
    for unit in UNITS:
        state, user, watchdog = (show(unit, p) for p in ("ActiveState", "User", "WatchdogUSec"))
        print(f"  {unit}: {state}, user {user}, watchdog {watchdog}")
    time.sleep(20)  # let the balancer finish its moves
    chosen = json.loads((OUT / "chosen.json").read_text())
    for step in chosen["steps"]:
        match step:
            case "kill":
                for unit in chosen["units"]:
                    break_unit(commits, "killed", unit, signal.SIGKILL, 60)
            case "hang":
                for unit in (WEBS[0], "ginkgo-watcher", f"ginkgo-node@{NODES[0]}"):
                    break_unit(commits, "hung", unit, signal.SIGSTOP, 150)
            case "restart":
                for unit in chosen["units"]:
                    with commits.measured(f"systemctl restart {unit}"):
                        command("systemctl", "restart", unit)
                        time.sleep(5)  # for pauses that follow the restart
            case "upgrade":
                try_upgrade(environment, commits)
            case "alerts":
                try_alerts(environment)
    commits.wait_until_all_commit(60)
    say(manage(environment, "verify_portfolio", "--all"))
    url = ("--url", f"https://{HOST}", "--ca", "/etc/ginkgo/ca.pem")
    say(manage(environment, "deploy_check", *url, check=False))


def try_upgrade(environment: dict[str, str], commits: Commits) -> None:
    """Upgrade the host: each unit starts anew once, in the order of docs/deploy.md.

    For comparison nothing happens for a while, and then each portfolio is reloaded and migrated.
    """
    with commits.measured("nothing, for 30 s"):
        time.sleep(30)
    for verb in ("reload", "migrate"):
        with commits.measured(f"{verb} of each portfolio, one after the other"):
            for name in sorted(commits.newest):
                manage(environment, f"{verb}_portfolio", name, "--wait", "60")
    before = {unit: (show(unit, "MainPID"), show(unit, "NRestarts")) for unit in UNITS}
    with commits.measured("bin/upgrade"):
        code = run_with_times([str(HOME / "bin/upgrade")], environment)
        commits.wait_until_all_commit(60)
    if code != 0:
        raise AssertionError(f"bin/upgrade ended with exit status {code}, expected 0")
    for unit, (pid, restarts) in before.items():
        if show(unit, "MainPID") == pid or int(show(unit, "NRestarts")) != int(restarts) + 1:
            now = f"pid {show(unit, 'MainPID')} and {show(unit, 'NRestarts')} restarts"
            raise AssertionError(
                f"bin/upgrade did not start {unit} anew exactly once: pid {pid} and {restarts}"
                f" restarts before, {now} after"
            )
    order = sorted(UNITS, key=lambda unit: int(show(unit, "ExecMainStartTimestampMonotonic")))
    say(f"started anew once each: {', '.join(order)}")
    # Without the ports of the web processes, which are restarted in the random order of their ids.
    if [unit.partition("@8")[0] for unit in order] != [unit.partition("@8")[0] for unit in UNITS]:
        raise AssertionError(f"the units started in the order {order}, not in {UNITS}")


def run_with_times(words: list[str], environment: dict[str, str]) -> int:
    """Run a command, and print each of its lines with the second in which it came."""
    began = time.monotonic()
    unbuffered = environment | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        words, cwd="/", env=unbuffered, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        for line in running.stdout or ():
            say(f"{time.monotonic() - began:7.1f} s  {line.rstrip()}")
    return running.returncode


def break_unit(
    commits: Commits, what: str, unit: str, number: signal.Signals, limit_s: float
) -> None:
    """Send the main process a signal, wait for another that works, and print the longest pause.
    Raise AssertionError if the unit is not active with another process within `limit_s`."""
    pid, began = int(show(unit, "MainPID")), time.monotonic()
    with commits.measured(f"{unit} {what}"):
        os.kill(pid, number)
        # Its MainPID is 0 while it has no process.
        while show(unit, "MainPID") in (str(pid), "0") or show(unit, "ActiveState") != "active":
            if time.monotonic() - began > limit_s:
                raise AssertionError(
                    f"{unit} was not active with a pid other than {pid} within {limit_s:g} s of"
                    f" {number.name}: it is {show(unit, 'ActiveState')} with pid"
                    f" {show(unit, 'MainPID')}"
                )
            time.sleep(0.1)
        took_s = time.monotonic() - began
        print(f"{unit} {what}: another process after {took_s:.1f} s", end="; ", flush=True)
        time.sleep(12)  # for what the other units do about it, such as a failover
        commits.wait_until_all_commit(60)


def try_alerts(environment: dict[str, str]) -> None:
    """Stop watcher and worker: a web process raises the alert and sends it; so does Prometheus."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"json://127.0.0.1:{server.server_port}/hook"
        manage(environment, "alert_channel", "set", "trial", given=address)
        alerting = None
        if shutil.which("prometheus") and shutil.which("prometheus-alertmanager"):
            script = str(HOME / "deploy/trials/alerting.py")
            words = [str(PYTHON), script, "--wait-for", "GinkgoWatcherAway"]
            words += ["--url", "http://127.0.0.1:8001", "--url", "http://127.0.0.1:8002"]
            alerting = subprocess.Popen([*words, "--token-file", "/etc/ginkgo/viewer.token"])
            time.sleep(20)  # until Prometheus has read the metrics once
        else:
            print("Prometheus and Alertmanager are not installed and were not tried")
        command("systemctl", "stop", "ginkgo-watcher", "ginkgo-worker")
        began = time.monotonic()
        title = ""
        while "no watcher" not in title:
            title = Hook.received.get(timeout=120)
        say(f"{time.monotonic() - began:.1f} s after watcher and worker were stopped: {title}")
        if alerting is not None and alerting.wait() != 0:
            raise AssertionError(
                f"alerting.py, which waits for GinkgoWatcherAway, ended with exit status"
                f" {alerting.returncode}, not 0"
            )
        command("systemctl", "start", "ginkgo-watcher", "ginkgo-worker")
        while "over: no watcher" not in title:
            title = Hook.received.get(timeout=120)
        say(f"once they are back: {title}")
        server.shutdown()


class Hook(BaseHTTPRequestHandler):
    """Keeps the titles of the alerts that Ginkgo sends."""

    received: queue.Queue[str] = queue.Queue()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.received.put(body["title"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *given: object) -> None:
        """Print no line for each request."""


def read_environment() -> dict[str, str]:
    """Return this process's variables, with those that a shell reads from ginkgo.env."""
    shell = ["sh", "-c", "set -a; . /etc/ginkgo/ginkgo.env; exec env -0"]
    text = subprocess.run(shell, capture_output=True, text=True, check=True).stdout
    return dict(line.split("=", 1) for line in text.split("\0") if line)


def manage(environment: dict[str, str], *words: str, given: str = "", check: bool = True) -> str:
    """Run a command of manage.py with `given` on its input. Return and raise as `command`."""
    options = {"cwd": HOME, "env": environment, "input": given}
    return command(str(PYTHON), "manage.py", *words, check=check, **options)


def show(unit: str, name: str) -> str:
    """Return a property of a unit, as systemd has it."""
    words = ["systemctl", "show", "--value", "--property", name, unit]
    return subprocess.run(words, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
