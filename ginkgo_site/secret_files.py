"""Files with secrets: mode 600, complete or absent; of concurrent makers, the first one's stays."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def make_once(path: Path, text: str) -> None:
    """Make a file with `text`. If another process makes it first, that file stays."""
    made = draft(path, text)
    try:
        os.link(made, path)
    except FileExistsError:
        pass  # concurrent writer: another process, whose file is used
    finally:
        made.unlink()


def draft(path: Path, text: str) -> Path:
    """Return a new file beside `path` with `text`, to be moved or linked there."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # a key that is lost costs every secret
    return made
