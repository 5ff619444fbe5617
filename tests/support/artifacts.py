"""Wheels of strategies, built in memory, and their rows."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping
from typing import Any

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
    name: str = "momentum-demo",
    version: str = "1.0",
    files: Mapping[str, str] | None = None,
    *,
    tag: str = "py3-none-any",
    metadata: str = "",
    entry_points: str = "[ginkgo.strategies]\nmomentum = momentum_demo:Momentum\n",
) -> tuple[str, bytes]:
    """Return the file name and the bytes of a wheel. Equal arguments give equal bytes."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    inside = dict(momentum() if files is None else files)
    inside[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}\n"
    )
    inside[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n"
    )
    if entry_points:
        inside[f"{info}/entry_points.txt"] = entry_points
    record = "".join(f"{path},{_digest(text)},{len(text)}\n" for path, text in inside.items())
    inside[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, text in inside.items():
            wheel.writestr(zipfile.ZipInfo(path), text)
    return f"{stem}-{tag}.whl", packed.getvalue()


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def store_artifact(
    version: str = "1.0", *, code: str = "one", pythons: list[str] | None = None, **strategy: Any
) -> Artifact:
    """Store an artifact with the strategy `momentum`, without the inspection."""
    catalog._known.clear()  # the same bytes, with other facts than an inspection finds
    filename, wheel = make_wheel(version=version, files=momentum(code))
    artifact = Artifact.complete.create(
        sha256=hashlib.sha256(wheel).hexdigest(), name="momentum-demo", version=version,
        filename=filename, wheel=wheel, size=len(wheel), python_tag="py3",
        python_requirement=", ".join(pythons or []), pythons=pythons or [],
    )  # fmt: skip
    facts = {"name": "momentum", "class_path": "momentum_demo:Momentum", "schema": SCHEMA}
    ArtifactStrategy.objects.create(artifact=artifact, **{**facts, **strategy})
    return artifact
