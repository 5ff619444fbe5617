"""The code of artifacts for processes of the control plane: inspection, checks and verification.

Code is kept in the same caches as on a node, filled from the database: it is unpacked, and
environments are built, by the same programs with the same limits. Several processes share the
caches, one at a time.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from django.conf import settings

from portfolios.models import Artifact
from portfolios.strategy_inspection import CheckFailed
from portfolios.verify.replay_process import ArtifactCode
from scheduling.node_daemon.artifact_cache import ArtifactCache
from scheduling.node_daemon.environments import Environments
from scheduling.node_daemon.errors import CodeUnavailable
from scheduling.node_daemon.logs import LOG

__all__ = ["CodeUnavailable", "artifact_code", "code_for_check", "code_of_upload"]

#: How long a process waits for another one that unpacks or builds.
LOCK_WAIT_S = 120.0
LOCK_POLL_S = 0.1
MAX_THREADS = 2  #: threads of one process that unpack, build, or wait for another process
SLOT_WAIT_S = 3.0  #: how long a further thread waits for one of these to end
IN_USE_S = 6 * 3600.0  #: longer than a verification runs

_slots = threading.BoundedSemaphore(MAX_THREADS)


class _WheelNeeded(Exception):
    """The cached code of an artifact is damaged: its wheel has to be unpacked again."""


def artifact_code(sha256: str) -> ArtifactCode:
    """Return the unpacked code and the Python of a stored artifact. Raise CodeUnavailable.

    May build an environment, which takes as long as its packages are large.
    """
    artifact = Artifact.objects.filter(sha256=sha256).first()
    if artifact is not None and (_folder() / "artifacts" / sha256).exists():
        with suppress(_WheelNeeded):
            return _obtain(sha256, None, artifact.env_sha256, artifact.lock)
    # The wheel is read here: the event loop in `_obtain` must not wait for the database.
    wheel = Artifact.complete.filter(sha256=sha256).values_list("wheel", flat=True).first()
    if artifact is None or wheel is None:  # an operator may delete it between the two reads
        raise CodeUnavailable(f"artifact {sha256[:12]} was deleted; add its wheel again")
    return _obtain(sha256, bytes(wheel), artifact.env_sha256, artifact.lock)


def code_for_check(sha256: str) -> ArtifactCode:
    """Return what `artifact_code` returns, for a check of parameters. Raise CheckFailed."""
    try:
        return artifact_code(sha256)
    except CodeUnavailable as error:
        raise CheckFailed(f"The check of parameters failed: {error}.") from None


def code_of_upload(sha256: str, wheel: bytes, env_sha256: str, lock: str) -> ArtifactCode:
    """Return code and Python of an artifact that is not stored yet. Raise CodeUnavailable."""
    return _obtain(sha256, wheel, env_sha256, lock)


def _folder() -> Path:
    folder: Path = settings.GINKGO.home / "control-plane-code"
    return folder


def _obtain(sha256: str, wheel: bytes | None, env_sha256: str, lock: str) -> ArtifactCode:
    """Return an artifact's code and Python; unpack and build those that the caches lack.

    `wheel`: the bytes of the artifact, or None if its code should be cached: raise _WheelNeeded if
    it is damaged. Raise CodeUnavailable.
    """
    folder = _folder()

    # The caches call `bytes_of` and `lock_of` for what a node would download.
    @asynccontextmanager
    async def bytes_of(_: str) -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            if wheel is None:
                raise _WheelNeeded
            yield wheel

        yield chunks()

    async def lock_of(_: str) -> bytes:
        return lock.encode()

    async def obtain_both() -> ArtifactCode:
        artifacts = ArtifactCache(folder / "artifacts", bytes_of)
        code = await artifacts.code_of(sha256)
        keep = {sha256}
        python = None
        if env_sha256:
            environments = Environments(folder / "environments", folder / "artifacts", lock_of)
            python = (await environments.environment(env_sha256)).python
            keep.add(python.parents[2].name)  # of environments/NAME/venv/bin/python
            environments.folder.evict(keep | _in_use(environments.folder.path))
        artifacts.folder.evict(keep | _in_use(artifacts.folder.path))
        return ArtifactCode(sha256, code, python)

    with _slot(), _lock_folder(folder), _quieten_log():
        return asyncio.run(obtain_both())


@contextmanager
def _slot() -> Iterator[None]:
    """Take one of MAX_THREADS slots for a `with` block. Raise CodeUnavailable if none gets free.

    Without a limit, builds that take minutes could occupy all threads that answer requests.
    """
    if not _slots.acquire(timeout=SLOT_WAIT_S):
        raise CodeUnavailable(
            f"{MAX_THREADS} requests already unpack code or build an environment; repeat later"
        )
    try:
        yield
    finally:
        _slots.release()


@contextmanager
def _quieten_log() -> Iterator[None]:
    """Log only warnings of the node's caches within the block: this process is not a node."""
    before = LOG.level
    LOG.setLevel(logging.WARNING)
    try:
        yield
    finally:
        LOG.setLevel(before)


def _in_use(folder: Path) -> set[str]:
    """Return the names of entries used within IN_USE_S: a process may be running from them."""
    return {path.name for path in folder.glob("*") if time.time() - path.stat().st_mtime < IN_USE_S}


@contextmanager
def _lock_folder(folder: Path) -> Iterator[None]:
    """Hold the lock of the folder for the block; a process that ends frees its lock.

    Raise CodeUnavailable if another process has held it for LOCK_WAIT_S.
    """
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        until = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise CodeUnavailable(
                        f"another process has unpacked or built in {folder} for over "
                        f"{LOCK_WAIT_S:g} s; repeat later"
                    ) from None
                time.sleep(LOCK_POLL_S)
        yield
