"""What the sandbox refuses and allows: each action is tried in a process of its own.

Without the sandbox each action would succeed, or fail with an error other than EPERM or EACCES.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from portfolios.runtime import sandbox
from portfolios.runtime.unprivileged import STRATEGY_UID, unreadable_folder
from tests.support.kernel_features import CAN_REFUSE_CALLS, CAN_REFUSE_FILES, LACKING
from tests.support.python_process import run_python

ROOT = Path(__file__).parents[3]
MEMORY = 777 << 20

#: A user of this machine that is not root; -1: the user who runs the tests.
OTHER = 65534 if os.geteuid() == 0 else -1


@pytest.fixture(scope="module", params=["as the user who runs the tests", "as another user"])
def came(request: pytest.FixtureRequest) -> Iterator[dict[str, dict[str, Any]]]:
    """Return kind of deeds → deed → what came of it."""
    user = OTHER if request.param == "as another user" else -1
    # What that user could read and change if nothing were refused.
    folder = Path(tempfile.mkdtemp(prefix="ginkgo-prey-"))
    home = folder / "home"
    allowed = folder / "allowed"
    for each in (folder, folder / "below", home, allowed):
        each.mkdir(exist_ok=True)
    (allowed / "file").write_text("something")
    (allowed / "token").write_text("secret")
    (folder / "there").write_text("something")
    (home / "access.json").write_text("{}")
    for each in (folder, folder / "below", folder / "there", home, home / "access.json"):
        os.chown(each, user, -1)
    before = {path: path.stat() for path in (folder, folder / "there")}
    yield _probe(folder, home, user)
    after = {path: path.stat() for path in before}
    if CAN_REFUSE_CALLS and CAN_REFUSE_FILES:
        assert [(s.st_mode, s.st_mtime_ns) for s in after.values()] == [
            (s.st_mode, s.st_mtime_ns) for s in before.values()
        ]
    shutil.rmtree(folder)


def python_for_all() -> str:
    """Return a Python that every user of this machine can run."""
    own = [] if unreadable_folder() else [sys.executable]
    return next(path for path in (*own, "/usr/local/bin/python3", "/usr/bin/python3")
                if os.path.exists(path))  # fmt: skip


def _probe(folder: Path, home: Path, user: int) -> dict[str, dict[str, Any]]:
    # A user that cannot enter root's folders needs a Python that it can read.
    python = sys.executable if user == -1 else python_for_all()
    done = subprocess.run(
        [python, "-m", "tests.support.sandbox_probe", str(folder), str(MEMORY)],
        cwd=ROOT,
        env={
            **os.environ,
            "GINKGO_HOME": str(home),
            "GINKGO_STRATEGY_READS": str(folder / "allowed"),
            "GINKGO_STRATEGY_HIDES": str(folder / "allowed" / "token"),
        },
        user=user if user != -1 else None,
        group=user if user != -1 else None,
        extra_groups=[] if user != -1 else None,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return outcomes(done.stdout)


def outcomes(printed: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for kind, name, outcome, lacking in map(json.loads, printed.splitlines()):
        assert lacking == LACKING
        found.setdefault(kind, {})[name] = outcome
    return found


def test_a_call_that_reaches_beyond_its_process_is_refused(came: dict[str, dict[str, Any]]) -> None:
    # clone3 fails as on a kernel without it, so that libc takes clone.
    wanted = dict.fromkeys(came["calls"], "EPERM") | {"clone3": "ENOSYS"}
    assert len(wanted) > 50
    refused = {name for name, outcome in came["calls"].items() if outcome == wanted[name]}
    assert refused == (set(wanted) if CAN_REFUSE_CALLS else set())


def test_file_operation_is_refused_where_the_kernel_can(came: dict[str, dict[str, Any]]) -> None:
    refusals = ("EACCES", "EXDEV", "EPERM")  # a link to a file of another user: EPERM
    refused = {name for name, outcome in came["files"].items() if outcome in refusals}
    assert len(came["files"]) == 20
    assert refused == (set(came["files"]) if CAN_REFUSE_FILES else set())


def test_node_setting_allows_internet_sockets_and_no_others(tmp_path: Path) -> None:
    deeds = ("internet", "internet, version 6", "local socket", "netlink", "datagram pair")
    given = ("-m", "tests.support.sandbox_probe", str(tmp_path), str(MEMORY), *deeds)
    done = run_python(*given, GINKGO_HOME=str(tmp_path), GINKGO_STRATEGY_NETWORK="yes")
    came = outcomes(done.stdout)["calls"]
    assert came["internet"] == came["internet, version 6"] == "done"
    assert ([came[name] for name in deeds[2:]] == ["EPERM"] * 3) is CAN_REFUSE_CALLS


def test_the_sandbox_allows_what_a_strategy_may_do(came: dict[str, dict[str, Any]]) -> None:
    assert len(came["fine"]) == 13
    assert {name: outcome for name, outcome in came["fine"].items() if outcome != "done"} == {}


def test_resource_limits_hold_in_every_process_whatever_the_kernel(
    came: dict[str, dict[str, Any]],
) -> None:
    limits = came["limits"]
    assert limits["AS"] == [MEMORY, MEMORY + sandbox.REPLY_MEMORY]
    assert (limits["CORE"], limits["FSIZE"]) == ([0, 0], [0, 0])
    assert limits["NOFILE"] == [sandbox.MAX_OPEN_FILES] * 2
    assert (limits["oom"], limits["nothing gained"]) == (500, 1)


def test_portfolio_process_does_not_run_as_root(came: dict[str, dict[str, Any]]) -> None:
    users, groups, more = came["limits"]["user"]
    assert 0 not in (*users, *groups, *more)
    if os.geteuid() == 0:
        assert users in ([STRATEGY_UID] * 3, [OTHER] * 3)


# --- the filter itself ----------------------------------------------------------------------------


def verdict(
    machine: str, number: int, arguments: Sequence[int] = (), arch: int | None = None, *,
    network: bool = False,
) -> int:  # fmt: skip
    """Return what the kernel would do: it runs the filter over (number, arch, -, arguments)."""
    own, _, numbers = sandbox._MACHINES[machine]
    code = sandbox._portfolio_filter(4321, own, numbers | sandbox._COMMON_NUMBERS, network=network)
    lines = list(struct.iter_unpack("<HBBI", code))
    given = (*arguments, 0, 0)
    words = {0: number, 4: own if arch is None else arch, 16: given[0], 24: given[1]}
    held, at = 0, 0
    while True:
        what, if_true, if_false, operand = lines[at]
        at += 1
        if what == sandbox._RETURN:
            return operand
        if what == sandbox._LOAD:
            held = words[operand]
            continue
        if what == sandbox._MASK:
            held &= operand
            continue
        holds = {
            sandbox._IF_EQUAL: held == operand,
            sandbox._IF_AT_LEAST: held >= operand,
            sandbox._IF_ANY_BIT: bool(held & operand),
        }[what]
        at += if_true if holds else if_false


NOT_HERE, REFUSED = sandbox._ERRNO | errno.ENOSYS, sandbox._ERRNO | errno.EPERM


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_system_call_filters_of_both_architectures_refuse_the_same_calls(machine: str) -> None:
    numbers = sandbox._MACHINES[machine][2] | sandbox._COMMON_NUMBERS
    for name in sandbox._REFUSED_CALLS:
        assert verdict(machine, numbers.get(name, numbers["execve"])) == REFUSED, name
    threads, namespaces = 0x3D0F00, 0x10000000
    flags = (threads, threads | namespaces, namespaces, 17)
    made = [verdict(machine, numbers["clone"], [each]) for each in flags]
    assert made == [sandbox._ALLOW, REFUSED, REFUSED, REFUSED]
    for name in sandbox._NETWORK_CALLS:
        assert verdict(machine, numbers[name], [2, 1]) == REFUSED, name
    families = [
        verdict(machine, numbers["socket"], [family], network=True) for family in (2, 10, 1, 16)
    ]
    assert families == [sandbox._ALLOW, sandbox._ALLOW, REFUSED, REFUSED]
    assert verdict(machine, numbers["connect"], network=True) == sandbox._ALLOW
    for network in (True, False):  # stream, datagram, seqpacket; with SOCK_CLOEXEC
        pairs = [
            verdict(machine, numbers["socketpair"], [1, kind], network=network)
            for kind in (1, 2, 5, 1 | 0o2000000, 2 | 0o2000000)
        ]
        assert pairs == [sandbox._ALLOW, REFUSED, REFUSED, sandbox._ALLOW, REFUSED]
    calmed = [verdict(machine, numbers["setpriority"], [which, 0]) for which in (0, 1, 2)]
    assert calmed == [sandbox._ALLOW, REFUSED, REFUSED]
    for name, commands in sandbox._SIGNALS_OF_FILES.items():
        for command in (*range(20), *range(0x88FF, 0x8906)):
            wanted = REFUSED if command in commands else sandbox._ALLOW
            assert verdict(machine, numbers[name], [3, command]) == wanted, (name, command)
    for name in sandbox._OWN_PROCESS_ONLY:
        allowed = [verdict(machine, numbers[name], [who]) for who in (4321, 0)]
        assert allowed == [sandbox._ALLOW] * 2, name
        assert verdict(machine, numbers[name], [4322]) == REFUSED, name
    assert verdict(machine, 39 if machine == "x86_64" else 172) == sandbox._ALLOW  # getpid


def test_system_call_filter_refuses_other_calling_conventions() -> None:
    assert verdict("x86_64", 20, arch=0x40000003) == NOT_HERE  # i386: 20 is getpid there
    assert verdict("x86_64", 0x40000000 | 39) == NOT_HERE  # x32
