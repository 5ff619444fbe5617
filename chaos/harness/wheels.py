"""Wheels of strategies, built in memory."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping


def build_wheel(
    name: str,
    version: str,
    files: Mapping[str, str],
    *,
    tag: str = "py3-none-any",
    metadata: str = "",
    entry_points: str = "",
) -> tuple[str, bytes]:
    """Return the file name and the bytes of a wheel. Equal arguments give equal bytes."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    inside = dict(files)
    inside[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}\n"
    )
    inside[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n"
    )
    if entry_points:
        inside[f"{info}/entry_points.txt"] = entry_points
    record = "".join(f"{path},{_digest(text)}\n" for path, text in inside.items())
    inside[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, text in inside.items():
            wheel.writestr(zipfile.ZipInfo(path), text)
    return f"{stem}-{tag}.whl", packed.getvalue()


def _digest(text: str) -> str:
    """Return hash and size of a file, as a line of RECORD has them."""
    content = text.encode()
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"sha256={digest},{len(content)}"
