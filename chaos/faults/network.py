"""A node in a network of its own, whose packets are dropped without a word to either end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from chaos.faults.fault import Fault
from chaos.harness.tcp_proxy import Wire
from chaos.runner.fault_context import PATIENCE, FaultContext, NotAvailable
from ginkgo_site.env import CHECKOUT
from ginkgo_site.launcher.instance_lock import OWNER_ENV

NODE = "netns-1"


def packets_dropped(scene: FaultContext) -> None:
    """A node in a network namespace whose link goes down for longer than its lease."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise NotAvailable("needs root and the ip command")
    scene.touch_nodes(NODE)
    with _network() as (space, address), _bridge(scene, address) as url:
        token = scene.fleet.node_token(NODE)
        daemon = _launch(scene, space, url, token)
        try:
            if not scene.expect(lambda: _is(scene, "alive"), 20 * PATIENCE, f"{NODE} alive"):
                return
            scene.sleep(4)
            scene.note(f"{NODE} had {len(scene.fleet.on(NODE))} portfolios")
            _ip("-n", space, "link", "set", "inside", "down")
            scene.expect(
                lambda: not scene.fleet.on(NODE) and _is(scene, "lost"),
                (scene.ttl_s + 3) * PATIENCE,
                f"{NODE} lost and empty",
            )
            _ip("-n", space, "link", "set", "inside", "up")
            scene.expect(lambda: _is(scene, "alive"), 30 * PATIENCE, f"{NODE} alive again")
        finally:
            daemon.terminate()
            try:
                daemon.wait(15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait(5)
        scene.sleep(1)


def _is(scene: FaultContext, status: str) -> bool:
    found = scene.fleet.query("SELECT status FROM scheduling_node WHERE name = %s", NODE)
    return found == [(status,)]


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotAvailable(f"ip {' '.join(words)}: {done.stderr.strip()}")


@contextmanager
def _network() -> Iterator[tuple[str, str]]:
    """Give a namespace with a link to us; yield its name and our address on that link."""
    space = f"gk{os.getpid() % 100_000}"
    third = os.getpid() % 250
    _ip("netns", "add", space)
    try:
        _ip("link", "add", space, "type", "veth", "peer", "name", "inside", "netns", space)
        _ip("addr", "add", f"10.231.{third}.1/24", "dev", space)
        _ip("link", "set", space, "up")
        _ip("-n", space, "addr", "add", f"10.231.{third}.2/24", "dev", "inside")
        _ip("-n", space, "link", "set", "inside", "up")
        _ip("-n", space, "link", "set", "lo", "up")
        yield space, f"10.231.{third}.1"
    finally:
        for words in (("link", "del", space), ("netns", "del", space)):
            subprocess.run(["ip", *words], capture_output=True, check=False)


@contextmanager
def _bridge(scene: FaultContext, address: str) -> Iterator[str]:
    """The server listens on loopback, which a namespace has for itself: lead a way out of it."""
    with Wire(scene.fleet.access["url"], host=address).open() as wire:
        yield wire.url


def _launch(scene: FaultContext, space: str, url: str, token: str) -> subprocess.Popen[bytes]:
    assert urlsplit(url).port
    with open(scene.fleet.home / "logs" / f"{NODE}.txt", "ab") as output:
        process = subprocess.Popen(
            [
                *("ip", "netns", "exec", space, sys.executable, "-m", "scheduling.node_daemon"),
                *("--name", NODE, "--server", url),
            ],
            cwd=CHECKOUT,
            env={
                **scene.fleet.environment(),
                "GINKGO_NODE_TOKEN": token,
                OWNER_ENV: str(scene.fleet.home),
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    time.sleep(0.2)
    return process


FAULTS = (Fault("packets-dropped", packets_dropped, 25, alone=True),)
