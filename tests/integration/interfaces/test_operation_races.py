"""Operations beside concurrent protocol steps: each sees the change of the other."""

from __future__ import annotations

import psycopg
import pytest

from ginkgo_site.database import conninfo
from portfolios.models import Revision
from scheduling import operations
from scheduling.db.transaction import execute
from scheduling.enact.handoff import release
from scheduling.enact.revisions import mark_proven_revisions
from scheduling.models import Handoff, Run
from scheduling.passes.sweep import sweep
from scheduling.timing import timing
from tests.support.concurrency import Held, at_once, behind
from tests.support.factories import (
    ago,
    begin_reload,
    make_node,
    make_trader,
    owner,
    prove_revision,
    serving_since,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_change_that_waited_for_a_grant_reaches_the_new_owner() -> None:
    source, target = make_node("node-1"), make_node("node-2")
    hand = make_trader("p", source, catch_up="full")
    handoff = operations.migrate("p", "node-2", actor="ann")
    assert target.ready(handoff) == "draining"
    held = Held(
        release(
            source.row.pk, source.name, source.incarnation, hand.release_message(handoff), timing()
        )
    )
    (seen,) = held.connection.execute(
        "SELECT desired_version FROM scheduling_node WHERE id = %s", [target.row.pk]
    ).fetchone() or (0,)
    behind(held, lambda: operations.revise_portfolio("p", {"catch_up": "halt"}, actor="ann"))
    target.row.refresh_from_db()
    assert target.row.desired_version > seen, "what it has read is older than the wish"
    assert [entry.catch_up for entry in target.desired("run")] == ["halt"]


def test_a_concurrent_proof_does_not_make_a_rejected_revision_good() -> None:
    node = make_node("node-1")
    hand = make_trader("p", node)
    prove_revision(hand.portfolio)
    for number in range(2, 7):
        reload = begin_reload("p", {"limits": {"largest_order": str(number)}})
        node.ready(reload)
        assert hand.release(reload).answer == "handed_over"
        assert hand.commit(1) == "ok"
        Run.objects.update(first_commit_at=ago(3600))
        outcome, proven = at_once(hand.die, lambda: execute(mark_proven_revisions(timing())))
        status = Revision.objects.get(portfolio=hand.portfolio, number=number).status
        at = hand.run()
        found = (outcome, status, at.good_revision == number, at.revision == number)
        assert found in [
            ("fell_back", "rejected", False, False),
            ("restart", "good", True, True),
        ], (found, proven)
        assert owner("p", node).commit(1) == "ok"


def test_sweep_expires_other_handoffs_while_the_run_of_one_is_locked() -> None:
    source, _ = make_node("node-1"), make_node("node-2")
    moves = []
    for name in ("held", "free"):
        make_trader(name, source)
        moves.append(operations.migrate(name, "node-2", actor="ann"))
    Handoff.objects.update(deadline_at=ago(1))
    with psycopg.connect(conninfo()) as holding:
        holding.execute(
            "SELECT FROM scheduling_run WHERE portfolio_id = %s FOR UPDATE", [moves[0].portfolio_id]
        )
        serving_since(3600)  # only now: deadlines are judged within a gap of a pulse
        assert sweep("test", timing()).expired == 1
    assert [Handoff.objects.get(pk=m.pk).state for m in moves] == ["preparing", "failed"]
