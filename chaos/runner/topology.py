"""The house that is hurt: three nodes of its own, two more behind wires, and who runs there."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from chaos.harness.cluster import DEMO_NODES, Cluster
from chaos.harness.installation import Answer
from chaos.harness.tcp_proxy import Wire

FAR_NODES = ("far-1", "far-2")


@dataclass(frozen=True)
class Times:
    """How long things take in this house, which is what faults are measured by."""

    lease_ttl_s: float = 6.0
    node_restart_s: float = 5.0
    environment: dict[str, str] = field(default_factory=dict)


#: Everything that is waited for in seconds, shortened; the proportions stay those of the product.
QUICK = Times(
    environment={
        "GINKGO_HEARTBEAT_INTERVAL_S": "1.5",
        "GINKGO_LEASE_TTL_S": "6",
        "GINKGO_SOCKET_GRACE_S": "2",
        "GINKGO_BALANCE_INTERVAL_S": "3",
        "GINKGO_GOOD_AFTER_S": "6",
        "GINKGO_STALL_S": "15",
        "GINKGO_BATCH_LIMIT_S": "3",
    }
)
PRODUCT = Times(lease_ttl_s=30.0, node_restart_s=15.0)

HALTING = "halt-sma"  #: stops before old events, and is started again between two faults

#: Beside the demo: a canary for each node behind a wire, and the other ways to catch up.
MORE_PORTFOLIOS: tuple[dict[str, Any], ...] = (
    {"name": "canary-4", "strategy": "canary", "spread_group": "canary", "priority": 10},
    {"name": "canary-5", "strategy": "canary", "spread_group": "canary", "priority": 10},
    {
        "name": "full-revert",
        "strategy": "mean_reversion",
        "config": {"lookback": 6, "entry_z": 1.1, "exit_z": 0.2, "quantity": "50"},
        "symbols": ["KO", "PEP", "PG", "MO"],
        "catch_up": "full",
    },
    {
        "name": HALTING,
        "strategy": "sma_cross",
        "config": {"fast": 2, "slow": 5, "quantity": "50"},
        "symbols": ["XOM"],
        "catch_up": "halt",
    },
    {
        "name": "heavy-sma",
        "strategy": "sma_cross",
        "config": {"fast": 3, "slow": 6, "quantity": "50"},
        "symbols": ["JNJ", "MRK"],
        "weight": 2,
    },
)


class Topology:
    """The house, its wires and its daemons of our own. `open` it."""

    def __init__(self, home: Path, times: Times, feed_rate: float = 100.0) -> None:
        self.times = times
        environment = {
            **times.environment,
            "GINKGO_FEED_RATE": f"{feed_rate:g}",
            "GINKGO_STRATEGIES": "chaos.faults.faulty_strategies",
        }
        self.fleet = Cluster(home, "--node-restart", f"{times.node_restart_s:g}", **environment)
        self.wires: dict[str, Wire] = {}
        self.daemons: dict[str, subprocess.Popen[str]] = {}
        self.launching = threading.Lock()  #: two faults may find the same daemon dead
        self.tokens: dict[str, str] = {}

    @property
    def nodes(self) -> tuple[str, ...]:
        """Every node that should live."""
        return (*DEMO_NODES, *self.daemons)

    @contextmanager
    def open(self) -> Iterator[Topology]:
        """Start everything, and end everything."""
        with ExitStack() as stack:
            stack.callback(self._end)
            self.fleet.start()
            self.tokens = {name: self.fleet.node_token(name) for name in FAR_NODES}
            for name in FAR_NODES:
                self.wires[name] = stack.enter_context(Wire(self.fleet.access["url"]).open())
                self.launch(name)
            for body in MORE_PORTFOLIOS:
                made = self.fleet.call("POST", "/api/portfolios/", body)
                assert made.status in (201, 409), made.text  # the home may be one of before
            yield self

    def launch(self, name: str) -> subprocess.Popen[str]:
        """Start one of the daemons behind the wires, in the place of any before it."""
        url = self.wires[name].url
        self.daemons[name] = self.fleet.launch_node(name, url, self.tokens[name])
        return self.daemons[name]

    def ask(self, method: str, path: str, body: Any = None) -> Answer | None:
        """Ask the API; None where nobody answered."""
        try:
            return self.fleet.call(method, path, body)
        except OSError:
            return None

    def _end(self) -> None:
        for daemon in self.daemons.values():
            if daemon.poll() is None:
                try:
                    family = psutil.Process(daemon.pid).children(recursive=True)
                except psutil.NoSuchProcess:
                    family = []
                daemon.kill()
                daemon.wait(10)
                for process in family:
                    with suppress(psutil.NoSuchProcess):  # it ends with its daemon
                        process.kill()
        if self.fleet.process is not None:
            self.fleet.end()
