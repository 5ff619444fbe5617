"""Put the command `ginkgo` on the user's PATH."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

COMMAND = "ginkgo"


def link_command(command: Path, user_home: Path, search_path: Sequence[str]) -> str:
    """Link `command` in `~/.local/bin`, and return what to type for it.

    Return the name alone if the shell finds this very link by that name, else the whole path.
    Another program of that name is not replaced, and a folder that is missing is not made.
    """
    link = user_home / ".local" / "bin" / COMMAND
    if not link.parent.is_dir() or (os.path.lexists(link) and not _is_ours(link, command)):
        return str(command)
    try:
        if not link.is_symlink() or link.readlink() != command:
            # Another bin/up may do the same: rename replaces, and never leaves a moment without.
            new = link.with_name(f".{COMMAND}-{os.getpid()}")
            new.symlink_to(command)
            new.replace(link)
    except OSError:  # a folder that may not be written, a full disk: the path works without a link
        return str(command)
    candidates = [Path(folder) / COMMAND for folder in search_path if folder]
    found = next((path for path in candidates if path.exists()), None)
    return COMMAND if found == link else str(command)


def _is_ours(link: Path, command: Path) -> bool:
    """Return whether the link leads to this command or to that of another checkout of Ginkgo.

    Other programs are called ginkgo too, but have no package `ginkgo_cli` beside their folder.
    """
    if not link.is_symlink():
        return False
    target = link.parent / link.readlink()
    return target == command or (target.parent.parent / "ginkgo_cli" / "__main__.py").is_file()
