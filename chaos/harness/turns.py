"""A strategy of an artifact that trades at each event, in as many versions as wanted."""

from __future__ import annotations

from chaos.harness.cluster import Cluster
from chaos.harness.wheels import build_wheel

#: Buys and sells one share by turns. A broken version fails where `{broken}` says (see BROKEN).
TURNS = '''
import os

import msgspec

from portfolios.strategies.base import OrderIntent, Strategy


class TurnsParameters(msgspec.Struct, frozen=True):
    """None."""


class Turns(Strategy):
    """Buy, sell, buy …"""

    name = "turns"
    parameters_type = TurnsParameters

    def __init__(self, parameters):
        super().__init__(parameters)
        if {broken} == "at its start":
            raise ValueError("version {version} is wrong")

    def on_event(self, ctx, state, event):
        seen = state["{version}"] = state.get("{version}", 0) + 1
        if ({broken}, seen) in (("at its first event", 1), ("at its third event", 3)):
            raise ValueError("version {version} is wrong")
        if {broken} == "by exiting" and seen == 2:
            os._exit(3)
        if len(state) > 5:
            del state[next(iter(state))]
        if ctx.has_open_order(event.symbol):
            return None
        side = "sell" if ctx.held(event.symbol) else "buy"
        return [OrderIntent(event.symbol, side, 1)]
'''


#: How a version can be broken.
BROKEN = ("at its start", "at its first event", "at its third event", "by exiting")


def upload_turns(cluster: Cluster, version: str, *, broken: str = "") -> str:
    """Build and upload a version of the strategy `turns`. Return the artifact's hash.

    It buys and sells one share by turns. `broken`: how it fails, one of BROKEN; "": it works.
    """
    name, wheel = build_wheel(
        "turns-demo",
        version,
        {"turns_demo/__init__.py": TURNS.replace("{version}", version).replace(
            "{broken}", repr(broken))},
        entry_points="[ginkgo.strategies]\nturns = turns_demo:Turns\n",
    )  # fmt: skip
    answer = cluster.call("POST", f"/api/artifacts/?filename={name}", wheel)
    return str(answer.must_be(200, 201).json["sha256"])
