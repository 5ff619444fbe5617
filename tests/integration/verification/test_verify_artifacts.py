"""Verification and replay of portfolios whose revisions pin artifacts."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from portfolios.models import Artifact, Checkpoint
from portfolios.runtime.state import decode_state, strategy_view
from scheduling.errors import Refused
from scheduling.verification.verify import verify_portfolio
from tests.support.artifacts import store_artifact
from tests.support.factories import begin_reload, make_node, make_running_portfolio, owner

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("home")]


def ran_under() -> str:
    """Return the mark that the code of the newest commit left in the state."""
    found: str = strategy_view(decode_state(bytes(Checkpoint.objects.get().state)))["code"]
    return found


@pytest.fixture
def rolled_out(run_here: Callable[[Artifact], None]) -> tuple[Artifact, Artifact]:
    """A portfolio that ran under two artifacts, one after the other."""
    first, second = store_artifact("1.0", code="one"), store_artifact("2.0", code="two")
    node = make_node("node-1")
    run_here(first)
    make_running_portfolio(
        "p", node, events=400, strategy="momentum", symbols=["IBM"], artifact=first.sha256
    )
    assert ran_under() == "one"
    handoff = begin_reload("p", {"artifact": second.sha256})
    run_here(second)
    node.ready(handoff)
    assert owner("p", node).release(handoff).answer == "handed_over"
    assert node.commit("p", 400) == "ok"
    assert ran_under() == "two"
    return first, second


def test_each_tenure_is_replayed_with_the_bytes_that_its_revision_pins(
    rolled_out: tuple[Artifact, Artifact],
) -> None:
    verdict = verify_portfolio("p", full=True)
    assert verdict.identical, verdict.document()
    assert verdict.compared.counts.events == 2


def test_artifact_with_replaced_bytes_cannot_be_verified(
    rolled_out: tuple[Artifact, Artifact],
) -> None:
    """That the pinned bytes are replayed is seen by replacing them."""
    wheel = bytes(Artifact.complete.get(pk=store_artifact("3.0", code="other").pk).wheel)
    Artifact.objects.filter(pk=rolled_out[1].pk).update(wheel=wheel)
    with pytest.raises(Refused, match="arrived with other bytes") as caught:
        verify_portfolio("p", full=True)
    assert caught.value.code == "cannot_verify"
    assert hashlib.sha256(wheel).hexdigest()[:12] in str(caught.value)


def test_artifact_that_needs_a_package_no_index_has_cannot_be_verified_here(
    rolled_out: tuple[Artifact, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = "nonesuch-package==1.0 --hash=sha256:" + "a" * 64 + "\n"
    digest = hashlib.sha256(lock.encode()).hexdigest()
    monkeypatch.setenv("PATH", "")  # no uv
    monkeypatch.setattr(sys, "prefix", "/nonesuch")
    Artifact.objects.update(lock=lock, env_sha256=digest)
    with pytest.raises(Refused) as caught:
        verify_portfolio("p", full=True)
    assert caught.value.code == "cannot_verify"


def test_damaged_code_of_the_control_plane_is_restored_from_the_stored_bytes(
    rolled_out: tuple[Artifact, Artifact], home: Path
) -> None:
    assert verify_portfolio("p", full=True).identical
    for kept in (home / "control-plane-code" / "artifacts").glob("*/*"):
        kept.chmod(0o755)
        if kept.is_file():
            kept.write_bytes(b"damaged")
    assert verify_portfolio("p", full=True).identical
