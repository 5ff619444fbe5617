"""The files in deploy/ start the processes that bin/up starts, with the same options."""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict

from ginkgo_site.launcher.web import web_command
from scheduling.gateway.request_bodies import MAX_COMMIT_BODY

ROOT = Path(__file__).parents[3]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


def unit(path: Path) -> configparser.SectionProxy:
    """Return the section [Service] of a unit."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(path.read_text(encoding="utf-8"))
    return parser["Service"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_units_end_only_the_main_process_and_restart(path: Path) -> None:
    service = unit(path)
    assert (service["KillMode"], service["Restart"]) == ("mixed", "always")
    assert service["User"] in ("ginkgo", "ginkgo-node")
    assert int(service["TimeoutStopSec"]) >= 20


def test_web_unit_has_the_options_of_the_launcher() -> None:
    words = shlex.split(unit(ROOT / "deploy/systemd/ginkgo-web@.service")["ExecStart"])
    assert words[1:] == web_command("127.0.0.1", "%i")[1:]


def test_each_process_of_the_control_plane_has_a_unit() -> None:
    started = " ".join(unit(path)["ExecStart"] for path in UNITS)
    words = ("ginkgo_site.asgi:application", "run_watcher", "qcluster", "scheduling.node_daemon")
    assert [word for word in words if word not in started] == []


def test_proxies_let_the_largest_body_pass() -> None:
    text = (ROOT / "deploy/nginx.conf").read_text(encoding="utf-8")
    found = re.search(r"client_max_body_size (\d+)m;", text)
    assert found is not None
    assert int(found[1]) << 20 > MAX_COMMIT_BODY


def test_a_promotion_by_patroni_loses_no_commit_and_its_times_fit() -> None:
    text = (ROOT / "deploy/patroni.yml").read_text(encoding="utf-8")
    shared = yaml.safe_load(text)["bootstrap"]["dcs"]
    assert shared["synchronous_mode"] is True
    # Of Patroni: otherwise a primary that renews late demotes itself.
    assert shared["ttl"] >= shared["loop_wait"] + 2 * shared["retry_timeout"]


def test_patroni_may_connect_to_the_server_of_its_own_host() -> None:
    server = yaml.safe_load((ROOT / "deploy/patroni.yml").read_text(encoding="utf-8"))["postgresql"]
    replicator = server["authentication"]["replication"]["username"]
    for database, user in (("all", "all"), ("replication", replicator)):
        assert f"host {database} {user} 127.0.0.1/32 scram-sha-256" in server["pg_hba"]


def test_a_shell_reads_the_variables_as_systemd_does() -> None:
    example = ROOT / "deploy/ginkgo.env.example"
    script = 'set -a; . "$1"; exec env -0'
    shell = subprocess.run(
        ["sh", "-c", script, "sh", str(example)], capture_output=True, env={}, check=True
    )
    read = dict(line.split("=", 1) for line in shell.stdout.decode().split("\0") if line)
    (line,) = re.findall("^DATABASE_URL=(.*)$", example.read_text(encoding="utf-8"), re.MULTILINE)
    assert read["DATABASE_URL"] == line.strip("'")
    assert conninfo_to_dict(read["DATABASE_URL"])["keepalives_count"] == "3"
    assert read["GINKGO_HTTPS"] == "yes"


def test_no_example_has_a_secret() -> None:
    for path in (ROOT / "deploy").glob("*.example"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith(("GINKGO_SECRET_KEY", "GINKGO_ENCRYPTION_KEYS")):
                assert line.endswith("="), f"{path.name}: {line}"
