"""The installation of a chaos run: three demo nodes, two proxied nodes, 14 portfolios."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from chaos.harness.cluster import Cluster
from chaos.harness.installation import ApiResponse, eventually
from chaos.harness.many.cluster import ManyCluster
from chaos.harness.observation import DEMO_NODES
from chaos.harness.processes import kill_processes, process_tree
from chaos.harness.tcp_proxy import TcpProxy
from chaos.runner.live_feed import LiveFeed

PROXIED_NODES = ("far-1", "far-2")


@dataclass(frozen=True)
class Times:
    """Time limits of the installation, from which faults derive their durations."""

    lease_ttl_s: float = 6.0
    node_restart_s: float = 5.0
    good_after_s: float = 6.0  #: until a revision is proven, for which convergence waits
    environment: dict[str, str] = field(default_factory=dict)


#: The product's time limits, shortened in proportion.
SHORT_TIMES = Times(
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
PRODUCT_TIMES = Times(lease_ttl_s=30.0, node_restart_s=15.0, good_after_s=60.0)

HALTING = "halt-sma"  #: halts before stale events; the runner starts it again between steps

#: In addition to the demo: a canary for each proxied node, and the other values of `catch_up`.
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
    """The cluster, its proxies and the daemons behind them. Enter `open` to start it."""

    def __init__(
        self, home: Path, times: Times, feed_rate: float = 100.0, fleet: str = "one"
    ) -> None:
        self.times = times
        self.live = LiveFeed(home) if fleet == "jetstream" else None
        environment = {
            **times.environment,
            "GINKGO_FEED_RATE": f"{feed_rate:g}",
            "GINKGO_STRATEGIES": "chaos.faults.faulty_strategies",
        }
        if self.live is not None:
            environment["GINKGO_NATS_URL"] = self.live.server.url
        kind = ManyCluster if fleet == "many" else Cluster
        self.cluster = kind(home, "--node-restart", f"{times.node_restart_s:g}", **environment)
        self.proxies: dict[str, TcpProxy] = {}
        self.daemons: dict[str, subprocess.Popen[str]] = {}
        self.launching = threading.Lock()  #: two concurrent faults may restart the same daemon
        self.tokens: dict[str, str] = {}

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of all nodes that should be alive."""
        return (*DEMO_NODES, *self.daemons)

    @contextmanager
    def open(self) -> Iterator[Topology]:
        """Start everything, yield this topology, and end everything when the context ends."""
        with ExitStack() as stack:
            stack.enter_context(self.cluster.surroundings())
            stack.callback(self._end)
            if self.live is not None:
                stack.callback(self.live.close)
                self.live.server.start()
            self.cluster.start()
            self.tokens = {name: self.cluster.create_node_token(name) for name in PROXIED_NODES}
            for name in PROXIED_NODES:
                self.proxies[name] = stack.enter_context(
                    TcpProxy(self.cluster.access["url"]).open()
                )
                self.launch(name)
            for body in MORE_PORTFOLIOS:
                self._create(body)
            if self.live is not None:
                self.live.open(self.cluster)
            yield self

    def _create(self, body: dict[str, Any]) -> None:
        """Create a portfolio; repeat the request while a proxy cuts off its answer."""

        def try_to_create() -> bool:
            """Request the portfolio. Return whether it exists now."""
            made = self.request("POST", "/api/portfolios/", body)
            if made is None or made.status >= 500:
                return False
            # 409: it exists since a request whose answer was cut off, or since an earlier run.
            made.must_be(201, 409)
            return True

        eventually(try_to_create, what=f"the portfolio {body['name']} is created")

    def launch(self, name: str) -> subprocess.Popen[str]:
        """Start and return the daemon of a proxied node; it replaces any earlier one."""
        url = self.proxies[name].url
        self.daemons[name] = self.cluster.launch_node(name, url, self.tokens[name])
        return self.daemons[name]

    def request(self, method: str, path: str, body: Any = None) -> ApiResponse | None:
        """Send an API request. Return None if no response came."""
        try:
            return self.cluster.call(method, path, body)
        except OSError:
            return None

    def _end(self) -> None:
        """Kill the proxied daemons with their processes, then the cluster."""
        for daemon in self.daemons.values():
            if daemon.poll() is None:
                kill_processes(process_tree(psutil.Process(daemon.pid)))
                daemon.wait(10)
        if self.cluster.process is not None:
            self.cluster.kill_everything()
