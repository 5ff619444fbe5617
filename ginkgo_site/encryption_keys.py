"""The keys under which secrets are encrypted: in a file of mode 600, or in an environment variable.

One key per line, the newest first: it encrypts, and every one of them decrypts. The file is read at
each use, so that a rotation needs no restart.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography.fernet import Fernet

from ginkgo_site.secret_files import draft, make_once

FILE_VARIABLE, KEYS_VARIABLE = "GINKGO_ENCRYPTION_KEYS_FILE", "GINKGO_ENCRYPTION_KEYS"
MAX_FILE = 64_000  #: bytes


class KeysUnavailable(Exception):
    """No usable key was found. The text is a sentence with its remedy and contains no key."""


def new_key() -> str:
    """Return a new key, 32 random bytes as text."""
    return Fernet.generate_key().decode()


def make_file(path: Path) -> None:
    """Make a file with a new key (mode 600) unless it exists."""
    if path.exists():
        return
    make_once(path, f"{new_key()}\n")


def read_file(path: Path) -> list[Fernet]:
    """Return the keys of a file, at least one. Raise KeysUnavailable."""
    try:
        with path.open(encoding="ascii") as file:
            _refuse_readable_by_others(path, os.fstat(file.fileno()).st_mode)
            text = file.read(MAX_FILE)
    except FileNotFoundError:
        raise KeysUnavailable(
            f"There is no key for secrets: {path} does not exist. Restore it from its backup; if "
            f"there is none, write the output of `manage.py secret key` to it (mode 600; "
            f"{FILE_VARIABLE} sets the path) and set every secret again."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise KeysUnavailable(
            f"The keys for secrets in {path} cannot be read: {why}. Let this process's user read "
            "the file, or restore it from its backup."
        ) from None
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    keys = [
        _key(line, f"Line {number} of {path}")
        for number, line in lines
        if line and not line.startswith("#")
    ]
    if not keys:
        raise KeysUnavailable(
            f"{path} has no key for secrets. Restore it from its backup; if there is no backup, "
            "write the output of `manage.py secret key` to it and set every secret again."
        )
    return keys


def _refuse_readable_by_others(path: Path, mode: int) -> None:
    """Raise KeysUnavailable if the group of the file may write it, or others have any right."""
    if mode & 0o027:
        raise KeysUnavailable(
            f"The keys for secrets in {path} can be read or changed by others (mode"
            f" {stat.S_IMODE(mode):o}): run chmod 600 {path}. If somebody may have read them, run"
            " manage.py secret rotate, and set the secrets themselves anew."
        )


def parse(texts: tuple[str, ...]) -> list[Fernet]:
    """Return the keys in `texts`, the values of KEYS_VARIABLE. Raise KeysUnavailable."""
    return [
        _key(text, f"Entry {number} of {KEYS_VARIABLE}") for number, text in enumerate(texts, 1)
    ]


def prepend(path: Path, key: str) -> None:
    """Make `key` the newest of the file, in one step. Keep the file's owner, group and mode."""
    lines, before = [key, *path.read_text(encoding="ascii").splitlines()], path.stat()
    made = draft(path, "\n".join(lines) + "\n")
    try:
        os.chown(made, before.st_uid, before.st_gid)
        made.chmod(stat.S_IMODE(before.st_mode))
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)


def _key(text: str, where: str) -> Fernet:
    try:
        return Fernet(text)
    except ValueError:
        raise KeysUnavailable(
            f"{where} is not a key: a key is 32 bytes as URL-safe base64, 44 characters, as "
            "`manage.py secret key` prints it."
        ) from None
