"""The servers around Ginkgo: command lines, and configurations made from those in `deploy/`."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import yaml

from chaos.harness.many.layout import (
    PATRONI_PORT,
    POSTGRES,
    POSTGRES_PORT,
    REDIS_PORT,
    REPLICATION_PASSWORD,
    SUPERUSER_PASSWORD,
    WEB_PORT,
    WEBS,
    Layout,
)
from ginkgo_site.env import CHECKOUT

POSTGRES_PROGRAMS = Path("/usr/lib/postgresql/17/bin")
#: What has to be installed: program or file → Debian package.
INSTALLED = {
    "haproxy": "haproxy",
    "redis-server": "redis-server",
    "etcd": "etcd-server",
    "patroni": "patroni",
    # Without it Patroni ends at once: its package only recommends the client of etcd.
    "/usr/lib/python3/dist-packages/etcd/__init__.py": "python3-etcd",
    str(POSTGRES_PROGRAMS / "postgres"): "postgresql-17",
    "ip": "iproute2",
    "setpriv": "util-linux",
}


def missing() -> str:
    """Return a sentence on why this machine cannot run the fleet, or an empty text."""
    absent = [name for name in INSTALLED if not (shutil.which(name) or Path(name).is_file())]
    lacking = sorted({INSTALLED[name] for name in absent})
    if lacking:
        return (
            "The fleet `many` runs real servers, of which this machine lacks some: "
            f"apt-get install {' '.join(lacking)}"
        )
    if os.geteuid() != 0:
        return "The fleet `many` drops packets between network namespaces, which needs root."
    return ""


def prepare(layout: Layout) -> None:
    """Write the configurations, and make the folders of the PostgreSQL servers."""
    for server in POSTGRES:
        folder = _server_folder(layout, server)
        folder.mkdir(exist_ok=True)
        (folder / "patroni.yml").write_text(_patroni(layout, server), encoding="utf-8")
        for path in (folder, folder / "patroni.yml"):
            path.chmod(0o700)
            shutil.chown(path, "postgres", "postgres")
    (layout.home / "etcd").mkdir(mode=0o700, exist_ok=True)


def etcd(layout: Layout) -> list[str]:
    """The command line of etcd."""
    client, peer = f"http://{layout.etcd}", f"http://{layout.inner}:2380"
    return [
        *("etcd", "--name", "etcd-1", "--data-dir", str(layout.home / "etcd")),
        *("--listen-client-urls", client, "--advertise-client-urls", client),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
        *("--initial-cluster", f"etcd-1={peer}", "--log-level", "warn"),
    ]


def redis(layout: Layout) -> list[str]:
    """The command line of Redis."""
    return [
        *("redis-server", "--bind", layout.front, "--port", str(REDIS_PORT)),
        *("--save", "", "--protected-mode", "no", "--set-proc-title", "no"),
        *("--dir", str(layout.home)),
    ]


def patroni(layout: Layout, server: int) -> list[str]:
    """The command line of a Patroni, which starts its PostgreSQL."""
    return [
        *("ip", "netns", "exec", layout.postgres_space(server)),
        # A change of user clears the parent-death signal, so setpriv sets it again afterwards.
        *("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"),
        *("--pdeathsig=KILL", "patroni", str(_server_folder(layout, server) / "patroni.yml")),
    ]


def in_web_space(layout: Layout, web: int, argv: list[str]) -> list[str]:
    """The command line of a web process in its network namespace."""
    return ["ip", "netns", "exec", layout.web_space(web), *argv]


def haproxy(layout: Layout, host: str, port: int) -> list[str]:
    """Write a configuration of HAProxy that listens on `host:port`; return its command line."""
    file = layout.home / "haproxy.cfg"
    file.write_text(_haproxy(layout, host, port), encoding="utf-8")
    return ["haproxy", "-db", "-f", str(file)]


def _haproxy(layout: Layout, host: str, port: int) -> str:
    """deploy/haproxy.cfg without TLS, with the web processes of the layout."""
    lines = []
    for line in (CHECKOUT / "deploy" / "haproxy.cfg").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if words[:1] == ["bind"]:
            line = f"    bind {host}:{port}"
        elif words[:1] == ["maxconn"]:
            line = "    maxconn 2000"  # each takes two files: this user may not open 40,000
        elif words[:2] == ["http-check", "send"]:
            line = f"    http-check send meth GET uri /api/readyz/ hdr Host {host}"
        elif words[:1] == ["server"] or words[1:3] == ["set-header", "X-Forwarded-Proto"]:
            continue
        lines.append(line)
    lines += [f"    server web-{web} {layout.web_host(web)}:{WEB_PORT}" for web in WEBS]
    return "\n".join(lines) + "\n"


def _patroni(layout: Layout, server: int) -> str:
    """deploy/patroni.yml with the addresses of one server of the layout."""
    folder, host = _server_folder(layout, server), layout.postgres_host(server)
    shipped = (CHECKOUT / "deploy" / "patroni.yml").read_text(encoding="utf-8")
    config = yaml.safe_load(shipped)
    config["name"] = f"db-{server}"
    config["restapi"] = {
        "listen": f"{host}:{PATRONI_PORT}",
        "connect_address": f"{host}:{PATRONI_PORT}",
    }
    config["etcd3"] = {"hosts": [layout.etcd]}
    postgresql = config["postgresql"]
    postgresql |= {
        "listen": f"{host},127.0.0.1:{POSTGRES_PORT}",
        "connect_address": f"{host}:{POSTGRES_PORT}",
        "data_dir": str(folder / "data"),
        "bin_dir": str(POSTGRES_PROGRAMS),
        "pgpass": str(folder / "pgpass"),
        "parameters": {"unix_socket_directories": "", "shared_buffers": "64MB"},
    }
    users = postgresql["authentication"]
    users["superuser"]["password"] = SUPERUSER_PASSWORD
    users["replication"]["password"] = REPLICATION_PASSWORD
    users["rewind"]["password"] = REPLICATION_PASSWORD  # one for both: Patroni creates the users
    postgresql["pg_hba"] = [
        line.replace("10.0.0.0/8", layout.inner_network)
        for line in postgresql["pg_hba"]
        if not line.startswith("local")
    ]
    config["watchdog"] = {"mode": "off"}
    return str(yaml.safe_dump(config))


def _server_folder(layout: Layout, server: int) -> Path:
    return layout.home / f"pg-{server}"


def answers(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0
