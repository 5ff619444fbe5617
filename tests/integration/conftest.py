"""API clients by role, and a fake gateway with real daemons."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.utils import translation

from portfolios.artifacts import load
from portfolios.artifacts.unpack import unpack
from portfolios.models import Artifact, Portfolio
from portfolios.strategies import registry
from scheduling.permissions import Role
from scheduling.verification.evidence import read_evidence_rows
from tests.support.api_client import ApiClient, make_api_client
from tests.support.daemons import Daemons
from tests.support.fake_gateway import FakeGateway


@pytest.fixture
def operator(db: Any) -> ApiClient:
    return make_api_client(Role.OPERATOR, "olive")


@pytest.fixture
def viewer(db: Any) -> ApiClient:
    return make_api_client(Role.VIEWER, "vera")


@pytest.fixture
def stranger(db: Any) -> ApiClient:
    """Return an API client whose user belongs to no group."""
    return make_api_client(None, "stan")


@pytest.fixture
def nobody(db: Any) -> ApiClient:
    return ApiClient()


@pytest.fixture(scope="session", autouse=True)
def entry_points_read_once() -> Iterator[None]:
    """Read the entry points of packages once: it takes 4 ms, and each node that is made does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "entry_points", lru_cache(registry.entry_points))
        yield


@pytest.fixture(autouse=True)
def fresh_throttles() -> None:
    """Forget how often each client asked: the process keeps the counts."""
    cache.clear()


@pytest.fixture(autouse=True)
def default_language() -> Iterator[None]:
    """Forget the language of the last request, also for tests of other folders."""
    translation.deactivate()  # of a fixture of the module
    yield
    translation.deactivate()


@pytest.fixture
def home(tmp_path: Path, settings: Any) -> Path:
    """Unpack code into a folder of the test."""
    settings.GINKGO = replace(settings.GINKGO, home=tmp_path)
    return tmp_path


@pytest.fixture
def honest_history(db: Any) -> Iterator[None]:
    """Assert at the end that the audit log tells the same history as tenures and runs."""
    yield
    for name in Portfolio.objects.values_list("name", flat=True):
        assert read_evidence_rows(name).history_disagreement() is None, name


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    async with FakeGateway() as fake:
        yield fake


@pytest.fixture
async def daemons(gateway: FakeGateway, tmp_path: Path) -> AsyncIterator[Daemons]:
    started = Daemons(gateway, tmp_path)
    yield started
    await started.end()


@pytest.fixture
def run_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Artifact], None]]:
    """Return a function that installs an artifact in the process of the test, until its end."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(load, "_installed", {})

    def install(artifact: Artifact) -> None:
        wheel = tmp_path / artifact.filename
        wheel.write_bytes(bytes(Artifact.complete.get(pk=artifact.pk).wheel))
        unpack(wheel, tmp_path / artifact.sha256)
        sys.modules.pop("momentum_demo", None)
        load.install(artifact.sha256, str(tmp_path / artifact.sha256))

    yield install
    sys.modules.pop("momentum_demo", None)
