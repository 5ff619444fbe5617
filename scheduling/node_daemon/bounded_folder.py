"""A folder of entries that are written once, used by name, and removed when they are not needed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Collection
from pathlib import Path

MAX_UNUSED_S = 30 * 86_400.0
DRAFT = "draft-"  #: prefix of entries that are being written


class BoundedFolder:
    """A folder of one daemon, of limited size. Its entries are folders, complete or absent."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Remove drafts of a killed daemon. The folder itself is created with its first draft."""
        self.path = path
        self._max_bytes = max_bytes
        self._evicting = threading.Lock()  # `evict` runs in a thread, `mark_used` on the event loop
        for leftover in path.glob(DRAFT + "*"):
            remove_tree(leftover)

    def draft(self) -> Path:
        """Return a new folder to write an entry in."""
        self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=self.path))
        draft.chmod(0o755)  # portfolio processes may run as another user
        return draft

    def publish(self, draft: Path, name: str) -> None:
        """Rename a complete draft to its final name. It replaces an entry of that name."""
        target = self.path / name
        if target.exists():
            replaced = Path(tempfile.mkdtemp(prefix=DRAFT, dir=self.path))
            target.rename(replaced / name)
            remove_tree(replaced)
        draft.rename(target)
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def mark_used(self, name: str) -> bool:
        """Remember that an entry is used now. Return False if it was evicted meanwhile."""
        with self._evicting:
            try:
                os.utime(self.path / name)
            except FileNotFoundError:
                return False
        return True

    def evict(self, keep: Collection[str]) -> list[str]:
        """Remove entries that are old or too much, and return their names.

        Those unused for MAX_UNUSED_S go, and the longest unused while all exceed the size limit.
        Entries named in `keep` stay, even if they alone exceed the limit.
        """
        now_s, entries = time.time(), []
        for path in self.path.glob("*"):
            if not path.name.startswith(DRAFT):
                entries.append((path.stat().st_mtime, size_of(path), path))
        total = sum(size for _, size, _ in entries)
        removed = []
        for used_at_s, size, path in sorted(entries):
            unused_for_long = now_s - used_at_s > MAX_UNUSED_S
            if path.name in keep or not (total > self._max_bytes or unused_for_long):
                continue
            if self._remove_unless_used(path, used_at_s):
                total -= size
                removed.append(path.name)
        return removed

    def _remove_unless_used(self, path: Path, used_at_s: float) -> bool:
        """Remove an entry last used at `used_at_s`. Return False if it was used after that: listing
        takes long, and a portfolio that starts meanwhile may have been given the entry."""
        with self._evicting:
            if path.stat().st_mtime != used_at_s:
                return False
            away = Path(tempfile.mkdtemp(prefix=DRAFT, dir=self.path))
            path.rename(away / path.name)
        remove_tree(away)
        return True


def size_of(folder: Path) -> int:
    """Return the bytes on disk of all files below `folder`."""
    total = 0
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):  # it is being written
                # st_blocks counts units of 512 bytes, whatever the file system's own block is.
                total += os.lstat(os.path.join(path, name)).st_blocks * 512
    return total


def remove_tree(folder: Path) -> None:
    """Remove a folder whose parts may be read-only. What cannot be removed stays."""
    for path, folders, _ in os.walk(folder):
        for folder_path in (path, *(os.path.join(path, name) for name in folders)):
            if not os.path.islink(folder_path):
                os.chmod(folder_path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)
