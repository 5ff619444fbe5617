"""The artifacts of a node: fetched by hash, checked, unpacked, and kept while they are used.

    artifacts/SHA256/wheel    the bytes, as the gateway sent them
    artifacts/SHA256/code     the unpacked, compiled, read-only files that processes import
    artifacts/SHA256/digest   the digest of `code`

A folder appears complete or not at all: it is written under a temporary name and renamed.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from io import BufferedWriter
from pathlib import Path

from portfolios.artifacts import unpack
from portfolios.artifacts.load import short
from scheduling.node_daemon.bounded_folder import BoundedFolder, remove_tree
from scheduling.node_daemon.config import CACHE_VARIABLE
from scheduling.node_daemon.errors import CodeUnavailable, DiskFull
from scheduling.node_daemon.logs import LOG
from scheduling.node_daemon.shared_tasks import SharedTasks
from scheduling.node_daemon.subprocesses import run_program

MAX_BYTES = 2 << 30  #: of all artifacts together
MAX_WHEEL_BYTES = 256 << 20
UNPACK_LIMIT_S = 60.0
WHEEL, CODE, DIGEST = "wheel", "code", "digest"

#: Opens the body of an artifact; raises RequestRefused or ServerUnavailable.
Fetch = Callable[[str], AbstractAsyncContextManager[AsyncIterator[bytes]]]


class ArtifactCache:
    """Artifacts below one folder. Portfolios that need the same one share its download."""

    def __init__(self, folder: Path, fetch: Fetch) -> None:
        """Use `folder`, which this node alone writes."""
        self.folder = BoundedFolder(folder, MAX_BYTES)
        self._fetch = fetch
        self._tasks: SharedTasks[Path] = SharedTasks(self._obtain)

    async def code_of(self, sha256: str) -> Path:
        """Return the folder to import an artifact from; fetch it if it is missing or damaged.

        Raise CodeUnavailable, RequestRefused, or ServerUnavailable if the attempt may be repeated.
        """
        # A download continues when its portfolio is stopped: another one will need the artifact.
        return await self._tasks.result(sha256)

    async def _obtain(self, sha256: str) -> Path:
        """Return what `code_of` returns; runs once for all callers that wait for this artifact."""
        target = self.folder.path / sha256
        try:
            damage = await asyncio.to_thread(_damage, target, sha256)  # "": it is not there
            # `mark_used` returns False if the artifact was evicted after the check for damage.
            if damage is not None or not self.folder.mark_used(sha256):
                if damage:
                    LOG.error("artifact %s is damaged on disk (%s)", short(sha256), damage)
                await self._write(sha256, target)
        except OSError as error:
            raise disk_error(f"artifact {short(sha256)}", target, error) from None
        return target / CODE

    async def _write(self, sha256: str, target: Path) -> None:
        """Download and unpack the artifact; publish it as `target` once it is complete."""
        draft = self.folder.draft()
        try:
            wheel = draft / WHEEL
            if not await asyncio.to_thread(_copy_if_good, target / WHEEL, wheel, sha256):
                await self._download(sha256, wheel)
            await self._unpack(sha256, draft)
            await asyncio.to_thread(self.folder.publish, draft, sha256)
        finally:
            await asyncio.to_thread(remove_tree, draft)

    async def _download(self, sha256: str, target: Path) -> None:
        """Download the wheel to `target`.

        Raise CodeUnavailable if it is too large or has another hash.
        """
        received, size = hashlib.sha256(), 0
        with target.open("xb") as file:
            async with self._fetch(sha256) as chunks:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > MAX_WHEEL_BYTES:
                        raise CodeUnavailable(
                            f"artifact {short(sha256)} has more than {MAX_WHEEL_BYTES >> 20} MB, "
                            "and Ginkgo stores none so large: check the proxy in front of the "
                            "gateway"
                        )
                    received.update(chunk)
                    await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(_sync, file)
        if received.hexdigest() != sha256:
            raise CodeUnavailable(
                f"artifact {short(sha256)} arrived with other bytes: their sha256 is "
                f"{received.hexdigest()}, expected {sha256}; check the proxy in front of the "
                "gateway"
            )
        LOG.info("artifact %s fetched: %d bytes", short(sha256), size)

    async def _unpack(self, sha256: str, draft: Path) -> None:
        """Unpack the wheel in `draft`, in a process of its own; write the digest beside the files.

        Raise CodeUnavailable with the reason, and `code_is_invalid` if no node could use the wheel.
        """
        program = [sys.executable, "-I", unpack.__file__, str(draft / WHEEL), str(draft / CODE)]
        ended = await run_program(program, UNPACK_LIMIT_S)
        what = f"artifact {short(sha256)}"
        if ended.timed_out:
            raise CodeUnavailable(
                f"{what} was not unpacked within {UNPACK_LIMIT_S:g} s; check load and disk of the"
                " node"
            )
        if ended.status == unpack.UNUSABLE:
            raise CodeUnavailable(f"{what} {ended.output}", code_is_invalid=True)
        if ended.status == unpack.OTHER_PYTHON:
            raise CodeUnavailable(f"{what} {ended.output}")
        if ended.status == unpack.DISK:
            error_number = int(ended.output)
            raise disk_error(what, draft, OSError(error_number, os.strerror(error_number)))
        if ended.status != 0:
            raise CodeUnavailable(f"{what} cannot be unpacked: {ended.summary()}")
        await asyncio.to_thread(_write_durably, draft / DIGEST, ended.output.encode())


def disk_error(what: str, where: Path, error: OSError) -> CodeUnavailable:
    """Return the error that says why `what` cannot be stored at the path `where`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        kind = "the disk is full" if error.errno == errno.ENOSPC else "the disk quota is used up"
        return DiskFull(
            f"{what} cannot be stored in {where.parent}: {kind}; free space there, or name "
            f"another folder with {CACHE_VARIABLE}"
        )
    return CodeUnavailable(f"{what} cannot be stored in {where.parent}: {error.strerror or error}")


def _damage(target: Path, sha256: str) -> str | None:
    """Return None if the artifact is complete, "" if it is absent, else what is wrong with it."""
    try:
        with (target / WHEEL).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                return "its wheel has other bytes"
        expected = (target / DIGEST).read_text()
        return None if unpack.digest(target / CODE) == expected else "its code has other bytes"
    except FileNotFoundError:
        return "a file is missing" if target.exists() else ""
    except OSError as error:
        return error.strerror or "it cannot be read"


def _copy_if_good(source: Path, target: Path, sha256: str) -> bool:
    """Copy a wheel if it has this hash, and return whether it does: no download is needed then."""
    try:
        with source.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                return False
    except OSError:
        return False
    shutil.copyfile(source, target)
    return True


def _sync(file: BufferedWriter) -> None:
    """Return once everything that was written to `file` is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        _sync(file)
