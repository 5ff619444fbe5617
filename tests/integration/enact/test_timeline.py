"""Acknowledged commits that vanished from the database: found, alerted, held and settled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import psycopg
import pytest
from django.db import connection

from ginkgo_site.checks import check_commits_wait_for_a_standby, standby_warnings
from scheduling import operations
from scheduling.db.transaction import execute
from scheduling.enact import alerts
from scheduling.enact.timeline import ClaimCounts, note_acknowledged, note_timeline
from scheduling.gateway.acknowledgement_requests import AcknowledgementRequests
from scheduling.models import Alert, DatabaseTimeline, Event, Run, Storm, VanishedCommits
from scheduling.passes.sweep import sweep
from scheduling.timing import timing
from scheduling.wire.messages import AcknowledgedCommits
from tests.support.factories import FakeNode, OwnerSession, ago, make_node, make_order, make_trader
from tests.support.postgres_pair import postgres_pair

pytestmark = pytest.mark.django_db


def note_timeline_before(timeline: int = 0, *, synchronous: bool = False) -> DatabaseTimeline:
    """Store the timeline that the gateways noted before a promotion."""
    execute(note_timeline())
    here = DatabaseTimeline.objects.get()
    here.timeline, here.synchronous = timeline, synchronous
    here.save()
    return here


def change_timeline(*, synchronous: bool = False) -> None:
    """Note a timeline, and then that the database goes on as another one."""
    note_timeline_before(synchronous=synchronous)
    execute(note_timeline())


def open_alerts() -> list[str]:
    execute(alerts.update_alerts(timing()))
    found = Alert.objects.filter(kind="commits_vanished", closed_at=None)
    return list(found.values_list("reason", flat=True))


def holder_of_failover() -> str:
    storm = Storm.objects.filter(held_at__isnull=False).first()
    return "" if storm is None else storm.held_by


def make_claim(hand: OwnerSession, **given: Any) -> AcknowledgedCommits:
    at = hand.run()
    said = {"portfolio": at.portfolio_id, "epoch": at.epoch, "seq": at.last_seq, **given}
    return AcknowledgedCommits(**said)


def report(node: FakeNode, *claims: AcknowledgedCommits) -> int:
    return report_all(node, *claims).stored


def report_all(node: FakeNode, *claims: AcknowledgedCommits) -> ClaimCounts:
    return execute(note_acknowledged(node.row.pk, node.name, claims))


def test_first_timeline_of_an_installation_is_settled_and_holds_no_failover() -> None:
    key = execute(note_timeline())
    assert execute(note_timeline()) == key
    here = DatabaseTimeline.objects.get()
    assert here.settled_at is not None
    assert (here.system_identifier, here.timeline, here.synchronous) == (*key, False)
    assert (holder_of_failover(), open_alerts()) == ("", [])


def test_a_new_timeline_without_a_synchronous_standby_holds_failover_and_is_an_alert() -> None:
    change_timeline()
    execute(note_timeline())
    assert holder_of_failover() == "database"
    (told,) = open_alerts()
    assert told == (
        "the database went on as timeline 1 without a synchronous standby, so acknowledged "
        "commits may be missing; no daemon has reported any; run manage.py raise_epoch_floor"
    )
    event = Event.objects.get(kind="database_changed")
    assert event.reason == (
        "the database goes on as timeline 1 after timeline 0, which had no synchronous standby"
    )
    assert Event.objects.filter(kind="storm_held").count() == 1


def test_a_new_timeline_after_a_synchronous_standby_is_noted_and_nothing_more() -> None:
    change_timeline(synchronous=True)
    assert (holder_of_failover(), open_alerts()) == ("", [])
    assert Event.objects.get(kind="database_changed").data["settled"] is True


def test_new_database_server_is_a_new_timeline() -> None:
    here = note_timeline_before(1)
    here.system_identifier = "7"
    here.save()
    execute(note_timeline())
    assert holder_of_failover() == "database"
    assert "timeline 1 of another server" in Event.objects.get(kind="database_changed").reason


def test_epoch_floor_can_be_raised_without_the_privilege_to_read_the_timeline() -> None:
    hand = make_trader("p", make_node("node-1"))
    epoch = hand.run().epoch
    with connection.cursor() as cursor:
        cursor.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        cursor.execute("CREATE ROLE plain_owner")
        cursor.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO plain_owner")
        cursor.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO plain_owner")
        cursor.execute("SET LOCAL ROLE plain_owner")
        assert execute(note_timeline()) == ("", 0)
        operations.raise_epoch_floor(1000, actor="olive")
        cursor.execute("RESET ROLE")
    assert hand.run().epoch == epoch + 1000


def test_acknowledged_commits_that_the_database_has_are_not_vanished() -> None:
    node = make_node("node-1")
    hand = make_trader("p", node, events=5)
    at = hand.run()
    earlier = make_claim(hand, epoch=at.epoch - 1, seq=at.last_seq - 2)
    assert report(node, make_claim(hand), earlier) == 0
    assert not VanishedCommits.objects.exists()


def test_vanished_commits_are_counted() -> None:
    node = make_node("node-1")
    hand, moved = make_trader("p", node, events=5), make_trader("q", node, events=5)
    at, there = hand.run(), moved.run()
    make_order(hand.portfolio, at.last_seq + 3, 1, status="open", epoch=at.epoch)
    orders = [(at.last_seq, 0), (at.last_seq + 3, 1), (at.last_seq + 9, 0)]
    said = (
        make_claim(hand, seq=at.last_seq + 10, orders=orders),
        make_claim(moved, epoch=there.epoch + 1),
        AcknowledgedCommits(portfolio=987_654, epoch=4, seq=70),
    )
    assert report(node, *said) == 3
    assert report(node, *said) == 0  # the answer was lost
    (told,) = open_alerts()
    assert told == (
        "the database lacks acknowledged commits (portfolios: 3, events: 10, placed orders: 1); "
        "unverified portfolios: 2; run manage.py raise_epoch_floor"
    )
    assert Event.objects.get(kind="commits_vanished").data["orders"] == 2
    assert holder_of_failover() == "database"  # the only node there is


def test_vanished_commits_are_reported_though_the_database_has_passed_their_seq() -> None:
    node = make_node("node-1")
    hand = make_trader("p", node, events=50)
    at = hand.run()
    told = make_claim(hand, seq=at.last_seq - 10, found_epoch=at.epoch, found_seq=at.last_seq - 30)
    assert report(node, told) == 1
    assert "(portfolios: 1, events: 20, placed orders: 0)" in open_alerts()[0]


def test_alert_counts_the_oldest_claimed_orders_first_and_says_that_there_are_more() -> None:
    hand = make_trader("p", make_node("node-1"), events=5)
    at = hand.run()
    make_order(hand.portfolio, at.last_seq + 1, status="open", epoch=at.epoch)
    first, *_ = VanishedCommits.objects.bulk_create(
        VanishedCommits(
            portfolio_number=hand.portfolio.pk, node=hand.daemon.row, epoch=at.epoch,
            seq=at.last_seq + n, found_epoch=at.epoch, found_seq=at.last_seq, seen_at=ago(1),
            orders=[(at.last_seq + n, index) for index in range(200)],
        )
        for n in range(1, 27)
    )  # fmt: skip
    first.unverified = True
    first.save()  # PostgreSQL reads it last now, unless it is asked for an order
    (told,) = open_alerts()
    assert "placed orders: 4999 or more)" in told


def test_vanished_commits_claimed_by_one_node_alone_open_an_alert_and_do_not_hold_failover() -> (
    None
):
    """It could be wrong, or hostile; two that say so, or a database that changed, are believed."""
    first, second = make_node("node-1"), make_node("node-2")
    hand, other = make_trader("p", first), make_trader("q", second)
    report(first, make_claim(hand, seq=10**9))
    assert (holder_of_failover(), len(open_alerts())) == ("", 1)
    report(second, make_claim(other, seq=10**9))
    assert holder_of_failover() == "database"


@pytest.mark.parametrize(
    "nonsense", [{"seq": 2**63}, {"seq": -1}, {"orders": [(2**70, 0)]}, {"found_seq": -2}]
)
def test_invalid_claim_of_a_vanished_commit_does_not_affect_other_claims(
    nonsense: dict[str, Any],
) -> None:
    node = make_node("node-1")
    hand = make_trader("p", node)
    bad = msgspec.structs.replace(make_claim(hand, seq=10**9), **nonsense)
    assert report(node, bad) == 0
    assert report(node, bad, make_claim(hand, seq=10**6)) == 1


def test_claims_of_vanished_commits_with_the_largest_numbers_do_not_break_the_alert() -> None:
    """One daemon says them, and every alert of the fleet is compared in one statement."""
    node = make_node("node-1")
    hand, other = make_trader("p", node), make_trader("q", node)
    make_order(hand.portfolio, 2**62, 1, status="open")
    most = {"seq": 2**63 - 1, "orders": [(2**62, 1), (2**63 - 1, 2**63 - 1)]}
    assert report(node, make_claim(hand, **most), make_claim(other, **most)) == 2
    (told,) = open_alerts()
    assert "portfolios: 2" in told


def test_number_of_vanished_commits_that_one_node_may_claim_is_limited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_claim_limits(monkeypatch, 1, per_portfolio=2)
    first, second = make_node("node-1"), make_node("node-2")
    hand, other = make_trader("p", first), make_trader("q", second)
    for n, counts in ((0, (2, 0)), (2, (1, 1)), (4, (0, 2))):
        claims = (make_claim(hand, seq=10**9 + n + m) for m in range(2))
        assert report_all(first, *claims) == counts
    assert report_all(first, make_claim(hand, seq=10**9)) == (0, 0)  # stored before
    assert report(second, make_claim(other, seq=10**8)) == 1
    assert Event.objects.filter(kind="commits_vanished").count() == 3
    make_trader("r", first)
    assert report_all(first, make_claim(hand, seq=10**9 + 4)) == (1, 0)


def set_claim_limits(monkeypatch: pytest.MonkeyPatch, at_least: int, per_portfolio: int) -> None:
    monkeypatch.setattr("scheduling.enact.timeline.MAX_NEW", at_least)
    monkeypatch.setattr("scheduling.enact.timeline.MAX_NEW_PER_PORTFOLIO", per_portfolio)


def test_claims_count_towards_the_limit_of_a_node_until_they_are_settled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_claim_limits(monkeypatch, 2, per_portfolio=0)
    node = make_node("node-1")
    hand, other = make_trader("p", node), make_trader("q", node)
    assert report(node, make_claim(hand, seq=10**9), make_claim(hand, seq=10**9 + 1)) == 2
    VanishedCommits.objects.update(seen_at=ago(7 * 86_400))
    assert report(node, make_claim(other, seq=10**9)) == 0
    VanishedCommits.objects.update(settled_at=ago(1))
    assert report(node, make_claim(other, seq=10**9)) == 1


def test_settled_claims_of_a_node_still_count_towards_its_limit_for_an_epoch() -> None:
    hand = make_trader("p", make_node("node-1"))
    for n, stored in ((0, 4), (4, 1)):
        claims = (make_claim(hand, seq=10**9 + n + m) for m in range(4))
        assert report(hand.daemon, *claims) == stored
    VanishedCommits.objects.update(seen_at=ago(7 * 86_400), settled_at=ago(1))
    assert report(hand.daemon, make_claim(hand, seq=10**9 + 9)) == 0
    lines = Event.objects.filter(kind="commits_vanished")
    assert [line.data["portfolios"] for line in lines] == [[hand.portfolio.pk]] * 2
    assert {line.reason.partition("have, ")[2] for line in lines} == {"of 1 portfolio"}


def test_a_node_cannot_claim_commits_of_a_portfolio_that_another_one_owned() -> None:
    first, second = make_node("node-1"), make_node("node-2")
    hand = make_trader("p", first)
    at = hand.run()
    told = make_claim(hand, seq=10**9)
    shown = make_claim(hand, seq=10**9, found_epoch=at.epoch, found_seq=at.last_seq)
    of_nobody = make_claim(hand, epoch=0, seq=10**9)
    assert report(second, told, shown, of_nobody) == 0
    assert (holder_of_failover(), open_alerts()) == ("", [])
    assert not Event.objects.filter(kind="commits_vanished").exists()
    assert report(first, told) == 1


def test_claims_for_epochs_without_a_tenure_are_marked_unverified_and_limited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scheduling.enact.timeline.MAX_UNVERIFIED", 3)
    first, second = make_node("node-1"), make_node("node-2")
    hand, own = make_trader("p", first), make_trader("q", second)
    epoch = hand.run().epoch
    # Granted to the second node.
    forgotten = [make_claim(hand, epoch=epoch + 1 + n) for n in range(2)]
    created = [AcknowledgedCommits(portfolio=900_000 + n, epoch=1, seq=7) for n in range(2)]
    assert report(second, *forgotten) == 2
    assert report(second, *forgotten, *created) == 1
    assert report(second, *created) == 0
    stored = set(VanishedCommits.objects.values_list("node_id", "unverified"))
    assert stored == {(second.row.pk, True)}
    assert "unverified portfolios: 2" in open_alerts()[0]
    assert holder_of_failover() == ""  # one node's word
    assert report(second, make_claim(own, seq=10**9)) == 1  # the bound is that of the unverified
    assert VanishedCommits.objects.filter(unverified=False).count() == 1


def test_claim_for_the_epoch_of_another_node_is_kept_unverified_after_a_promotion() -> None:
    first, second = make_node("node-1"), make_node("node-2")
    hand = make_trader("p", first)
    change_timeline()
    assert report(second, make_claim(hand, seq=10**9)) == 1
    assert VanishedCommits.objects.get().unverified


def test_raising_the_epoch_floor_settles_vanished_commits_and_later_claims_of_them() -> None:
    node = make_node("node-1")
    hand = make_trader("p", node)
    change_timeline()
    report(node, make_claim(hand, seq=10**9))
    assert len(open_alerts()) == 1
    operations.raise_epoch_floor(1000, actor="olive")
    assert (holder_of_failover(), open_alerts()) == ("", [])
    report(node, make_claim(hand, seq=10**9 + 1))
    assert (holder_of_failover(), open_alerts()) == ("", [])
    assert VanishedCommits.objects.filter(settled_at__isnull=False).count() == 2


def test_commits_that_vanish_after_the_floor_was_raised_hold_failover() -> None:
    hand = make_trader("p", make_node("node-1"))
    operations.raise_epoch_floor(1000, actor="olive")
    node = make_node("node-1")
    operations.migrate("p", "node-1", actor="olive")
    node.prepare()
    assert node.commit("p", 1) == "ok"
    created = make_trader("q", node)
    report(node, make_claim(hand, epoch=1, seq=10**9))  # of the history before the floor
    report(node, AcknowledgedCommits(portfolio=hand.portfolio.pk + 1, epoch=1, seq=7))
    assert (holder_of_failover(), open_alerts()) == ("", [])
    report(node, make_claim(hand, seq=10**9))
    report(node, AcknowledgedCommits(portfolio=created.portfolio.pk + 1, epoch=1, seq=7))
    assert VanishedCommits.objects.filter(settled_at=None).count() == 2
    assert len(open_alerts()) == 1
    assert holder_of_failover() == "database"


def test_raising_the_epoch_floor_notes_the_timeline_of_its_database() -> None:
    """After a restore to another server it is raised before any gateway looks."""
    note_timeline_before()
    operations.raise_epoch_floor(1000, actor="olive")
    execute(note_timeline())
    assert (holder_of_failover(), open_alerts()) == ("", [])


def test_release_of_the_hold_of_failover_settles_vanished_commits() -> None:
    change_timeline()
    assert operations.release_storm(actor="olive", reason="nothing was lost") is True
    assert (holder_of_failover(), open_alerts()) == ("", [])


def test_automatic_settling_of_a_new_timeline_does_not_end_the_hold_of_an_operator() -> None:
    operations.hold_storm(actor="olive", reason="the network is rewired")
    change_timeline()
    assert holder_of_failover() == "olive"
    times = replace(timing(), raises_epoch_floor=True)
    DatabaseTimeline.objects.update(since=ago(100))
    sweep("watcher", times)
    assert open_alerts() == []
    assert holder_of_failover() == "olive"


def test_epoch_floor_is_raised_automatically_if_the_setting_says_so() -> None:
    times = replace(timing(), raises_epoch_floor=True, heartbeat_interval_s=0.0)
    node = make_node("node-1")
    hand = make_trader("p", node)
    epoch = hand.run().epoch
    report(node, make_claim(hand, seq=10**9))
    sweep("test", times)
    assert hand.run().epoch == epoch  # the database did not change: one daemon's word
    change_timeline()
    sweep("test", timing())
    assert hand.run().epoch == epoch  # not asked for
    sweep("test", times)
    assert hand.run().epoch == epoch + 1_000_000
    assert (holder_of_failover(), open_alerts()) == ("", [])
    assert Event.objects.get(kind="epoch_floor_raised").actor == "sweep"


def test_new_timeline_without_losses_is_settled_automatically() -> None:
    times = replace(timing(), raises_epoch_floor=True)
    make_trader("p", make_node("node-1"))
    change_timeline()
    sweep("test", times)
    assert holder_of_failover() == "database"
    DatabaseTimeline.objects.filter(settled_at=None).update(since=ago(3 * times.lease_ttl_s))
    sweep("test", times)
    assert holder_of_failover() == ""
    assert Run.objects.get().epoch < 1_000_000


def test_each_daemon_is_asked_for_its_acknowledged_commits_once_per_timeline() -> None:
    recall = AcknowledgementRequests()
    assert not recall.is_due(1, "a")  # which database it is, is not known yet
    recall.record_database(("x", 1))
    assert recall.is_due(1, "a")
    recall.record_received(1, "a")
    recall.record_database(("x", 1))
    assert not recall.is_due(1, "a")
    assert recall.is_due(1, "b")
    recall.record_database(("x", 2))
    assert recall.is_due(1, "a")


def test_system_check_warns_about_asynchronous_standbys() -> None:
    assert check_commits_wait_for_a_standby(databases=["default"]) == []
    with postgres_pair() as pair:
        with psycopg.connect(pair.url(pair.primary.port)) as session:
            (warning,) = standby_warnings(session.cursor())
        assert warning.id == "ginkgo.W001"
        assert warning.msg.startswith("The database replicates to standby servers and no commit")
        pair.make_synchronous()
        with psycopg.connect(pair.url(pair.primary.port)) as session:
            assert standby_warnings(session.cursor()) == []
