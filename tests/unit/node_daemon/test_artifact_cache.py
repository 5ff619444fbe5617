"""The artifact cache: checked downloads, repair of damaged files, limits and eviction."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from scheduling.node_daemon import artifact_cache, bounded_folder
from scheduling.node_daemon.artifact_cache import ArtifactCache
from scheduling.node_daemon.bounded_folder import BoundedFolder, size_of
from scheduling.node_daemon.errors import CodeUnavailable, DiskFull, RequestRefused
from tests.support import wheels

DATA = wheels.counter("x").data()
SHA256 = wheels.sha256_of(DATA)


class Source:
    """A gateway with one file."""

    def __init__(self, data: bytes | None = DATA) -> None:
        self.data = data
        self.requests = 0
        self.may_end = asyncio.Event()
        self.may_end.set()

    @asynccontextmanager
    async def fetch(self, sha256: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield the file in two parts; the second waits for `may_end`."""
        self.requests += 1
        if self.data is None:
            raise RequestRefused(404, "not_found", "There is no such file.")
        yield self._parts(self.data)

    async def _parts(self, data: bytes) -> AsyncIterator[bytes]:
        yield data[:100]
        await self.may_end.wait()
        yield data[100:]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_artifact_is_fetched_once_and_shared(tmp_path: Path) -> None:
    source = Source()
    source.may_end.clear()
    cache = ArtifactCache(tmp_path, source.fetch)
    waiting = [asyncio.create_task(cache.code_of(SHA256)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # its portfolio is stopped; the others get the file all the same
    source.may_end.set()
    assert await waiting[1] == await waiting[2] == tmp_path / SHA256 / "code"
    assert await ArtifactCache(tmp_path, source.fetch).code_of(SHA256)  # the next daemon
    assert (source.requests, names(tmp_path)) == (1, [SHA256])


OTHER, OLD = wheels.counter("y").data(), wheels.counter("x", requires_python="<3").data()
GARBAGE = b"not a wheel"


@pytest.mark.parametrize(
    ("data", "sha256", "said", "strategy_failed"),
    [
        (OTHER, SHA256, f"arrived with other bytes: their sha256 is {wheels.sha256_of(OTHER)}, "
         f"expected {SHA256}", False),
        # No node can use it: it is the revision's fault.
        (GARBAGE, wheels.sha256_of(GARBAGE), "is not a valid wheel: File is not a zip file", True),
        (OLD, wheels.sha256_of(OLD), "needs Python <3, this is Python 3", False),
    ],
    ids=["other bytes", "not a wheel", "another Python"],
)  # fmt: skip
async def test_unusable_artifact_is_refused_and_not_kept(
    tmp_path: Path, data: bytes, sha256: str, said: str, strategy_failed: bool
) -> None:
    with pytest.raises(CodeUnavailable) as refused:
        await ArtifactCache(tmp_path, Source(data).fetch).code_of(sha256)
    assert str(refused.value).startswith(f"artifact {sha256[:12]} {said}")
    assert refused.value.strategy_failed is strategy_failed
    assert names(tmp_path) == []


async def test_damaged_code_is_restored_from_the_wheel_without_a_request(tmp_path: Path) -> None:
    source = Source()
    code = await ArtifactCache(tmp_path, source.fetch).code_of(SHA256)
    file = code / "counting" / "__init__.py"
    good = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(b"#" + good)
    source.data = None
    await ArtifactCache(tmp_path, source.fetch).code_of(SHA256)
    assert file.read_bytes() == good


async def test_damaged_wheel_is_fetched_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source()
    cache = ArtifactCache(tmp_path, source.fetch)
    await cache.code_of(SHA256)
    wheel = tmp_path / SHA256 / "wheel"
    wheel.write_bytes(DATA[:-1] + b"?")
    await cache.code_of(SHA256)
    assert (source.requests, wheel.read_bytes()) == (2, DATA)
    assert f"artifact {SHA256[:12]} is damaged on disk (its wheel has other bytes)" in caplog.text


async def test_full_disk_is_named_when_an_artifact_cannot_be_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(artifact_cache, "_sync", full)
    with pytest.raises(DiskFull) as refused:
        await ArtifactCache(tmp_path, Source().fetch).code_of(SHA256)
    assert str(refused.value) == (
        f"artifact {SHA256[:12]} cannot be stored in {tmp_path}: the disk is full; free space "
        "there, or name another folder with GINKGO_NODE_CACHE"
    )
    assert names(tmp_path) == []


def entry(folder: BoundedFolder, name: str, *, kilobytes: int, age_s: float) -> None:
    draft = folder.draft()
    (draft / "data").write_bytes(b"x" * (kilobytes << 10))
    folder.publish(draft, name)
    used = time.time() - age_s
    os.utime(folder.path / name, (used, used))


def test_longest_unused_entries_are_evicted_until_the_rest_fits(tmp_path: Path) -> None:
    folder = BoundedFolder(tmp_path, 250 << 10)
    for name, age_s in (("a", 400), ("b", 300), ("c", 200), ("d", 100)):
        entry(folder, name, kilobytes=100, age_s=age_s)
    # 400 KB, limit 250 KB: two have to leave, the oldest first, but `a` is wanted.
    assert folder.evict(keep={"a"}) == ["b", "c"]
    assert names(tmp_path) == ["a", "d"]


def test_entries_unused_for_long_are_evicted_although_there_is_room(tmp_path: Path) -> None:
    folder = BoundedFolder(tmp_path, 1 << 30)
    for name in ("old", "wanted"):
        entry(folder, name, kilobytes=1, age_s=bounded_folder.MAX_UNUSED_S + 10)
    entry(folder, "young", kilobytes=1, age_s=bounded_folder.MAX_UNUSED_S - 10)
    folder.mark_used("young")
    assert folder.evict(keep={"wanted"}) == ["old"]


def test_entry_used_while_the_folder_is_measured_is_not_evicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = BoundedFolder(tmp_path, 1)
    for name in ("used", "unused"):
        entry(folder, name, kilobytes=100, age_s=1_000)
    used: list[bool] = []

    def measured(path: Path) -> int:
        if path.name == "used":
            used.append(folder.mark_used("used"))
        return size_of(path)

    monkeypatch.setattr(bounded_folder, "size_of", measured)
    assert folder.evict(keep=()) == ["unused"]
    assert used == [True]
    assert [path.name for path in tmp_path.iterdir()] == ["used"]
    assert not folder.mark_used("unused")


def test_drafts_of_a_killed_daemon_are_removed(tmp_path: Path) -> None:
    left = BoundedFolder(tmp_path, 1).draft()
    (left / "file").write_text("x")
    left.chmod(0o555)
    BoundedFolder(tmp_path, 1)
    assert names(tmp_path) == []


def test_cache_folder_that_cannot_be_created_fails_only_when_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    folder = BoundedFolder(file / "cache", 1)
    assert folder.evict(keep=()) == []
    with pytest.raises(NotADirectoryError):
        folder.draft()
