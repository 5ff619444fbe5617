"""Attempt forbidden actions in the sandbox, each in its own process, and print the results as JSON.

    python -m tests.support.sandbox_probe FOLDER MEMORY_BYTES [ACTION ...]

By default every action. No action does harm if it is not refused.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import platform
import resource
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from portfolios.runtime.sandbox import apply_sandbox, limit_process

FOLDER, MEMORY, *CHOSEN = sys.argv[1:]
PARENT = os.getpid()
EVERYWHERE = {
    "pidfd_send_signal": 424, "pidfd_open": 434, "clone3": 435, "pidfd_getfd": 438,
    "fchmodat2": 452, "io_uring_setup": 425,
}  # fmt: skip
#: Numbers of system calls without a libc wrapper, or whose wrapper does more.
NUMBERS = EVERYWHERE | {
    "x86_64": {
        "clone": 56, "fork": 57, "vfork": 58, "tkill": 200, "rt_sigqueueinfo": 129,
        "rt_tgsigqueueinfo": 297, "ioprio_set": 251, "sched_setattr": 314,
    },
    "aarch64": {
        "clone": 220, "fork": 220, "vfork": 220, "tkill": 130, "rt_sigqueueinfo": 138,
        "rt_tgsigqueueinfo": 240, "ioprio_set": 30, "sched_setattr": 274,
    },
}.get(platform.machine(), {})  # fmt: skip
KEY = 0x6B6F  #: key of nonexistent shared memory
QUEUED = struct.pack("iii", 0, 0, -1) + bytes(116)  #: siginfo for signal 0

_libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *given: int | bytes | None) -> int:
    """Make a system call by name. Raise OSError with the kernel's error."""
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in given]
    number = NUMBERS.get(name)
    done: int = getattr(_libc, name)(*words) if number is None else _libc.syscall(number, *words)
    if done < 0:
        raise OSError(ctypes.get_errno(), name)
    return done


def end_child(pid: int) -> None:
    """End this process if it is the child of a fork, to which `pid` is 0."""
    if pid == 0:
        os._exit(0)


def start_a_thread() -> None:
    thread = threading.Thread(target=os.getpid)
    thread.start()
    thread.join()


def overwrite() -> None:
    os.pwrite(os.open(f"{FOLDER}/there", os.O_WRONLY), b"x", 0)


def keep_its_pace(who: int) -> None:
    """Set the priority of a process to what it is."""
    os.setpriority(os.PRIO_PROCESS, who, os.getpriority(os.PRIO_PROCESS, who))


