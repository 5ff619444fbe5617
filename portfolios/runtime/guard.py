"""What a portfolio process may not do, whatever its strategy tries: limits set by the kernel.

A strategy is a function; it needs no files, no processes and no signals. On Linux a system-call
filter refuses new processes and signals to others, and Landlock refuses to write, make or remove
files. Both work without privileges and cannot be taken off again. So a fork bomb is one
PermissionError at a seq, and nobody can kill the process all portfolios are forked from.

It is a guard against mistakes, not a prison: code that is hostile belongs under another user.
Where the kernel has neither, limits, process groups and the sweep of strays have to do.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
import sys

MOST_OPEN_FILES = 256
ANSWER_MEMORY = 64 << 20  #: kept back, so that a process can still say that its memory is used up
OOM_SCORE = 500  #: if the machine itself runs out, a portfolio goes before its daemon

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

# --- system calls --------------------------------------------------------------------------------

#: machine → (audit arch, seccomp(2), numbers)
_MACHINES = {
    "x86_64": (
        0xC000003E,
        317,
        {
            "fork": 57,
            "vfork": 58,
            "clone": 56,
            "execve": 59,
            "execveat": 322,
            "kill": 62,
            "tkill": 200,
            "tgkill": 234,
            "rt_sigqueueinfo": 129,
            "rt_tgsigqueueinfo": 297,
            "ptrace": 101,
            "process_vm_readv": 310,
            "process_vm_writev": 311,
            "prlimit64": 302,
            "setpriority": 141,
            "prctl": 157,
            "shmget": 29,
            "semget": 64,
            "msgget": 68,
            "mq_open": 240,
        },
    ),
    "aarch64": (
        0xC00000B7,
        277,
        {
            "clone": 220,
            "execve": 221,
            "execveat": 281,
            "kill": 129,
            "tkill": 130,
            "tgkill": 131,
            "rt_sigqueueinfo": 138,
            "rt_tgsigqueueinfo": 240,
            "ptrace": 117,
            "process_vm_readv": 270,
            "process_vm_writev": 271,
            "prlimit64": 261,
            "setpriority": 140,
            "prctl": 167,
            "shmget": 194,
            "semget": 190,
            "msgget": 186,
            "mq_open": 180,
        },
    ),
}
_EVERYWHERE = {"pidfd_send_signal": 424, "pidfd_open": 434, "pidfd_getfd": 438}
_CLONE3 = 435  #: its flags lie in memory where a filter cannot look; libc then falls back to clone
_REFUSED = (
    *("fork", "vfork", "execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev"),
    # Memory of these outlives the process and counts against nobody's limit.
    *("shmget", "semget", "msgget", "mq_open"),
    *_EVERYWHERE,
)
_TO_ITSELF_ONLY = (
    *("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "prlimit64"),
)
_CLONE_THREAD = 0x10000
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38
_SET_MODE_FILTER, _SPEC_ALLOW = 1, 4

_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _FIRST, _SECOND = 0, 4, 16, 24  #: offsets in seccomp_data; low halves of arguments
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _filter(pid: int, arch: int, numbers: dict[str, int]) -> bytes:
    """Return the filter for the process `pid`: a list of (code, if true, if false, operand)."""
    lines: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _ARCH),
        (_IF_EQUAL, 1, 0, arch),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),  # another calling convention, other numbers
        (_LOAD, 0, 0, _NUMBER),
        (_IF_AT_LEAST, 0, 1, 0x40000000),  # x32, on x86 the same arch
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
        (_IF_EQUAL, 0, 1, _CLONE3),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    ]
    refuse, allow = (_RETURN, 0, 0, _ERRNO | errno.EPERM), (_RETURN, 0, 0, _ALLOW)
    for name in _REFUSED:
        if name in numbers:
            lines += [(_IF_EQUAL, 0, 1, numbers[name]), refuse]
    for name in _TO_ITSELF_ONLY:
        lines += [(_IF_EQUAL, 0, 5, numbers[name]), (_LOAD, 0, 0, _FIRST)]
        lines += [(_IF_EQUAL, 1, 0, pid), (_IF_EQUAL, 0, 1, 0), allow, refuse]
    lines += [(_IF_EQUAL, 0, 4, numbers["clone"]), (_LOAD, 0, 0, _FIRST)]
    lines += [(_IF_ANY_BIT, 0, 1, _CLONE_THREAD), allow, refuse]
    lines += [(_IF_EQUAL, 0, 5, numbers["setpriority"]), (_LOAD, 0, 0, _SECOND)]
    lines += [(_IF_EQUAL, 1, 0, pid), (_IF_EQUAL, 0, 1, 0), allow, refuse]
    lines += [(_IF_EQUAL, 0, 4, numbers["prctl"]), (_LOAD, 0, 0, _FIRST)]
    lines += [(_IF_EQUAL, 0, 1, _PR_SET_PDEATHSIG), refuse, allow]
    lines.append(allow)
    return b"".join(struct.pack("<HBBI", *line) for line in lines)


def _refuse_calls() -> bool:
    """Install the filter for this process. Return False where the kernel has none."""
    known = _MACHINES.get(platform.machine())
    if _libc is None or known is None:
        return False
    arch, seccomp, numbers = known
    code = _filter(os.getpid(), arch, numbers | _EVERYWHERE)
    program = _Program(len(code) // 8, code)
    done: int = _libc.syscall(seccomp, _SET_MODE_FILTER, _SPEC_ALLOW, ctypes.byref(program))
    return done == 0


# --- files ---------------------------------------------------------------------------------------

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  #: the same on every machine
_ASK_VERSION = 1
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_CHANGES = _WRITE_FILE | 0b1_1111_1111_0000  #: write; remove and make entries of each kind
_SINCE_2, _SINCE_3 = 1 << 13, _TRUNCATE  #: rename across folders; truncate
_PATH_BENEATH = 1


def _refuse_files() -> bool:
    """Let this process write no file but /dev/null, and make and remove none.

    Return False where the kernel cannot.
    """
    if _libc is None:
        return False
    version: int = _libc.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)
    if version < 1:
        return False
    handled = _CHANGES | (_SINCE_2 if version >= 2 else 0) | (_SINCE_3 if version >= 3 else 0)
    attribute = struct.pack("<Q", handled)
    ruleset: int = _libc.syscall(_CREATE_RULESET, attribute, len(attribute), 0)
    if ruleset < 0:
        return False
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        rule = struct.pack("<Qi", handled & (_WRITE_FILE | _TRUNCATE), nothing)
        _libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
        done: int = _libc.syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(nothing)
        os.close(ruleset)
    return done == 0


# --- all of it -----------------------------------------------------------------------------------


def limit_process(memory_bytes: int) -> None:
    """Set the limits every portfolio process has, on every Linux."""
    if sys.platform != "linux":
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes + ANSWER_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_OPEN_FILES, MOST_OPEN_FILES))
    try:
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write(str(OOM_SCORE))
    except OSError:
        pass  # no /proc: the kernel chooses by size, which fits as well


def shut_in() -> list[str]:
    """Refuse this process what no strategy needs. Return a sentence for what cannot be refused."""
    if _libc is None:
        return ["this system cannot refuse a strategy new processes, signals and files"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # where Landlock is not: no file grows
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    lacking = []
    if not _refuse_files():
        lacking.append("this kernel cannot refuse a strategy to remove files (no Landlock)")
    if not _refuse_calls():
        lacking.append("this kernel cannot refuse a strategy new processes and signals")
    return lacking


def adopt_orphans() -> None:
    """Become the parent of every orphan below this process, also of those that left the group."""
    if _libc is not None:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
