"""Artifacts as operators add and delete them: inspected in a process, stored, refused, in use."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from portfolios import strategy_inspection
from portfolios.artifacts import catalog
from portfolios.models import Artifact
from portfolios.runtime.python_version import PYTHON_VERSION
from scheduling import operations
from scheduling.errors import Invalid, Refused
from scheduling.models import Event
from scheduling.operations import artifacts
from tests.support.artifacts import make_wheel, momentum, store_artifact
from tests.support.factories import make_portfolio

pytestmark = [
    pytest.mark.django_db, pytest.mark.usefixtures("honest_history", "home", "no_known_facts"),
]  # fmt: skip

MINE = "[ginkgo.strategies]\nmine = mine:Mine\n"
SIMPLE = """
from portfolios.strategies.base import Strategy
class Mine(Strategy):
    name = "mine"
    {}
"""


@pytest.fixture
def no_known_facts() -> None:
    catalog._known.clear()


def add(*, lock: str = "", **given: Any) -> artifacts.Added:
    return operations.add_artifact(*make_wheel(**given), lock, actor="olive")


def refused(**given: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        add(**given)
    assert not Artifact.objects.exists()
    return caught.value


def mine(body: str, **given: Any) -> dict[str, Any]:
    return {
        "name": "mine", "files": {"mine.py": SIMPLE.format(body)}, "entry_points": MINE, **given,
    }  # fmt: skip


def test_wheel_is_inspected_and_stored_once_with_its_strategies() -> None:
    filename, wheel = make_wheel()
    added = operations.add_artifact(filename, wheel, actor="olive")
    assert added.is_new
    artifact = added.artifact
    assert (artifact.sha256, artifact.name, artifact.version, artifact.uploaded_by) == (
        hashlib.sha256(wheel).hexdigest(), "momentum-demo", "1.0", "olive",
    )  # fmt: skip
    assert bytes(Artifact.complete.get().wheel) == wheel
    (strategy,) = artifact.strategies.all()
    assert (strategy.name, strategy.class_path, strategy.checks, strategy.summary) == (
        "momentum", "momentum_demo:Momentum", True, "Buy once.",
    )  # fmt: skip
    properties = strategy.schema["$defs"]["MomentumParameters"]["properties"]
    assert sorted(properties) == ["fast", "quantity", "slow"]
    (event,) = Event.objects.filter(kind="artifact_added")
    assert (event.actor, event.reason) == ("olive", "momentum-demo 1.0")
    again = operations.add_artifact(filename, wheel, actor="olive")
    assert (again.artifact, again.is_new) == (artifact, False)
    assert Event.objects.filter(kind="artifact_added").count() == 1


def test_parameters_are_checked_by_schema_and_across_fields() -> None:
    artifact = add().artifact

    def errors(**config: Any) -> list[tuple[str, str]]:
        given: dict[str, Any] = {"strategy": "momentum", "symbols": ["IBM"], "config": config}
        try:
            make_portfolio("p", artifact=artifact.sha256, **given)
        except Invalid as invalid:
            return [(e["field"], e["code"]) for e in invalid.extra["errors"]]
        return []

    assert errors(fast="x") == [("config.fast", "wrong_type")]
    assert errors(fast=9, slow=3) == [("config.fast", "conflict")]
    assert errors(fast=2, slow=5) == []


def test_upload_of_a_stored_version_with_other_bytes_is_refused() -> None:
    store_artifact()
    with pytest.raises(Refused, match="A version never changes") as caught:
        add(files=momentum("other"))
    assert (caught.value.code, caught.value.status) == ("artifact_exists", 409)


def test_upload_of_stored_bytes_with_another_lock_is_refused() -> None:
    store_artifact()
    lock = "numpy==2.0 --hash=sha256:" + "a" * 64
    stored = Artifact.complete.get()
    with pytest.raises(Refused, match="another lock"):
        operations.add_artifact(stored.filename, bytes(stored.wheel), lock, actor="olive")


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ({"entry_points": ""}, "inspection_failed", "declares no entry point"),
        ({"files": {"momentum_demo/__init__.py": "import os; os._exit(3)"}},
         "inspection_failed", "exited with status 3"),
        ({"files": {"momentum_demo/__init__.py": "open('/etc/shadow')"}},
         "inspection_failed", "cannot be imported: PermissionError"),
        (mine("version = 'new'"), "inspection_failed", "must be whole numbers"),
        (mine("@classmethod\n    def schema(cls): return {'type': 'nonsense'}"),
         "inspection_failed", "no valid schema"),
        (mine("@classmethod\n    def schema(cls): return {'x': 'y' * 70_000}"),
         "inspection_failed", "limit 65,536"),
        ({"metadata": "Requires-Dist: numpy\n"}, "lock_needed", "uv pip compile"),
        ({"tag": "cp311-none-any" if PYTHON_VERSION != "3.11" else "cp312-none-any"},
         "other_python", "inspects strategies under"),
    ],
)  # fmt: skip
def test_artifact_that_cannot_be_used_says_why(given: dict[str, Any], code: str, said: str) -> None:
    refusal = refused(**given)
    assert (refusal.code, refusal.status) == (code, 400)
    assert said in refusal.message


@pytest.mark.django_db(transaction=True)  # uv takes longer than a transaction may be idle
def test_dependency_that_no_index_has_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    lock = "nonesuch-package==1.0 --hash=sha256:" + "a" * 64
    refusal = refused(metadata="Requires-Dist: nonesuch-package\n", lock=lock)
    assert refusal.code == "inspection_failed"
    assert "nonesuch-package" in refusal.message
    assert "127.0.0.1:9" in refusal.message


@pytest.mark.django_db(transaction=True)
def test_inspection_that_loops_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategy_inspection, "INSPECT_LIMIT_S", 1.0)
    refusal = refused(files={"momentum_demo/__init__.py": "while True: pass"})
    assert "did not answer within 1 s" in refusal.message


def test_full_artifact_store_refuses_an_upload_and_names_what_helps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(artifacts, "MAX_TOTAL_BYTES", 100)
    assert refused().code == "artifacts_full"


def test_second_concurrent_inspection_of_an_artifact_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(artifacts, "BUSY_WAIT_S", 0.01)
    with artifacts._inspecting:
        assert refused().code == "busy"
