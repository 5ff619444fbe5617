"""The chaos fleet `many`: its layout, and configurations derived from the shipped ones."""

from __future__ import annotations

import random
import shutil
import threading
import time
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import pytest
import yaml

from chaos.checkers.blast_radius import BlastRadius
from chaos.checkers.findings import Findings
from chaos.checkers.invariants import RunSample, Sample
from chaos.checkers.monitor import Monitor
from chaos.harness.many import servers
from chaos.harness.many.layout import POSTGRES, WEBS, Layout
from chaos.runner import run
from chaos.runner.fault_context import FaultContext
from chaos.runner.topology import SHORT_TIMES, Topology
from ginkgo_site.env import CHECKOUT
from ginkgo_site.launcher.supervised_process import Program, Service


def test_no_two_processes_share_an_address_and_names_fit_into_the_kernel(tmp_path: Path) -> None:
    layout = Layout(249, tmp_path)
    hosts = [layout.front, layout.inner]
    hosts += [f(web) for web in WEBS for f in (layout.web_host, layout.web_inner)]
    hosts += [layout.postgres_host(server) for server in POSTGRES]
    assert len(set(hosts)) == len(hosts) == 2 + 2 * len(WEBS) + len(POSTGRES)
    names = [layout.front_bridge, layout.inner_bridge]
    names += [layout.web_link(web) for web in WEBS]
    names += [layout.postgres_link(server) for server in POSTGRES]
    assert max(map(len, names)) <= 15
    assert all(layout.postgres_host(server) in layout.database_url for server in POSTGRES)


def test_haproxy_is_configured_as_shipped_but_for_tls_and_addresses(tmp_path: Path) -> None:
    argv = servers.haproxy(Layout(7, tmp_path), "127.0.0.1", 8000)
    made = Path(argv[-1]).read_text().splitlines()
    shipped = (CHECKOUT / "deploy" / "haproxy.cfg").read_text().splitlines()
    assert [line.strip() for line in made if line not in shipped] == [
        "maxconn 2000",
        "bind 127.0.0.1:8000",
        "http-check send meth GET uri /api/readyz/ hdr Host 127.0.0.1",
        "server web-1 10.231.7.11:8000",
        "server web-2 10.231.7.12:8000",
        "server web-3 10.231.7.13:8000",
    ]
    assert "shutdown-sessions" in "\n".join(made)


def test_patroni_is_configured_as_shipped_but_for_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "chown", lambda *_: None)  # the user may not exist here
    servers.prepare(Layout(7, tmp_path))
    made = yaml.safe_load((tmp_path / "pg-2" / "patroni.yml").read_text())
    shipped = yaml.safe_load((CHECKOUT / "deploy" / "patroni.yml").read_text())
    assert made["bootstrap"] == shipped["bootstrap"]
    assert made["bootstrap"]["dcs"]["synchronous_mode"] is True
    assert made["postgresql"]["connect_address"] == "10.232.7.22:5432"
    assert made["etcd3"]["hosts"] == ["10.232.7.1:2379"]
    assert "host all all 10.232.7.0/24 scram-sha-256" in made["postgresql"]["pg_hba"]
    assert "10.0.0.0/8" not in "".join(made["postgresql"]["pg_hba"])


def test_packages_of_missing_programs_and_files_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: name if name == "ip" else None)
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    assert servers.missing().endswith(
        "apt-get install etcd-server haproxy patroni postgresql-17 python3-etcd redis-server "
        "util-linux"
    )


def test_a_time_within_its_budget_is_measured_and_a_longer_one_reported(tmp_path: Path) -> None:
    found: list[str] = []
    context = FaultContext(
        Topology(tmp_path, SHORT_TIMES), random.Random(0), BlastRadius(), threading.Event(),
        lambda invariant, what, _: found.append(f"{invariant} {what}"),
    )  # fmt: skip
    began = time.monotonic()
    assert context.measure("done", lambda: True, 60, began)
    assert 0 <= context.measured["done"] < 60
    assert not context.measure("never", lambda: False, 0, began)
    assert found == ["fault not within 0 s: never (0 s from its beginning)"]
    assert list(context.measured) == ["done"]


def test_progress_lost_on_purpose_is_excused_once_and_a_second_loss_is_a_violation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    findings = Findings()
    monitor = Monitor(lambda: pytest.fail("nothing is asked"), findings)
    now = RunSample("ibm-sma", "node-1", "a", 5, 100, "running")
    rows = [now]
    columns = attrgetter("name", "node", "incarnation", "epoch", "last_seq", "phase")
    monkeypatch.setattr(monitor, "_ask", lambda *_: [(1, *columns(r), False, 0) for r in rows])
    monitor._take_sample()
    monitor.forget_progress()
    rows[:] = [replace(now, epoch=4, last_seq=90)]
    monitor._take_sample()
    assert findings.violations == []
    rows[:] = [replace(now, epoch=3, last_seq=80)]
    monitor._take_sample()
    assert [violation.invariant for violation in findings.violations] == ["I1", "I2"]
    assert isinstance(monitor.latest, Sample)


def test_line_of_the_launcher_about_an_ended_daemon_is_recognised(tmp_path: Path) -> None:
    said: list[str] = []
    service = Service("node-1", Program(["false"], {}, tmp_path / "log"), said.append)
    service.start(0.0)
    assert service.process is not None
    service.process.wait()
    service.poll(1.0)
    assert run.EXIT_LINE.findall("\n".join(said)) == [("node-1", "exit code 1")]
