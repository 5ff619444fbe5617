"""Wheels of the strategy `momentum`, built in memory, and their rows in the database."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from chaos.harness.wheels import build_wheel
from portfolios.artifacts import catalog
from portfolios.models import Artifact, ArtifactStrategy

#: Buys `quantity` once; `note` goes into its state, so that tests see which code ran.
MOMENTUM = '''
from decimal import Decimal
from typing import Any

import msgspec

from portfolios.strategies.base import OrderIntent, Strategy, smaller_errors


class MomentumParameters(msgspec.Struct, frozen=True):
    """Bars to look back, and how much to buy."""

    fast: int = 3
    slow: int = 8
    quantity: Decimal = Decimal(1)


class Momentum(Strategy):
    """Buy once."""

    name = "momentum"
    parameters_type = MomentumParameters

    @classmethod
    def check(cls, parameters, symbols):
        return smaller_errors("fast", parameters.fast, "slow", parameters.slow)

    def on_event(self, ctx, state, event):
        state["code"] = {code!r}
        state["seen"] = state.get("seen", 0) + 1
        if ctx.held(event.symbol) or ctx.has_open_order(event.symbol):
            return None
        return [OrderIntent(event.symbol, "buy", self.parameters.quantity)]
'''

SCHEMA: dict[str, Any] = {
    "$ref": "#/$defs/MomentumParameters",
    "$defs": {
        "MomentumParameters": {
            "title": "MomentumParameters",
            "type": "object",
            "properties": {
                "fast": {"type": "integer", "default": 3},
                "slow": {"type": "integer", "default": 8},
                "quantity": {"type": "string", "format": "decimal", "default": "1"},
            },
            "required": [],
        }
    },
}


def momentum(code: str = "one") -> dict[str, str]:
    """Return the files of a package with the strategy `momentum`, whose state names `code`."""
    return {"momentum_demo/__init__.py": MOMENTUM.replace("{code!r}", repr(code))}


def make_wheel(
    name: str = "momentum-demo", version: str = "1.0", files: Mapping[str, str] | None = None, *,
    tag: str = "py3-none-any", metadata: str = "",
    entry_points: str = "[ginkgo.strategies]\nmomentum = momentum_demo:Momentum\n",
) -> tuple[str, bytes]:  # fmt: skip
    """Return the file name and the bytes of a wheel, by default of `momentum`."""
    given = momentum() if files is None else files
    return build_wheel(name, version, given, tag=tag, metadata=metadata, entry_points=entry_points)


def store_artifact(
    version: str = "1.0", *, code: str = "one", pythons: list[str] | None = None, **strategy: Any
) -> Artifact:
    """Store an artifact with the strategy `momentum`, without the inspection."""
    catalog._known.clear()  # it may know other facts about the same bytes, from an earlier test
    filename, wheel = make_wheel(version=version, files=momentum(code))
    artifact = Artifact.complete.create(
        sha256=hashlib.sha256(wheel).hexdigest(), name="momentum-demo", version=version,
        filename=filename, wheel=wheel, size=len(wheel), python_tag="py3",
        python_requirement=", ".join(pythons or []), pythons=pythons or [],
    )  # fmt: skip
    facts = {"name": "momentum", "class_path": "momentum_demo:Momentum", "schema": SCHEMA}
    ArtifactStrategy.objects.create(artifact=artifact, **{**facts, **strategy})
    return artifact
