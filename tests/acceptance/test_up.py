"""`bin/up`: first start, refused starts, kill, stop, restart."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil

from chaos.crashpoints.cluster import FailpointCluster
from chaos.harness.cluster import Cluster
from chaos.harness.installation import SLOW_MACHINE_S, Installation, eventually, temporary_home
from chaos.harness.observation import DEMO_NODES, wait_for
from chaos.harness.processes import still_running
from ginkgo_site.env import CHECKOUT
from tests.support.undisturbed import starved_nodes

DEMO = {
    *("canary-1", "canary-2", "canary-3"),
    *("tech-hold", "retail-hold", "ibm-sma", "ge-sma", "energy-revert", "bank-revert"),
}


def progress(installation: Installation) -> dict[str, int]:
    rows = installation.query(
        "SELECT p.name, r.last_seq FROM portfolios_portfolio p"
        " JOIN scheduling_run r ON r.portfolio_id = p.id"
    )
    return dict(rows)


def nodes_of(installation: Installation) -> list[str | None]:
    rows = installation.get("/api/portfolios/")["results"]
    return [row["run"]["node"] for row in rows]


def up(home: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ginkgo_site.launcher", *options],
        cwd=CHECKOUT,
        env={**os.environ, **environment, "GINKGO_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=SLOW_MACHINE_S,
        check=False,
    )


def the_sentence_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("ginkgo: ")
    return line


def test_first_start_runs_the_nine_demo_portfolios(installation: Installation) -> None:
    before = progress(installation)
    assert set(before) == DEMO
    access = installation.home / "access.json"
    assert stat.S_IMODE(access.stat().st_mode) == 0o600
    assert set(installation.access) == {"url", "username", "password", "token"}
    names = {row["name"] for row in installation.get("/api/portfolios/")["results"]}
    assert names == DEMO
    eventually(
        lambda: all(seq > before[name] for name, seq in progress(installation).items()),
        what="progress of all nine portfolios",
    )
    eventually(lambda: set(nodes_of(installation)) == set(DEMO_NODES), what="a share of each node")


def test_the_printed_login_works(installation: Installation) -> None:
    from urllib.parse import urlencode
    from urllib.request import HTTPCookieProcessor, Request, build_opener

    browser = build_opener(HTTPCookieProcessor())
    page = browser.open(installation.access["url"] + "/login/").read().decode()
    secret = page.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
    form = {
        "csrfmiddlewaretoken": secret,
        "username": installation.access["username"],
        "password": installation.access["password"],
        "next": "/",
    }
    request = Request(installation.access["url"] + "/login/", data=urlencode(form).encode())
    answer = browser.open(request)
    assert answer.status == 200
    assert answer.url == installation.access["url"] + "/"
    assert "canary-1" in answer.read().decode()


def test_a_second_start_is_refused_with_pid_and_address(installation: Installation) -> None:
    assert installation.process is not None
    sentence = the_sentence_of(up(installation.home, "--port", "0"))
    assert f"process {installation.process.pid}, at {installation.access['url']}" in sentence
    assert installation.get("/api/healthz")


def test_a_port_in_use_is_refused_before_anything_is_made() -> None:
    with temporary_home() as home, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"Port {port}" in the_sentence_of(up(home, "--port", str(port)))
        assert not (home / "postgres").exists()


def test_a_database_that_does_not_answer_is_refused() -> None:
    with temporary_home() as home:
        url = "postgresql://u:secret@127.0.0.1:9/ginkgo"
        sentence = the_sentence_of(up(home, "--port", "0", DATABASE_URL=url))
        assert "correct DATABASE_URL" in sentence
        assert "secret" not in sentence


def test_an_invalid_setting_is_refused() -> None:
    with temporary_home() as home:
        sentence = the_sentence_of(up(home, "--port", "0", GINKGO_LEASE_TTL_S="soon"))
        assert "GINKGO_LEASE_TTL_S is 'soon'" in sentence


def test_an_old_python_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("up", "python.sh", "environment.py"):
        copy = tmp_path / "bin" / name
        copy.write_bytes((CHECKOUT / "bin" / name).read_bytes())
        copy.chmod(0o755)
    old = tmp_path / "old"
    old.mkdir()
    fake = '#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit 0\nexit 1\n'
    for name in ("python3", *(f"python3.{minor}" for minor in range(11, 15))):
        (old / name).write_text(fake)
        (old / name).chmod(0o755)
    done = subprocess.run(
        [str(tmp_path / "bin" / "up")],
        env={"PATH": f"{old}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Python 3.11 to 3.14 is needed, found: Python 3.9.2." in the_sentence_of(done)


def test_after_a_killed_launcher_no_process_is_left_and_the_next_start_continues(
    mortal_cluster: FailpointCluster,
) -> None:
    leave_ge_sma_without_a_node(mortal_cluster)
    output_length, taken_over = len(mortal_cluster.output()), takeovers(mortal_cluster)
    kill_launcher_and_start(mortal_cluster)
    new = mortal_cluster.output()[output_length:]
    assert "ge-sma waits: needs 1 place: no room on " in new
    assert "node-1 draining, node-2 draining, node-3 draining" in new
    assert "Ready after" in new
    wait_for(
        lambda: {name for name, run in mortal_cluster.runs().items() if run.phase == "running"},
        lambda running: running == DEMO - {"ge-sma"},
        "all running but ge-sma",
    )
    new = mortal_cluster.output()[output_length:]
    assert "restarting" not in new  # a refused node would restart after 15 s
    # The leases of dead daemons were ended, or the third kill within a minute would be refused.
    assert takeovers(mortal_cluster) == taken_over
    mortal_cluster.wait_for_progress()
    mortal_cluster.wait_until_converged()  # undrains
    mortal_cluster.assert_nothing_lost()


def takeovers(cluster: Cluster) -> dict[str, list[float]]:
    """Return when each node was taken over from a daemon whose lease was valid."""
    return dict(
        cluster.query(
            "SELECT n.name, l.takeovers FROM scheduling_lease l"
            " JOIN scheduling_node n ON n.id = l.node_id"
        )
    )


def kill_launcher_and_start(cluster: Cluster) -> None:
    """Kill the launcher, wait until all of its processes have ended, and start another."""
    children = cluster.processes()
    # The short leases of this installation would end before the start; the product's do not.
    cluster.query("UPDATE scheduling_lease SET expires_at = clock_timestamp() + interval '10 min'")
    cluster.kill()
    # The slowest is a queue worker that has just lost its database: it sleeps for ten seconds.
    psutil.wait_procs(children, timeout=SLOW_MACHINE_S)
    assert not still_running(children)
    took_s = cluster.start()
    print(f"\nstart after kill -9 of the launcher: {took_s:.1f} s")


def leave_ge_sma_without_a_node(cluster: Cluster) -> None:
    """Drain every node, then stop ge-sma and start it again: the next start has to say why it
    waits."""
    for node in DEMO_NODES:
        cluster.call("POST", f"/api/nodes/{node}/drain/", {})
    stopped = cluster.call("POST", "/api/portfolios/ge-sma/stop/", {}).json
    cluster.wait_for_handoff(stopped["id"], SLOW_MACHINE_S)
    cluster.call("POST", "/api/portfolios/ge-sma/start/", {})


def test_ctrl_c_stops_in_order_and_a_second_one_at_once(mortal_cluster: FailpointCluster) -> None:
    before, since, login = mortal_cluster.runs(), mortal_cluster.now(), mortal_cluster.access
    children = mortal_cluster.processes()
    assert mortal_cluster.stop() == 0
    assert not (mortal_cluster.home / "access.json").exists()
    eventually(lambda: not still_running(children), what="the end of every process")
    assert not (mortal_cluster.home / "postgres" / "data" / "postmaster.pid").exists()
    took_s = mortal_cluster.start()
    print(f"\nstart after an orderly shutdown: {took_s:.1f} s")
    again = mortal_cluster.access
    assert [again[key] for key in ("username", "password", "token")] == [
        login[key] for key in ("username", "password", "token")
    ]
    assert mortal_cluster.query(
        "SELECT count(*) FROM scheduling_control WHERE frozen_at IS NOT NULL"
    ) == [(0,)]
    # An orderly shutdown moves no portfolio, unless the machine starves a node after the start.
    after = mortal_cluster.runs()
    moved = {before[name].node for name, run in after.items() if run.node != before[name].node}
    lost = {event["node"] for event in mortal_cluster.events("node_lost", since)}
    assert moved | lost <= starved_nodes(mortal_cluster, since)
    mortal_cluster.assert_nothing_lost()
    a_second_ctrl_c_does_not_wait(mortal_cluster)


def a_second_ctrl_c_does_not_wait(installation: Installation) -> None:
    """Part of the test above, to save another start."""
    assert installation.process is not None
    children = installation.processes()
    installation.process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    installation.process.send_signal(signal.SIGINT)
    installation.process.wait(SLOW_MACHINE_S)
    eventually(lambda: not still_running(children), what="the end of every process")
