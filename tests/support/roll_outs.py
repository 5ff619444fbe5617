"""A fleet whose portfolios run an artifact, and the steps of a roll-out, one by one."""

from __future__ import annotations

from typing import Any

from portfolios.models import Artifact, Portfolio
from portfolios.strategies.buy_and_hold import BuyAndHold
from scheduling import operations
from scheduling.db.transaction import execute_autocommit
from scheduling.enact.revisions import mark_proven_revisions
from scheduling.models import RollOut, Run
from scheduling.operations import NewRollOut
from scheduling.passes.roll_outs import advance
from scheduling.timing import timing
from tests.support import factories
from tests.support.artifacts import store_artifact

#: A built-in strategy, which the artifacts below offer too: it runs in the process of the test.
HELD: dict[str, Any] = {"strategy": "buy_and_hold", "symbols": ["IBM"]}
FACTS: dict[str, Any] = {
    "name": "buy_and_hold",
    "class_path": "portfolios.strategies.buy_and_hold:BuyAndHold",
    "schema": BuyAndHold.schema(),
}


def make_artifact(version: str, **given: Any) -> Artifact:
    """Return an artifact of this version that offers the strategy buy_and_hold."""
    return store_artifact(version, code=version, **{**FACTS, **given})


def make_fleet(*names: str) -> tuple[factories.FakeNode, Artifact, Artifact]:
    """Return a node that runs these portfolios under the first of two artifacts, all proven."""
    first, second = make_artifact("1.0"), make_artifact("2.0")
    node = factories.make_node("node-1", capacity=20, python="3.13")
    for name in names:
        make_holder(name, node, first)
        assert factories.owner(name, node).commit(1) == "ok"
        factories.prove_revision(Portfolio.objects.get(name=name))
    return node, first, second


def make_holder(name: str, node: factories.FakeNode, artifact: Artifact) -> factories.OwnerSession:
    """Return a portfolio that runs under the artifact and has committed one event.

    Its commits are written by hand: this process has no artifact on its path.
    """
    portfolio = factories.make_portfolio(name, artifact=artifact.sha256, **HELD)
    operations.migrate(name, node.name, actor="cast")
    node.prepare()
    hand = factories.OwnerSession(node, portfolio)
    assert hand.commit(1) == "ok"
    operations.unpin(name, actor="cast")
    return hand


def begin(artifact: Artifact, *names: str, **given: Any) -> int:
    """Begin a roll-out over these portfolios, the first of them as the canary."""
    values = {"portfolios": list(names), "canary": names[0], **given}
    return operations.roll_out(NewRollOut(artifact.sha256, **values), actor="ann").id


def begun(*names: str, **given: Any) -> tuple[factories.FakeNode, int]:
    """Return a node with these portfolios, and the roll-out over them that has begun."""
    node, _, second = make_fleet(*names)
    return node, begin(second, *names, **given)


def step() -> int:
    """Advance all roll-outs until there is nothing to do now. Return how many steps were taken."""
    total = 0
    while taken := advance("test", timing()):
        total += taken
        assert total < 100
    return total


def states(roll_out: int) -> dict[str, str]:
    items = RollOut.objects.get(pk=roll_out).items.order_by("position")
    return dict(items.values_list("portfolio__name", "state"))


def reasons(roll_out: int) -> dict[str, str]:
    """Return portfolio → reason of the items of a roll-out that have a reason."""
    items = RollOut.objects.get(pk=roll_out).items.exclude(reason="")
    return dict(items.values_list("portfolio__name", "reason"))


def state(roll_out: int) -> str:
    return RollOut.objects.get(pk=roll_out).state


def reload_done(name: str, node: factories.FakeNode) -> factories.OwnerSession:
    """Let the node carry out the newest handoff of a portfolio, up to its first commit."""
    hand = factories.owner(name, node)
    handoff = factories.newest_handoff(hand.portfolio)
    assert handoff.state == "preparing", handoff
    assert node.ready(handoff) == "draining"
    assert hand.release(handoff).answer == "handed_over"
    assert hand.commit(1) == "ok"
    return hand


def prove_all() -> None:
    """Let every revision have run for long enough, and mark it good."""
    Run.objects.filter(node__isnull=False).update(first_commit_at=factories.ago(3600))
    execute_autocommit(mark_proven_revisions(timing()))


def pinned(name: str) -> str:
    """Return the version of the artifact that the wanted revision of a portfolio pins."""
    portfolio = Portfolio.objects.get(name=name)
    artifact = portfolio.revisions.get(number=portfolio.revision).artifact
    assert artifact is not None
    return artifact.version
