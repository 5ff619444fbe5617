"""Write, read and delete the files that the launcher keeps in GINKGO_HOME."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any


def delete_data(home: Path, postgres_base: Path) -> None:
    """Delete the data of earlier starts, and nothing that Ginkgo did not create."""
    for folder in (postgres_base, home / "postgres", home / "secrets", home / "logs"):
        shutil.rmtree(folder, ignore_errors=True)


def write_private(path: Path, content: dict[str, Any]) -> None:
    """Write JSON with mode 600. A reader sees either the old file or the complete new one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
    draft.replace(path)


def read_private(path: Path) -> dict[str, Any]:
    """Return the content of a file of `write_private`, or {} if there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
