"""What the guard refuses, asked of the kernel: one deed after the other, each in its own process.

Without the guard each deed would be done, or be refused for another reason than EPERM or EACCES.
"""

from __future__ import annotations

import errno
import json
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from portfolios.runtime import guard
from tests.kernel import CAN_REFUSE_CALLS, CAN_REFUSE_FILES, LACKING

ROOT = Path(__file__).parents[2]
MEMORY = 777 << 20

CALLS = (
    "fork", "clone", "os.fork", "vfork", "execve", "execveat", "ptrace", "process_vm_readv",
    "process_vm_writev", "shmget", "semget", "msgget", "mq_open", "pidfd_open",
    "pidfd_send_signal", "pidfd_getfd", "kill", "kill all", "tkill", "tgkill", "rt_sigqueueinfo",
    "rt_tgsigqueueinfo", "prlimit64", "setpriority", "prctl",
)  # fmt: skip
FINE = (
    "thread", "signal itself", "limit itself", "name itself", "calm itself", "read a file",
    "write to /dev/null",
)  # fmt: skip
FILES = (
    "make", "overwrite", "truncate", "remove", "remove a folder", "make a folder", "rename", "move",
    "link", "symlink", "pipe", "socket",
)  # fmt: skip


@pytest.fixture(scope="module")
def came(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return deed → what came of it."""
    folder = tmp_path_factory.mktemp("prey")
    (folder / "there").write_text("something")
    (folder / "below").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.deeds", str(folder), str(MEMORY)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {tuple(lacking) for _, _, lacking in lines} == {tuple(LACKING)}
    return {name: found for name, found, _ in lines}


@pytest.mark.parametrize("deed", CALLS)
def test_a_call_that_reaches_beyond_its_process_is_refused(came: dict[str, Any], deed: str) -> None:
    assert (came.get(deed) == "EPERM") is CAN_REFUSE_CALLS, came.get(deed)


def test_libc_is_told_that_there_is_no_clone3_and_takes_clone(came: dict[str, Any]) -> None:
    assert (came["clone3"] == "ENOSYS") is CAN_REFUSE_CALLS, came["clone3"]


@pytest.mark.parametrize("deed", FILES)
def test_no_file_is_made_written_or_removed(came: dict[str, Any], deed: str) -> None:
    assert (came[deed] in ("EACCES", "EXDEV")) is CAN_REFUSE_FILES, came[deed]


@pytest.mark.parametrize("deed", FINE)
def test_what_a_strategy_may_do_it_can(came: dict[str, Any], deed: str) -> None:
    assert came[deed] == "done"


def test_every_process_has_its_limits_whatever_the_kernel(came: dict[str, Any]) -> None:
    assert came["AS"] == [MEMORY, MEMORY + guard.ANSWER_MEMORY]
    assert (came["CORE"], came["FSIZE"]) == ([0, 0], [0, 0])
    assert came["NOFILE"] == [guard.MOST_OPEN_FILES] * 2
    assert (came["oom"], came["nothing gained"]) == (500, 1)


# --- the filter itself ----------------------------------------------------------------------------


def verdict(
    machine: str, number: int, arguments: Sequence[int] = (), arch: int | None = None
) -> int:
    """Return what the kernel would do: it runs the filter over (number, arch, -, arguments)."""
    own, _, numbers = guard._MACHINES[machine]
    code = guard._filter(4321, own, numbers | guard._EVERYWHERE)
    lines = list(struct.iter_unpack("<HBBI", code))
    given = (*arguments, 0, 0)
    words = {0: number, 4: own if arch is None else arch, 16: given[0], 24: given[1]}
    held, at = 0, 0
    while True:
        what, if_true, if_false, operand = lines[at]
        at += 1
        if what == guard._RETURN:
            return operand
        if what == guard._LOAD:
            held = words[operand]
            continue
        holds = {
            guard._IF_EQUAL: held == operand,
            guard._IF_AT_LEAST: held >= operand,
            guard._IF_ANY_BIT: bool(held & operand),
        }[what]
        at += if_true if holds else if_false


NOT_HERE, REFUSED = guard._ERRNO | errno.ENOSYS, guard._ERRNO | errno.EPERM


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_of_each_machine_refuses_the_same(machine: str) -> None:
    numbers = guard._MACHINES[machine][2] | guard._EVERYWHERE
    for name in guard._REFUSED:
        assert verdict(machine, numbers.get(name, numbers["execve"])) == REFUSED, name
    for name in guard._TO_ITSELF_ONLY:
        allowed = [verdict(machine, numbers[name], [who]) for who in (4321, 0)]
        assert allowed == [guard._ALLOW] * 2, name
        assert verdict(machine, numbers[name], [4322]) == REFUSED, name
    assert verdict(machine, 39 if machine == "x86_64" else 172) == guard._ALLOW  # getpid


def test_another_calling_convention_is_no_way_around_it() -> None:
    assert verdict("x86_64", 20, arch=0x40000003) == NOT_HERE  # i386: 20 is getpid there
    assert verdict("x86_64", 0x40000000 | 39) == NOT_HERE  # x32