def file_sends(what: str) -> None:
    """Let a socket send a signal to the parent on input, in one of four ways."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        if what == "own":
            fcntl.fcntl(ours, fcntl.F_SETOWN, PARENT)
        elif what == "extended":
            fcntl.fcntl(ours, 15, struct.pack("ii", 1, PARENT))
        elif what == "socket":
            fcntl.ioctl(ours, 0x8901, struct.pack("i", PARENT))
        else:
            fcntl.fcntl(ours, 10, 9)


def own_processors() -> set[int]:
    return os.sched_getaffinity(0)


NETWORK: dict[str, Callable[[], object]] = {
    "internet": lambda: socket.socket(socket.AF_INET).close(),
    "internet, version 6": lambda: socket.socket(socket.AF_INET6).close(),
}
CALLS: dict[str, Callable[[], object]] = {
    "fork": lambda: end_child(call("fork", signal.SIGCHLD, 0, 0, 0, 0)),
    "vfork": lambda: end_child(call("vfork", signal.SIGCHLD, 0, 0, 0, 0)),
    "clone": lambda: end_child(call("clone", signal.SIGCHLD, 0, 0, 0, 0)),
    "clone3": lambda: call("clone3", None, 0), "os.fork": lambda: end_child(os.fork()),
    "execve": lambda: call("execve", None, None, None),
    "execveat": lambda: call("execveat", -1, None, None, None, 0),
    "ptrace": lambda: call("ptrace", 0, 0, 0, 0),
    "process_vm_readv": lambda: call("process_vm_readv", os.getpid(), None, 0, None, 0, 0),
    "process_vm_writev": lambda: call("process_vm_writev", os.getpid(), None, 0, None, 0, 0),
    "shmget": lambda: call("shmget", KEY, 4096, 0), "semget": lambda: call("semget", KEY, 1, 0),
    "msgget": lambda: call("msgget", KEY, 0),
    "mq_open": lambda: call("mq_open", b"/nobody-has-it", 0),
    "pidfd_open": lambda: call("pidfd_open", os.getpid(), 0),
    "pidfd_send_signal": lambda: call("pidfd_send_signal", -1, 0, None, 0),
    "pidfd_getfd": lambda: call("pidfd_getfd", -1, 0, 0),
    "connect": lambda: socket.socketpair()[0].connect(b"/nowhere"),
    "bind": lambda: socket.socketpair()[0].bind(b"\0ginkgo-nobody-has-it"),
    "listen": lambda: socket.socketpair()[0].listen(),
    "accept": lambda: socket.socketpair()[0].accept(), "kill": lambda: os.kill(PARENT, 0),
    "kill all": lambda: os.kill(-1, 0), "tkill": lambda: call("tkill", PARENT, 0),
    "tgkill": lambda: call("tgkill", PARENT, PARENT, 0),
    "rt_sigqueueinfo": lambda: call("rt_sigqueueinfo", PARENT, 0, QUEUED),
    "rt_tgsigqueueinfo": lambda: call("rt_tgsigqueueinfo", PARENT, PARENT, 0, QUEUED),
    "prlimit64": lambda: resource.prlimit(PARENT, resource.RLIMIT_NOFILE),
    "setpriority": lambda: keep_its_pace(PARENT),
    "calm all of its user": lambda: os.setpriority(os.PRIO_USER, 0, 0),
    "prctl": lambda: call("prctl", 1, 0, 0, 0, 0),
    "chmod": lambda: os.chmod(f"{FOLDER}/there", 0o777), "fchmod": lambda: os.fchmod(0, 0o600),
    "fchmodat2": lambda: call("fchmodat2", -100, f"{FOLDER}/there".encode(), 0o777, 0),
    "chown": lambda: os.chown(f"{FOLDER}/there", -1, -1),
    "utime": lambda: os.utime(f"{FOLDER}/there", (1, 1)),
    "setxattr": lambda: os.setxattr(f"{FOLDER}/there", "user.x", b"x"),
    "io_uring": lambda: call("io_uring_setup", 1, bytes(120)),
    "unshare": lambda: call("unshare", 0x10000000), "setns": lambda: call("setns", -1, 0),
    "owner of a file": lambda: file_sends("own"),
    "owner of a file, extended": lambda: file_sends("extended"),
    "owner of a socket": lambda: file_sends("socket"),
    "signal of a file": lambda: file_sends("signal"),
    "affinity": lambda: os.sched_setaffinity(PARENT, own_processors()),
    "scheduler": lambda: os.sched_setscheduler(PARENT, os.SCHED_BATCH, os.sched_param(0)),
    "sched_setattr": lambda: call("sched_setattr", PARENT, bytes(56), 0),
    "ioprio": lambda: call("ioprio_set", 1, PARENT, 0),
    "local socket": lambda: socket.socket(socket.AF_UNIX),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "datagram pair": lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM), **NETWORK,
}  # fmt: skip
FILES: dict[str, Callable[[], object]] = {
    "make": lambda: Path(FOLDER, "new").touch(),
    "overwrite": overwrite,
    "truncate": lambda: os.truncate(f"{FOLDER}/there", 0),
    "remove": lambda: os.unlink(f"{FOLDER}/there"),
    "remove a folder": lambda: os.rmdir(f"{FOLDER}/below"),
    "make a folder": lambda: os.mkdir(f"{FOLDER}/more"),
    "rename": lambda: os.rename(f"{FOLDER}/there", f"{FOLDER}/away"),
    "move": lambda: os.rename(f"{FOLDER}/there", f"{FOLDER}/below/there"),
    "link": lambda: os.link(f"{FOLDER}/there", f"{FOLDER}/too"),
    "symlink": lambda: os.symlink("there", f"{FOLDER}/sym"),
    "pipe": lambda: os.mkfifo(f"{FOLDER}/pipe"),
    "read": lambda: Path(FOLDER, "there").read_text(),
    "read a folder": lambda: os.listdir(FOLDER),
    "read a hidden file": lambda: Path(FOLDER, "allowed", "token").read_text(),
    "environment of another": lambda: Path(f"/proc/{PARENT}/environ").read_bytes(),
    "memory of another": lambda: os.open(f"/proc/{PARENT}/mem", os.O_RDONLY),
    "command line of another": lambda: Path(f"/proc/{PARENT}/cmdline").read_bytes(),
    "files of another": lambda: os.listdir(f"/proc/{PARENT}/fd"),
    "list of processes": lambda: os.listdir("/proc"),
    "read the home": lambda: Path(os.environ["GINKGO_HOME"], "access.json").read_text(),
}
FINE: dict[str, Callable[[], object]] = {
    "thread": start_a_thread,
    "signal itself": lambda: os.kill(os.getpid(), 0),
    "limit itself": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100)),
    "name itself": lambda: call("prctl", 15, b"a-name", 0, 0, 0),
    "calm itself": lambda: os.setpriority(os.PRIO_PROCESS, 0, 19),
    "read Python": lambda: Path(os.__file__).read_text(),
    "import": lambda: __import__("sqlite3"),
    "its own processors": lambda: os.sched_setaffinity(0, own_processors()),
    "socket pair": lambda: [each.close() for each in socket.socketpair()],
    "read itself": lambda: Path("/proc/self/status").read_text(),
    "read of the machine": lambda: Path("/proc/cpuinfo").read_text(),
    "read what is allowed": lambda: Path(FOLDER, "allowed", "file").read_text(),
    "write to /dev/null": lambda: Path(os.devnull).write_text("x"),
}
LIMITS: dict[str, Callable[[], object]] = {
    "AS": lambda: resource.getrlimit(resource.RLIMIT_AS),
    "CORE": lambda: resource.getrlimit(resource.RLIMIT_CORE),
    "NOFILE": lambda: resource.getrlimit(resource.RLIMIT_NOFILE),
    "FSIZE": lambda: resource.getrlimit(resource.RLIMIT_FSIZE),
    "nothing gained": lambda: call("prctl", 39, 0, 0, 0, 0),
    "user": lambda: [os.getresuid(), os.getresgid(), os.getgroups()],
    "oom": lambda: int(Path("/proc/self/oom_score_adj").read_text()),
}


KINDS = {"calls": CALLS, "files": FILES, "fine": FINE, "limits": LIMITS}


def try_it(kind: str, name: str) -> list[Any]:
    """Enter the sandbox and act. Return [kind, name, outcome, what this kernel lacks].

    The outcome is the name of the error that refused the deed, else "done", or of LIMITS its
    result.
    """
    limit_process(int(MEMORY))
    lacking = apply_sandbox()
    try:
        came = KINDS[kind][name]()
    except OSError as error:
        return [kind, name, errno.errorcode[error.errno or 0], lacking]
    return [kind, name, came if kind == "limits" else "done", lacking]


def main() -> None:
    """Try each action in a fork of its own, so that none changes the process of another."""
    for kind, name in [(kind, name) for kind, deeds in KINDS.items() for name in deeds]:
        if CHOSEN and name not in CHOSEN:
            continue
        pid = os.fork()
        if pid == 0:
            os.write(1, json.dumps(try_it(kind, name)).encode() + b"\n")
            os._exit(0)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
