"""The key Django signs with, made once and kept under GINKGO_HOME."""

from __future__ import annotations

import secrets
from pathlib import Path

from ginkgo_site.secret_files import make_once


def secret_key(home: Path) -> str:
    """Return the kept key of `home`, making it the first time. All processes read the same one."""
    path = home / "secrets" / "secret_key"
    if not path.exists():
        make_once(path, secrets.token_urlsafe(48) + "\n")
    return path.read_text(encoding="ascii").strip()
