"""The sandbox of a portfolio process: what the kernel refuses it, whatever its strategy tries.

A strategy is a function; it needs no files, no processes, no signals and no network. On Linux, a
system-call filter refuses new processes, signals to other processes, sockets and changes of file
attributes, and Landlock refuses to write, create or remove files and to read files other than those
of Python and of the system, such as those of other processes in /proc. Both work without privileges
and cannot be removed again. A fork bomb is then one PermissionError at a seq, and no strategy can
kill the forkserver. GINKGO_STRATEGY_NETWORK allows internet sockets.

A process started by root also drops root: it becomes a user that owns nothing, neither the files of
the installation nor its database (see `unprivileged`).

Without both, the protection is resource limits, process groups and the cleanup of stray processes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
import sys
from collections.abc import Sequence

from portfolios.runtime.parent_death import PR_SET_PDEATHSIG, die_with_parent
from portfolios.runtime.readable_paths import readable_paths
from portfolios.runtime.unprivileged import drop_root

#: `yes` on a node, and where its portfolios are replayed: strategies may use the internet.
NETWORK_VARIABLE = "GINKGO_STRATEGY_NETWORK"
MAX_OPEN_FILES = 256
REPLY_MEMORY = 64 << 20  #: reserve, so that a process can still report that it is out of memory
OOM_SCORE = 500  #: if the machine runs out of memory, portfolios are killed before their daemon

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

# --- system calls --------------------------------------------------------------------------------

#: Machine → (AUDIT_ARCH of linux/audit.h, number of seccomp(2), numbers of other system calls).
_MACHINES = {
    "x86_64": (
        0xC000003E,
        317,
        {
            "fork": 57, "vfork": 58, "clone": 56, "execve": 59, "execveat": 322,
            "kill": 62, "tkill": 200, "tgkill": 234,
            "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297,
            "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "prlimit64": 302,
            "setpriority": 141, "prctl": 157,
            "shmget": 29, "semget": 64, "msgget": 68, "mq_open": 240,
            "chmod": 90, "fchmod": 91, "fchmodat": 268,
            "chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260,
            "utime": 132, "utimes": 235, "futimesat": 261, "utimensat": 280,
            "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190,
            "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199,
            "unshare": 272, "setns": 308, "mount": 165, "umount2": 166,
            "pivot_root": 155, "chroot": 161, "open_by_handle_at": 304,
            "sched_setparam": 142, "sched_setscheduler": 144,
            "sched_setaffinity": 203, "sched_setattr": 314,
            "ioprio_set": 251, "migrate_pages": 256, "move_pages": 279, "kcmp": 312,
            "perf_event_open": 298, "bpf": 321, "userfaultfd": 323,
            "add_key": 248, "request_key": 249, "keyctl": 250,
            "socket": 41, "socketpair": 53, "connect": 42, "bind": 49, "listen": 50,
            "accept": 43, "accept4": 288, "fcntl": 72, "ioctl": 16,
        },
    ),
    "aarch64": (
        0xC00000B7,
        277,
        {
            "clone": 220, "execve": 221, "execveat": 281,
            "kill": 129, "tkill": 130, "tgkill": 131,
            "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240,
            "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "prlimit64": 261,
            "setpriority": 140, "prctl": 167,
            "shmget": 194, "semget": 190, "msgget": 186, "mq_open": 180,
            "fchmod": 52, "fchmodat": 53,
            "fchown": 55, "fchownat": 54,
            "utimensat": 88,
            "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7,
            "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16,
            "unshare": 97, "setns": 268, "mount": 40, "umount2": 39,
            "pivot_root": 41, "chroot": 51, "open_by_handle_at": 265,
            "sched_setparam": 118, "sched_setscheduler": 119,
            "sched_setaffinity": 122, "sched_setattr": 274,
            "ioprio_set": 30, "migrate_pages": 238, "move_pages": 239, "kcmp": 272,
            "perf_event_open": 241, "bpf": 280, "userfaultfd": 282,
            "add_key": 217, "request_key": 218, "keyctl": 219,
            "socket": 198, "socketpair": 199, "connect": 203, "bind": 200, "listen": 201,
            "accept": 202, "accept4": 242, "fcntl": 25, "ioctl": 29,
        },
    ),
}  # fmt: skip
_COMMON_NUMBERS = {
    "pidfd_send_signal": 424, "pidfd_open": 434, "pidfd_getfd": 438,
    "process_madvise": 440, "process_mrelease": 448,
    "fchmodat2": 452, "setxattrat": 463, "removexattrat": 466,
    # System calls through io_uring bypass the filter.
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsmount": 432, "mount_setattr": 442,
}  # fmt: skip
_CLONE3 = 435  #: its flags are in memory, which a filter cannot read; libc falls back to clone
_REFUSED_CALLS = (
    *("fork", "vfork", "execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev"),
    # Their memory outlives the process and counts against no limit.
    *("shmget", "semget", "msgget", "mq_open"),
    # Landlock does not cover file attributes.
    *("chmod", "fchmod", "fchmodat", "chown", "fchown", "lchown", "fchownat"),
    *("utime", "utimes", "futimesat", "utimensat"),
    *("setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"),
    *("unshare", "setns", "mount", "umount2", "pivot_root", "chroot", "open_by_handle_at"),
    *("ioprio_set", "migrate_pages", "move_pages", "kcmp", "perf_event_open", "bpf", "userfaultfd"),
    *("add_key", "request_key", "keyctl"),
    *_COMMON_NUMBERS,
)
_OWN_PROCESS_ONLY = (
    *("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "prlimit64"),
    *("sched_setparam", "sched_setscheduler", "sched_setaffinity", "sched_setattr"),
)
_CLONE_THREAD = 0x10000
_NEW_NAMESPACES = 0x7E020000  #: user, process, network, mount …: each would grant privileges
#: These make a file send a signal to any process of the user when it becomes readable: system call
#: → F_SETOWN, F_SETSIG, F_SETOWN_EX; FIOSETOWN, SIOCSPGRP.
_SIGNALS_OF_FILES = {"fcntl": (8, 10, 15), "ioctl": (0x8901, 0x8902)}
#: Without the network a process keeps the socket that it was given.
_NETWORK_CALLS = ("socket", "connect", "bind", "listen", "accept", "accept4")
_AF_INET, _AF_INET6 = 2, 10  #: no local sockets: one may lead to the database
#: Of pairs. A datagram socket of a pair can send to any local socket.
_SOCK_STREAM, _SOCKET_TYPE = 1, 0xF
_PRIO_PROCESS = 0
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38
_SET_MODE_FILTER, _SPEC_ALLOW = 1, 4

#: Codes of BPF instructions (linux/bpf_common.h).
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_MASK = 0x54  #: keep the bits of the operand
_NUMBER, _ARCH, _FIRST, _SECOND = 0, 4, 16, 24  #: offsets in seccomp_data; low halves of arguments
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000  #: results of a filter: SECCOMP_RET_ALLOW and _ERRNO


class _Program(ctypes.Structure):
    """The kernel's struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


