"""A node in its own network namespace whose packets are dropped."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from chaos.faults.fault import Fault
from chaos.harness.processes import end_process
from chaos.harness.tcp_proxy import TcpProxy
from chaos.runner.fault_context import BUDGET_FACTOR, FaultContext, NotAvailable
from ginkgo_site.launcher.instance_lock import OWNER_ENV

NODE = "netns-1"


def packets_dropped(context: FaultContext) -> None:
    """A node in a network namespace whose link goes down for longer than its lease."""
    if os.geteuid() != 0:
        raise NotAvailable(f"needs root (this is uid {os.geteuid()})")
    if shutil.which("ip") is None:
        raise NotAvailable("needs the ip command: install iproute2")
    context.mark_nodes_affected(NODE)
    server = context.cluster.access["url"]
    # The server listens on loopback only, so a proxy listens at this end of the link.
    with _network() as (space, address), TcpProxy(server, host=address).open() as proxy:
        token = context.cluster.create_node_token(NODE)
        in_namespace = ("ip", "netns", "exec", space)
        owner = {OWNER_ENV: str(context.cluster.home)}
        daemon = context.cluster.launch_node(NODE, proxy.url, token, within=in_namespace, **owner)
        try:
            if not context.expect(
                lambda: _has_status(context, "alive"), 20 * BUDGET_FACTOR, f"{NODE} alive"
            ):
                return
            context.sleep(4)  # for the balancer to move portfolios to it
            context.note(f"{NODE} had {len(context.cluster.portfolios_on(NODE))} portfolios")
            _ip("-n", space, "link", "set", "inside", "down")
            context.expect(
                lambda: not context.cluster.portfolios_on(NODE) and _has_status(context, "lost"),
                (context.ttl_s + 3) * BUDGET_FACTOR,
                f"{NODE} lost and empty",
            )
            _ip("-n", space, "link", "set", "inside", "up")
            context.expect(
                lambda: _has_status(context, "alive"), 30 * BUDGET_FACTOR, f"{NODE} alive again"
            )
        finally:
            end_process(daemon, 15)
        context.sleep(1)


def _has_status(context: FaultContext, status: str) -> bool:
    found = context.cluster.query("SELECT status FROM scheduling_node WHERE name = %s", NODE)
    return found == [(status,)]


def _ip(*words: str) -> None:
    """Run `ip`. Raise NotAvailable with what it printed if it fails."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotAvailable(f"ip {' '.join(words)}: {done.stderr.strip()}")


@contextmanager
def _network() -> Iterator[tuple[str, str]]:
    """Create a network namespace linked to this one. Yield its name and the address of this end."""
    space = f"gk{os.getpid() % 100_000}"
    octet = os.getpid() % 250  # the third one of the link's network
    _ip("netns", "add", space)
    try:
        _ip("link", "add", space, "type", "veth", "peer", "name", "inside", "netns", space)
        _ip("addr", "add", f"10.231.{octet}.1/24", "dev", space)
        _ip("link", "set", space, "up")
        _ip("-n", space, "addr", "add", f"10.231.{octet}.2/24", "dev", "inside")
        _ip("-n", space, "link", "set", "inside", "up")
        _ip("-n", space, "link", "set", "lo", "up")
        yield space, f"10.231.{octet}.1"
    finally:
        for words in (("link", "del", space), ("netns", "del", space)):
            subprocess.run(["ip", *words], capture_output=True, check=False)


FAULTS = (Fault("packets-dropped", packets_dropped, 25, alone=True),)
