"""No change by an operator removes a symbol with a position or an open order."""

from __future__ import annotations

import pytest

from portfolios.models import Portfolio, Revision
from portfolios.runtime import state as runtime_state
from scheduling import operations
from scheduling.decide.types import Policy
from scheduling.models import Run
from scheduling.passes.balance import balance
from scheduling.passes.sweep import sweep
from scheduling.timing import timing
from tests.support.factories import (
    FakeNode,
    OwnerSession,
    begin_reload,
    expire_handoff,
    lose,
    make_running_portfolio,
    make_settled_nodes,
    newest_handoff,
    prove_revision,
    run_of,
)
from tests.support.refusals import refused

pytestmark = pytest.mark.django_db
SYMBOLS = ["IBM", "HPQ"]
LAP = 376  #: events until each symbol has had one


@pytest.fixture
def node() -> FakeNode:
    return make_settled_nodes(1)[0]


def make_holder(node: FakeNode, *, events: int = 3 * LAP) -> OwnerSession:
    """Return a portfolio that is good with r1 and, after a lap, holds IBM and HPQ."""
    make_running_portfolio("p", node, strategy="buy_and_hold", symbols=SYMBOLS, events=events)
    hand = OwnerSession(node, Portfolio.objects.get(name="p"))
    prove_revision(hand.portfolio)
    return hand


def want_symbols(hand: OwnerSession, symbols: list[str]) -> None:
    """Store a wanted revision of these symbols, as one made before anything was held."""
    good = Revision.objects.get(portfolio=hand.portfolio, number=1)
    Revision.objects.create(
        portfolio=hand.portfolio, number=2, strategy=good.strategy, config=good.config,
        strategy_version=good.strategy_version, symbols=symbols, limits=good.limits,
    )  # fmt: skip
    Portfolio.objects.filter(pk=hand.portfolio.pk).update(revision=2)


def test_reload_that_removes_a_held_symbol_is_refused(node: FakeNode) -> None:
    hand = make_holder(node)
    want_symbols(hand, ["HPQ"])
    Portfolio.objects.filter(pk=hand.portfolio.pk).update(revision=1)
    refusal = refused(lambda: operations.reload("p", actor="ann", revision=2))
    assert (refusal.code, refusal.status) == ("symbol_in_use", 409)
    assert refusal.message == (
        "p holds or has ordered IBM, which r2 lacks; "
        "keep these symbols until their positions are closed."
    )
    assert refusal.extra["symbols"] == ["IBM"]
    assert Portfolio.objects.get(name="p").revision == 1
    assert operations.reload("p", actor="ann").state == "preparing"  # the one that runs


def test_symbols_of_a_large_account_are_checked_too(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_holder(node)
    monkeypatch.setattr(runtime_state, "MAX_OUTLINE_BYTES", 1)
    change = {"symbols": ["HPQ"]}
    refusal = refused(lambda: operations.revise_portfolio("p", change, actor="ann"))
    assert (refusal.code, refusal.extra["symbols"]) == ("symbol_in_use", ["IBM"])


def test_symbol_bought_after_the_request_fails_the_reload_at_the_grant(node: FakeNode) -> None:
    hand = make_holder(node, events=1)
    handoff = begin_reload("p", {"symbols": ["HPQ"]})
    assert node.commit("p", 3 * LAP) == "ok"  # the source buys IBM meanwhile
    assert node.ready(handoff) == "draining"
    epoch = hand.run().epoch
    answer = hand.release(handoff)
    assert answer.answer == "keep"
    assert "p holds or has ordered IBM, which r2 lacks" in answer.detail
    handoff.refresh_from_db()
    assert (handoff.state, handoff.error) == ("failed", answer.detail)
    at = hand.run()
    assert (at.epoch, at.revision, at.phase) == (epoch, 1, "running")
    assert at.reason == (
        "runs r1 until positions are closed: it holds or has ordered IBM, which the wanted r2 lacks"
    )
    assert hand.commit(1) == "ok"


def test_late_release_fails_a_reload_if_the_source_holds_a_removed_symbol(node: FakeNode) -> None:
    hand = make_holder(node, events=1)
    handoff = begin_reload("p", {"symbols": ["HPQ"]})
    assert node.commit("p", 3 * LAP) == "ok"
    node.ready(handoff)
    assert expire_handoff(handoff) == "failed"
    assert hand.run().revision == 1
    assert hand.commit(1) == "ok"


def test_wanted_revision_is_reloaded_once_the_symbol_is_free(node: FakeNode) -> None:
    hand = make_holder(node)
    want_symbols(hand, ["HPQ"])
    before = newest_handoff(hand.portfolio).pk
    assert sweep("s", timing()).reloads == 0
    assert newest_handoff(hand.portfolio).pk == before
    reason = hand.run().reason
    assert "it holds or has ordered IBM" in reason
    balance("s", timing(), Policy())
    assert hand.run().reason == reason  # a pass leaves it there
    Run.objects.filter(pk=hand.portfolio.pk).update(why={"code": "symbol_in_use", "params": {}})
    Revision.objects.filter(number=2).update(symbols=SYMBOLS)
    assert sweep("s", timing()).reloads == 1
    assert newest_handoff(hand.portfolio).to_revision == 2


def test_fall_back_to_the_good_revision_ignores_symbols_in_use(node: FakeNode) -> None:
    hand = make_holder(node, events=1)
    handoff = begin_reload("p", {"symbols": [*SYMBOLS, "GE"]})
    node.ready(handoff)
    assert hand.release(handoff).answer == "handed_over"
    assert node.commit("p", 3 * LAP) == "ok"  # it holds GE now, which r1 lacks
    assert hand.die() == "fell_back"
    assert node.commit("p", 1) == "ok"
    assert hand.run().revision == 1
    # The symbol is lost already, and not by a change of something else.
    begin_reload("p", {"config": {"quantity": "11"}})


def test_failover_to_the_good_revision_ignores_symbols_in_use() -> None:
    first, second = make_settled_nodes(2)
    hand = make_holder(first, events=1)
    handoff = begin_reload("p", {"symbols": [*SYMBOLS, "GE"]})
    first.ready(handoff)
    assert hand.release(handoff).answer == "handed_over"
    assert first.commit("p", 3 * LAP) == "ok"
    lose(first)
    balance("s", timing(), Policy())
    failover = newest_handoff(hand.portfolio)
    assert (failover.kind, failover.to_revision) == ("failover", 1)
    assert second.ready(failover) == "activating"
    assert second.commit("p", LAP) == "ok"
    assert run_of(hand.portfolio).node_id == second.row.pk


def test_configuration_change_ignores_symbols_removed_earlier(node: FakeNode) -> None:
    hand = make_holder(node)
    want_symbols(hand, ["HPQ"])
    Revision.objects.filter(number=2).update(status="rejected")
    portfolio, _ = operations.revise_portfolio("p", {"priority": 3}, actor="ann")
    assert (portfolio.priority, hand.run().revision) == (3, 1)