#: A BPF instruction: (code, instructions to skip if true, and if false, operand).
_Line = tuple[int, int, int, int]
_Lines = list[_Line]


def _load_call_number(arch: int) -> _Lines:
    """Return the lines that load the number of the system call, for the next lines to compare."""
    return [
        (_LOAD, 0, 0, _ARCH),
        (_IF_EQUAL, 1, 0, arch),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),  # another calling convention has other numbers
        (_LOAD, 0, 0, _NUMBER),
        (_IF_AT_LEAST, 0, 1, 0x40000000),  # x32 has the same arch on x86
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    ]


def _pack(lines: _Lines) -> bytes:
    """Return the program as an array of the kernel's struct sock_filter."""
    return b"".join(struct.pack("<HBBI", *line) for line in lines)


def _preload_filter(arch: int, numbers: dict[str, int]) -> bytes:
    """Return the BPF program for a process that imports packages: no network."""
    lines = _load_call_number(arch)
    for name in _NETWORK_CALLS:
        lines += [(_IF_EQUAL, 0, 1, numbers[name]), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    return _pack([*lines, (_RETURN, 0, 0, _ALLOW)])


def _portfolio_filter(
    pid: int, arch: int, numbers: dict[str, int], *, network: bool = False
) -> bytes:
    """Return the BPF program for the portfolio process `pid`; `numbers`: those of system calls."""
    # A line: (code, lines to skip if its condition holds, lines to skip if not, operand).
    lines = _load_call_number(arch)
    lines += [(_IF_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    refuse, allow = (_RETURN, 0, 0, _ERRNO | errno.EPERM), (_RETURN, 0, 0, _ALLOW)
    for name in (*_REFUSED_CALLS, *(() if network else _NETWORK_CALLS)):
        if name in numbers:
            lines += [(_IF_EQUAL, 0, 1, numbers[name]), refuse]
    for name in _OWN_PROCESS_ONLY:
        lines += _judge_argument(numbers[name], _FIRST, (pid, 0), allow, refuse)
    # New threads, but no new processes and no new namespaces.
    lines += [(_IF_EQUAL, 0, 5, numbers["clone"]), (_LOAD, 0, 0, _FIRST)]
    lines += [(_IF_ANY_BIT, 2, 0, _NEW_NAMESPACES), (_IF_ANY_BIT, 0, 1, _CLONE_THREAD)]
    lines += [allow, refuse]
    lines += _judge_argument(numbers["socket"], _FIRST, (_AF_INET, _AF_INET6), allow, refuse)
    # Pairs of stream sockets alone.
    lines += [(_IF_EQUAL, 0, 5, numbers["socketpair"]), (_LOAD, 0, 0, _SECOND)]
    lines += [(_MASK, 0, 0, _SOCKET_TYPE), (_IF_EQUAL, 0, 1, _SOCK_STREAM), allow, refuse]
    for name, commands in _SIGNALS_OF_FILES.items():
        lines += _judge_argument(numbers[name], _SECOND, commands, refuse, allow)
    # The priority of this process only, not of all processes of its user.
    lines += [(_IF_EQUAL, 0, 7, numbers["setpriority"]), (_LOAD, 0, 0, _FIRST)]
    lines += [(_IF_EQUAL, 0, 4, _PRIO_PROCESS), (_LOAD, 0, 0, _SECOND)]
    lines += [(_IF_EQUAL, 1, 0, pid), (_IF_EQUAL, 0, 1, 0), allow, refuse]
    # Everything but changing the signal at the parent's death.
    lines += _judge_argument(numbers["prctl"], _FIRST, (PR_SET_PDEATHSIG,), refuse, allow)
    return _pack([*lines, allow])


def _judge_argument(
    number: int, offset: int, values: Sequence[int], if_among: _Line, otherwise: _Line
) -> _Lines:
    """Return lines that judge the system call `number` by its argument at `offset`.

    They end with `if_among` if it is one of `values`, else with `otherwise`. Other calls skip them.
    """
    last = len(values) - 1
    lines = [
        (_LOAD, 0, 0, offset),
        *((_IF_EQUAL, last - at, at == last, value) for at, value in enumerate(values)),
        if_among,
        otherwise,
    ]
    return [(_IF_EQUAL, 0, len(lines), number), *lines]


def _is_network_allowed() -> bool:
    return os.environ.get(NETWORK_VARIABLE, "").lower() in ("yes", "1", "true", "on")


def _install_syscall_filter(*, preloading: bool = False) -> bool:
    """Install the system-call filter of a portfolio process, or (`preloading`) of its forkserver.

    Return False if it cannot be installed: an unknown machine, or a kernel without seccomp.
    """
    known = _MACHINES.get(platform.machine())
    if _libc is None or known is None:
        return False
    arch, seccomp, numbers = known
    if preloading:
        code = _preload_filter(arch, numbers)
    else:
        all_numbers = numbers | _COMMON_NUMBERS
        code = _portfolio_filter(os.getpid(), arch, all_numbers, network=_is_network_allowed())
    program = _Program(len(code) // 8, code)
    result: int = _libc.syscall(seccomp, _SET_MODE_FILTER, _SPEC_ALLOW, ctypes.byref(program))
    return result == 0


# --- files ---------------------------------------------------------------------------------------

#: Numbers of Landlock's system calls, the same on all architectures.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_CHANGES = _WRITE_FILE | 0b1_1111_1111_0000  #: write; remove and create entries of each kind
#: Rights that Landlock knows since versions 2 and 3: rename across folders; truncate.
_SINCE_2, _SINCE_3 = 1 << 13, _TRUNCATE
_PATH_BENEATH = 1


def has_landlock() -> bool:
    """Return whether the kernel has Landlock."""
    if _libc is None:
        return False
    version: int = _libc.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)
    return version >= 1


def _restrict_file_access(more: Sequence[str]) -> bool:
    """Restrict this process to reading files of Python and the system, and writing /dev/null.

    `more` can be read too, even inside the home. Return False if the kernel cannot restrict it.
    """
    if _libc is None or not has_landlock():
        return False
    version: int = _libc.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)
    handled = (
        _READ_FILE
        | _READ_FOLDER
        | _CHANGES
        | (_SINCE_2 if version >= 2 else 0)
        | (_SINCE_3 if version >= 3 else 0)
    )
    attribute = struct.pack("<Q", handled)
    ruleset: int = _libc.syscall(_CREATE_RULESET, attribute, len(attribute), 0)
    if ruleset < 0:
        return False
    devnull = os.open(os.devnull, os.O_RDONLY)
    try:
        rule = struct.pack("<Qi", handled & (_WRITE_FILE | _TRUNCATE | _READ_FILE), devnull)
        _libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
        for path in (*readable_paths(), *more):
            _allow_reading(ruleset, path)
        _allow_reading_itself(ruleset)
        done: int = _libc.syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(devnull)
        os.close(ruleset)
    return done == 0


def _allow_reading(ruleset: int, path: str) -> None:
    """Allow reading the file or folder at `path`, with everything below it, if it exists."""
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights = _READ_FILE | (_READ_FOLDER if os.path.isdir(path) else 0)
        rule = struct.pack("<Qi", rights, handle)
        _libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)  # type: ignore[union-attr]
    finally:
        os.close(handle)


def _allow_reading_itself(ruleset: int) -> None:
    """Allow reading /proc/self, and no other process there.

    The rule belongs to an inode that the kernel drops and makes anew when memory is short, unless
    it is in use. The handle, which can be neither read nor listed, stays open for that.
    """
    try:
        handle = os.open("/proc/self", os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # no /proc
    rule = struct.pack("<Qi", _READ_FILE | _READ_FOLDER, handle)
    _libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)  # type: ignore[union-attr]


# --- the whole sandbox ---------------------------------------------------------------------------


def limit_process(memory_bytes: int) -> None:
    """Set the resource limits of a portfolio process. Linux only."""
    if sys.platform != "linux":
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes + REPLY_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = MAX_OPEN_FILES if most == resource.RLIM_INFINITY else min(MAX_OPEN_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    offer_to_oom_killer()


def offer_to_oom_killer() -> None:
    """Have this process and its children killed before others if the machine runs out of memory."""
    try:
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write(str(OOM_SCORE))
    except OSError:
        pass  # no /proc, or done by the parent: the kernel chooses by size, which is acceptable


def apply_sandbox(parent: int | None = None, reads: Sequence[str] = ()) -> list[str]:
    """Apply the sandbox to this process. Return a sentence for each protection that is missing.

    If it runs as root, it becomes the user of strategies. That clears the parent-death signal; with
    `parent`, a process id, it is set again. `reads` are further files and folders that the process
    may read, such as the artifact of its strategy.
    """
    if _libc is None:
        return [
            "this system has no sandbox: strategies can start processes, send signals, use the "
            "network and change files"
        ]
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # without Landlock: no file can grow
    missing = _confine_to_reading(parent, reads)
    if not _install_syscall_filter():
        missing.append(
            "strategies can start processes, send signals and use the network: this kernel has no "
            "system-call filter"
        )
    return missing


def confine_preloading(parent: int, reads: Sequence[str]) -> None:
    """Confine a process that imports packages from outside and then forks portfolio processes.

    It becomes the user of strategies and may read what they may, write nothing and, unless they may
    use the network, open no socket. It dies with `parent`. It can still fork, and kill what it
    forked; `apply_sandbox` takes both rights from each portfolio process.
    """
    if _libc is not None:
        # Each portfolio process restricts itself to its own part of /proc. It could not give itself
        # a right that this process has given up.
        _confine_to_reading(parent, (*reads, "/proc"))
        if not _is_network_allowed():
            _install_syscall_filter(preloading=True)


def _confine_to_reading(parent: int | None, reads: Sequence[str]) -> list[str]:
    """Drop root and the right to change files. Return a sentence for each missing protection."""
    assert _libc is not None
    missing = drop_root(landlock=has_landlock(), reads=reads)
    if parent is not None:
        die_with_parent(parent)  # the change of user has cleared it
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # Without Landlock: no process of the same user reads this one's memory or environment.
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if not _restrict_file_access(reads):
        missing.append(
            "strategies can read and remove the files of their user: this kernel has no Landlock"
        )
    return missing


def adopt_orphans() -> None:
    """Become the parent of all orphaned descendants, including those in other groups."""
    if _libc is not None:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
