"""The files a strategy may read: those of Python, of its packages and of the system.

The home of the installation, with its tokens, keys, logs and database, is excluded, even if it is
inside a readable folder; so are the file of the node's token and that of the keys of secrets. Of
/proc a strategy may read its own process (`sandbox`) and what is known of the machine.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec

from portfolios.runtime.environment import HIDES_VARIABLE
from portfolios.strategies.sources import ENTRY_POINT_GROUP, configured_modules

#: More folders and files that strategies may read, separated by colons.
READS_VARIABLE = "GINKGO_STRATEGY_READS"
PROJECT_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

_SYSTEM = (
    *("/usr", "/lib", "/lib64", "/lib32", "/bin", "/opt", "/nix/store"),
    *("/proc/cpuinfo", "/proc/filesystems", "/proc/loadavg", "/proc/meminfo", "/proc/stat"),
    *("/proc/sys", "/proc/uptime", "/proc/version"),
    *("/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/fs/cgroup"),
    *("/dev/zero", "/dev/random", "/dev/urandom"),
    *("/etc/alternatives", "/etc/group", "/etc/hosts", "/etc/ld.so.cache", "/etc/localtime"),
    *("/etc/mime.types", "/etc/nsswitch.conf", "/etc/os-release", "/etc/passwd", "/etc/timezone"),
    *("/etc/resolv.conf", "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/pki/tls/certs"),
)


@cache
def readable_paths() -> list[str]:
    """Return the files and folders a strategy may read, each with everything below it.

    Computed once per process: reading the metadata of all packages takes 20 ms, and portfolio
    processes are forked from a process that has done so.
    """
    given = os.environ.get(READS_VARIABLE, "").split(os.pathsep)
    wanted = [*_SYSTEM, *code_folders(), *_strategy_sources(), *filter(None, given)]
    hidden = hidden_paths()
    found: dict[str, None] = {}
    for path in dict.fromkeys(map(os.path.realpath, wanted)):
        found |= dict.fromkeys(_exclude_all(path, hidden))
    return list(found)


def code_folders() -> list[str]:
    """Return the folders of Python, its packages and this project."""
    prefixes = [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix]
    paths = [path for path in sys.path if os.path.isabs(path)]
    return [*prefixes, sysconfig.get_path("stdlib"), *paths, PROJECT_ROOT]


def hidden_home() -> str:
    """Return the home of the installation on this machine."""
    home = os.environ.get("GINKGO_HOME") or os.path.join(PROJECT_ROOT, ".ginkgo")
    return os.path.realpath(os.path.expanduser(home))


def hidden_paths() -> list[str]:
    """Return the home of the installation on this machine, and the files of tokens and keys."""
    keys = os.environ.get("GINKGO_ENCRYPTION_KEYS_FILE", "")
    more = os.environ.get(HIDES_VARIABLE, "").split(os.pathsep)
    files = [os.path.realpath(os.path.expanduser(path)) for path in (keys, *more) if path]
    return [hidden_home(), *files]


def _strategy_sources() -> list[str]:
    """Return where an import hook, as of an editable install, finds strategies outside `sys.path`.

    Looks up the top-level package only, which imports nothing.
    """
    points = entry_points(group=ENTRY_POINT_GROUP)
    names = {
        name.partition(".")[0] for name in (*configured_modules(), *(p.module for p in points))
    }
    found: list[str] = []
    for name in sorted(names):
        try:
            spec = find_spec(name)
        except (ImportError, ValueError):
            continue  # it cannot be imported either, which the registry reports
        if spec is not None:
            found += spec.submodule_search_locations or [spec.origin or ""]
    return [path for path in found if os.path.isabs(path)]


def _exclude_all(path: str, hidden: list[str]) -> list[str]:
    """Return the largest paths at or below `path` that contain nothing of `hidden`."""
    found = [path]
    for each in hidden:
        found = [left for inside in found for left in _exclude(inside, each)]
    return found


def _exclude(path: str, hidden: str) -> list[str]:
    """Return the largest paths at or below `path` that neither contain `hidden` nor are in it."""
    if path == hidden or path.startswith(hidden + os.sep):
        return []
    if not hidden.startswith(path.rstrip(os.sep) + os.sep):
        return [path]
    try:
        inside = sorted(os.listdir(path))
    except OSError:
        return []  # the paths below it are not known: allow none
    return [each for name in inside for each in _exclude(os.path.join(path, name), hidden)]
