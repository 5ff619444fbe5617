"""Requests for the code of an artifact: how many threads wait, and failures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from portfolios.models import Artifact
from scheduling import artifact_code
from scheduling.artifact_code import CodeUnavailable, code_of_upload
from scheduling.node_daemon.artifact_cache import ArtifactCache
from scheduling.node_daemon.environments import Environments


def test_an_environment_build_occupies_two_threads_and_further_requests_are_told_to_repeat(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact_code, "SLOT_WAIT_S", 0.05)
    inside, ended = threading.Semaphore(0), threading.Event()

    @contextmanager
    def building(folder: Path) -> Iterator[None]:
        inside.release()
        ended.wait()
        raise CodeUnavailable("the build is over")
        yield

    monkeypatch.setattr(artifact_code, "_lock_folder", building)
    answers: list[str] = []

    def ask() -> None:
        with pytest.raises(CodeUnavailable) as refused:
            code_of_upload("0" * 64, b"", "", "")
        answers.append(str(refused.value))

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(6)]
    for thread in threads[:2]:
        thread.start()
        inside.acquire()
    for thread in threads[2:]:
        thread.start()
        thread.join(30)
    assert len(answers) == 4
    assert set(answers) == {"2 requests already unpack code or build an environment; repeat later"}
    ended.set()
    for thread in threads[:2]:
        thread.join()
    assert answers[4:] == ["the build is over"] * 2


@pytest.mark.django_db
def test_code_of_an_artifact_that_is_deleted_between_two_reads_is_unavailable(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = "0" * 64
    artifact = Artifact.objects.create(
        sha256=sha256, name="gone", version="1.0", filename="gone.whl", wheel=b"wheel", size=5
    )

    def folder() -> Path:
        artifact.delete()
        return home

    monkeypatch.setattr(artifact_code, "_folder", folder)
    with pytest.raises(CodeUnavailable, match="artifact 000000000000 was deleted"):
        artifact_code.artifact_code(sha256)


@pytest.mark.django_db
def test_an_environment_that_cannot_be_built_is_not_built_twice(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = "0" * 64
    Artifact.objects.create(
        sha256=sha256, name="cached", version="1.0", filename="cached.whl", wheel=b"", size=5,
        env_sha256="1" * 64,
    )  # fmt: skip
    (home / "control-plane-code" / "artifacts" / sha256).mkdir(parents=True)
    builds: list[str] = []

    async def code_of(_: ArtifactCache, sha256: str) -> Path:
        return home

    async def environment(_: Environments, sha256: str) -> None:
        builds.append(sha256)
        raise CodeUnavailable("the package index does not answer")

    monkeypatch.setattr(ArtifactCache, "code_of", code_of)
    monkeypatch.setattr(Environments, "environment", environment)
    with pytest.raises(CodeUnavailable, match="index does not answer"):
        artifact_code.artifact_code(sha256)
    assert builds == ["1" * 64]
