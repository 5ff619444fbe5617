"""The parts of `bin/up` that start no process."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ginkgo_site.env import CHECKOUT
from ginkgo_site.launcher import logfiles
from ginkgo_site.launcher.address import Address, free_address, is_loopback
from ginkgo_site.launcher.cli import parse
from ginkgo_site.launcher.errors import StartupError
from ginkgo_site.launcher.instance_lock import InstanceLock
from ginkgo_site.launcher.postgres.programs import reachable_binaries
from ginkgo_site.launcher.state_files import read_private, write_private
from ginkgo_site.launcher.supervised_process import Program


def test_launcher_options_have_the_documented_defaults() -> None:
    options = parse([])
    assert (options.host, options.port, options.nodes) == ("127.0.0.1", 8000, 3)
    assert (options.demo, options.node_restart_s, options.fresh) == (True, 15, False)


@pytest.mark.parametrize(
    "argv", [["--port", "70000"], ["--nodes", "-1"], ["--node-restart", "x"], ["--prot", "1"]]
)
def test_a_wrong_launcher_option_is_a_usage_error(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(argv)
    assert caught.value.code == 2


HOLD = """
import sys, time
from pathlib import Path
from ginkgo_site.launcher.instance_lock import InstanceLock
lock = InstanceLock(Path(sys.argv[1])); lock.acquire()
print('held', flush=True); time.sleep(60)
"""


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    holder = subprocess.Popen(words, cwd=CHECKOUT, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(StartupError, match="still starting"):
        InstanceLock(tmp_path).acquire()
    holder.kill()
    holder.wait()
    InstanceLock(tmp_path).acquire()


def test_error_names_a_home_that_cannot_be_created() -> None:
    with pytest.raises(StartupError, match="/proc/nowhere cannot be written"):
        InstanceLock(Path("/proc/nowhere")).acquire()


def test_a_port_in_use_is_named_with_another_one_to_try() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartupError) as caught:
            free_address("127.0.0.1", port)
    assert f"Port {port} on 127.0.0.1 is in use" in str(caught.value)
    assert f"--port {port + 1}" in str(caught.value)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(StartupError, match=r"192\.0\.2\.1 is not an address of this machine"):
        free_address("192.0.2.1", 8000)


@pytest.mark.parametrize("host", ["a..b", "x" * 70, ""])
def test_a_launcher_address_that_is_no_host_name_is_refused(host: str) -> None:
    with pytest.raises(StartupError, match="is not an address of this machine"):
        free_address(host, 8000)


def test_a_wildcard_address_is_shown_as_one_that_a_browser_can_open() -> None:
    assert Address("0.0.0.0", 8000).url == "http://127.0.0.1:8000"
    assert Address("::1", 8000).url == "http://[::1]:8000"
    assert is_loopback("localhost")
    assert not is_loopback("0.0.0.0")


@pytest.mark.parametrize(("version", "folder"), [("16", "pginstall"), ("18", "pginstall18")])
def test_database_files_are_served_by_programs_of_their_postgresql_version(
    tmp_path: Path, version: str, folder: str
) -> None:
    (tmp_path / "PG_VERSION").write_text(f"{version}\n")
    assert reachable_binaries(tmp_path, None).parent.name == folder


def test_database_files_of_a_postgresql_version_without_a_package_are_refused(
    tmp_path: Path,
) -> None:
    (tmp_path / "PG_VERSION").write_text("17\n")
    with pytest.raises(StartupError, match="of PostgreSQL 17, which this release lacks"):
        reachable_binaries(tmp_path, None)


def test_private_file_has_mode_600_and_a_damaged_one_reads_as_empty(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "nodes.json"
    write_private(path, {"node-1": "t"})
    assert read_private(path) == {"node-1": "t"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.write_text("{broken")
    assert read_private(path) == {}
    assert [p.name for p in path.parent.iterdir()] == ["nodes.json"]


def test_each_start_begins_new_logs_and_keeps_three(tmp_path: Path) -> None:
    for start in range(1, 6):
        logfiles.rotate(tmp_path)
        (tmp_path / "web.log").write_text(f"start {start}\n")
    kept = sorted(p.name for p in tmp_path.iterdir())
    assert kept == ["web.log", "web.log.1", "web.log.2", "web.log.3"]
    assert logfiles.last_line(tmp_path / "web.log.3") == "start 2"
    assert logfiles.last_line(tmp_path / "none.log") == "no output"


def test_last_error_of_a_log_is_that_of_postgresql_whatever_follows(tmp_path: Path) -> None:
    log, full = tmp_path / "postgres.log", 'FATAL:  could not write to file "x": No space left'
    log.write_text(f"running bootstrap ... {full}\nSTATEMENT:  CREATE\ninitdb: removing data\n")
    assert logfiles.last_error(log) == f"running bootstrap ... {full}"
    log.write_text("LOG:  ready\n")
    assert logfiles.last_error(log) == "LOG:  ready"


def test_only_the_owner_can_read_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "web.log"
    old.write_text("of an earlier release")
    old.chmod(0o644)
    logfiles.rotate(tmp_path)
    monkeypatch.setattr(logfiles, "_LIMIT_BYTES", 1)
    program = Program([sys.executable, "-c", "print('hello')"], dict(os.environ), old)
    assert program.start().wait() == 0
    logfiles.shorten(tmp_path)
    found = {log.name: stat.S_IMODE(log.stat().st_mode) for log in tmp_path.iterdir()}
    assert found == {"web.log": 0o600, "web.log.1": 0o600}
