"""Two bridged networks of network namespaces, and ports that can be cut off."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import psutil

from chaos.harness.many.layout import POSTGRES, WEBS, Layout
from chaos.harness.processes import kill_processes


def ip(*words: str) -> str:
    """Run `ip` and return its output. Raise an OSError with what it printed if it fails."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def free_number() -> int:
    """Return a number whose networks no other installation of this machine has."""
    taken = ip("-o", "link", "show")
    return next(number for number in range(1, 250) if f"gk{number}front" not in taken)


@contextmanager
def networks(layout: Layout) -> Iterator[None]:
    """Create both networks; end every process in their namespaces and delete them afterwards."""
    with ExitStack() as stack:
        for bridge, address in (
            (layout.front_bridge, layout.front),
            (layout.inner_bridge, layout.inner),
        ):
            ip("link", "add", bridge, "type", "bridge")
            stack.callback(_ip_if_possible, "link", "del", bridge)
            ip("addr", "add", f"{address}/24", "dev", bridge)
            ip("link", "set", bridge, "up")
        for server in POSTGRES:
            space = layout.postgres_space(server)
            _add_space(stack, space)
            _join(
                space, "inner", layout.postgres_link(server), layout.inner_bridge,
                layout.postgres_host(server),
            )  # fmt: skip
        for web in WEBS:
            space = layout.web_space(web)
            _add_space(stack, space)
            _join(
                space, "front", f"gk{layout.number}w{web}f", layout.front_bridge,
                layout.web_host(web),
            )  # fmt: skip
            _join(space, "inner", layout.web_link(web), layout.inner_bridge, layout.web_inner(web))
        yield


@contextmanager
def cut_off(layout: Layout, port: str) -> Iterator[None]:
    """Drop every packet through a bridge port of the database's network, in both directions."""
    ip("link", "set", port, "nomaster")
    try:
        yield
    finally:
        ip("link", "set", port, "master", layout.inner_bridge)


def processes_in(space: str) -> list[psutil.Process]:
    """The processes in a network namespace."""
    found = []
    for pid in ip("netns", "pids", space).split():
        with suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(int(pid)))
    return found


def _add_space(stack: ExitStack, space: str) -> None:
    ip("netns", "add", space)
    stack.callback(_remove_namespace, space)
    ip("-n", space, "link", "set", "lo", "up")


def _join(space: str, inside: str, port: str, bridge: str, address: str) -> None:
    """Give a namespace an address on a bridge."""
    ip("link", "add", port, "type", "veth", "peer", "name", inside, "netns", space)
    ip("link", "set", port, "master", bridge)
    ip("link", "set", port, "up")
    ip("-n", space, "addr", "add", f"{address}/24", "dev", inside)
    ip("-n", space, "link", "set", inside, "up")


def _remove_namespace(space: str) -> None:
    with suppress(OSError):
        kill_processes(processes_in(space))
    _ip_if_possible("netns", "del", space)


def _ip_if_possible(*words: str) -> None:
    """Run `ip`, and ignore its failure: what it should delete may be gone."""
    with suppress(OSError):
        ip(*words)
