"""Acknowledged commits of a daemon: comparison with checkpoints, claims, and their removal."""

from __future__ import annotations

import pytest

from scheduling.node_daemon.acknowledged import (
    MAX_ORDERS_PER_HEARTBEAT,
    MAX_ORDERS_PER_PORTFOLIO,
    MAX_PORTFOLIOS,
    Acknowledgements,
)
from scheduling.wire.messages import CheckpointAnswer, Commit, OrderLine


def commit(portfolio: int, to_seq: int, *orders: tuple[int, str], epoch: int = 3) -> Commit:
    lines = [OrderLine(seq, 0, "X", "buy", "1", "1", status, "", 0) for seq, status in orders]
    return Commit(
        portfolio=portfolio, epoch=epoch, from_seq=0, to_seq=to_seq, batch="", orders=lines
    )


def checkpoint(last_seq: int, epoch: int = 3) -> CheckpointAnswer:
    return CheckpointAnswer(
        epoch=epoch, revision=1, state_revision=1, last_seq=last_seq, state_seq=last_seq, state=None
    )


@pytest.fixture
def known() -> Acknowledgements:
    """100 events of portfolio 1, with placed orders at 40 and 90."""
    known = Acknowledgements()
    known.record(commit(1, 50, (40, "open"), (45, "refused")))
    known.record(commit(1, 100, (90, "filled")))
    return known


@pytest.mark.parametrize(("last_seq", "epoch"), [(100, 3), (101, 3), (500, 4)])
def test_checkpoint_at_or_after_the_acknowledged_position_is_not_reported(
    known: Acknowledgements, last_seq: int, epoch: int
) -> None:
    assert not known.claim_lost_commits(1, known.position(1), checkpoint(last_seq, epoch))
    assert known.next_claims() == []


def test_checkpoint_before_the_acknowledged_position_is_reported_with_the_orders_it_lacks(
    known: Acknowledgements,
) -> None:
    assert known.claim_lost_commits(1, known.position(1), checkpoint(60))
    (claims,) = known.next_claims()
    assert (claims.portfolio, claims.epoch, claims.seq) == (1, 3, 100)
    assert (claims.found_epoch, claims.found_seq) == (3, 60)
    assert claims.orders == [(90, 0)]
    known.mark_delivered([claims])
    assert known.next_claims() == []


def test_checkpoint_of_a_lower_epoch_is_reported_whatever_its_seq(known: Acknowledgements) -> None:
    assert known.claim_lost_commits(1, known.position(1), checkpoint(100, epoch=2))


def test_missing_commits_are_reported_once(known: Acknowledgements) -> None:
    known.claim_lost_commits(1, known.position(1), checkpoint(60))
    known.record(commit(1, 70))
    assert not known.claim_lost_commits(1, known.position(1), checkpoint(70))
    assert len(known.next_claims()) == 1


def test_checkpoint_requested_before_a_commit_may_lack_that_commit(known: Acknowledgements) -> None:
    before = known.position(1)
    known.record(commit(1, 200))
    assert not known.claim_lost_commits(1, before, checkpoint(150))


def test_all_claims_are_sent_on_request_and_checked_orders_are_removed(
    known: Acknowledgements,
) -> None:
    known.record(commit(2, 7, epoch=9))
    known.recall()
    assert known.is_recalled
    claims = known.next_claims()
    claimed = [(a.portfolio, a.epoch, a.seq, a.found_seq) for a in claims]
    assert claimed == [(1, 3, 100, -1), (2, 9, 7, -1)]
    assert claims[0].orders == [(40, 0), (90, 0)]
    known.record(commit(1, 120, (110, "open")))
    known.mark_delivered(claims)
    assert not known.is_recalled
    assert known.next_claims() == []
    known.recall()
    assert known.next_claims()[1].orders == [(110, 0)]


def test_remembered_commits_and_claims_per_heartbeat_are_bounded() -> None:
    known = Acknowledgements()
    for seq in range(MAX_ORDERS_PER_PORTFOLIO + 5):
        known.record(commit(7, seq, (seq, "open")))
    known.recall()
    assert [len(claim.orders) for claim in known.next_claims()] == [MAX_ORDERS_PER_PORTFOLIO]
    for number in range(MAX_PORTFOLIOS + 5):
        known.record(commit(number + 10, 1))
        known.record(commit(7, 1_000 + number))
    claims = {claim.portfolio: claim for claim in known.next_claims()}
    assert len(claims) == MAX_PORTFOLIOS
    assert len(claims[7].orders) == MAX_ORDERS_PER_HEARTBEAT // MAX_PORTFOLIOS
