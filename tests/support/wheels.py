"""Wheels of small packages, made in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from chaos.harness.wheels import build_wheel

#: A strategy that writes what it is into its state, and counts events.
COUNTER = """
from portfolios.strategies.base import Strategy

MARK = {mark!r}

class Counter(Strategy):
    name = {name!r}
    sees_every_symbol = True

    def on_event(self, ctx, state, event):
        state["mark"] = MARK
        state["events"] = state.get("events", 0) + 1
        return None
"""


@dataclass
class Wheel:
    """A wheel with the given files. Two wheels with equal content have equal bytes."""

    files: dict[str, str]
    entry_points: dict[str, str] = field(default_factory=dict)
    package: str = "counting"
    version: str = "1.0"
    tag: str = "py3-none-any"
    requires_python: str = ">=3.11"

    def data(self) -> bytes:
        points = "\n".join(f"{name} = {value}" for name, value in self.entry_points.items())
        python = f"Requires-Python: {self.requires_python}" if self.requires_python else ""
        return build_wheel(
            self.package,
            self.version,
            self.files,
            tag=self.tag,
            metadata=python,
            entry_points=f"[ginkgo.strategies]\n{points}\n",
        )[1]


def counter(mark: str, *, name: str = "counter", **other: str) -> Wheel:
    """Return the wheel of a strategy that counts events and writes `mark` into its state."""
    source = COUNTER.format(mark=mark, name=name)
    return Wheel({"counting/__init__.py": source}, {name: "counting:Counter"}, **other)


def sha256_of(data: bytes) -> str:
    """Return the hash that identifies an artifact or a lock."""
    return hashlib.sha256(data).hexdigest()


def write(folder: Path, data: bytes) -> Path:
    """Write the bytes of a wheel to a file and return it."""
    path = folder / f"{sha256_of(data)[:12]}.whl"
    path.write_bytes(data)
    return path
