"""Wheels of small packages, made in memory."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

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
        """Return the bytes of the wheel."""
        info = f"{self.package}-{self.version}.dist-info"
        points = "\n".join(f"{name} = {value}" for name, value in self.entry_points.items())
        metadata = f"Metadata-Version: 2.1\nName: {self.package}\nVersion: {self.version}\n"
        if self.requires_python:
            metadata += f"Requires-Python: {self.requires_python}\n"
        files = {
            **self.files,
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {self.tag}\n",
            f"{info}/METADATA": metadata,
            f"{info}/entry_points.txt": f"[ginkgo.strategies]\n{points}\n",
        }
        record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in {**files, f"{info}/RECORD": record}.items():
                archive.writestr(zipfile.ZipInfo(name), text)
        return packed.getvalue()


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
