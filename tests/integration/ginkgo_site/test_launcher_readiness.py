"""For which portfolios a start waits, and for how long."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from psycopg.conninfo import make_conninfo

from ginkgo_site.launcher import bootstrap
from ginkgo_site.launcher.bootstrap import _end_leases_of_dead_daemons
from ginkgo_site.launcher.readiness import PASSES, Readiness
from scheduling import operations
from scheduling.models import Control, Lease, Node, PassLock, Run
from tests.support.factories import make_node, make_trader

pytestmark = pytest.mark.django_db(transaction=True)

WHY = {"code": "no_room", "params": {}}


@pytest.fixture
def readiness() -> Iterator[Readiness]:
    name = connection.settings_dict["NAME"]
    found = Readiness(make_conninfo(os.environ["GINKGO_TEST_DATABASE_URL"], dbname=name))
    yield found
    found.close()


def unassigned(*names: str) -> None:
    """Make portfolios that should run, have no node, and store why."""
    node = make_node("node-1", capacity=20)
    for name in names:
        make_trader(name, node)
    nowhere = {"node": None, "incarnation": None, "last_commit_at": None}
    Run.objects.update(phase="pending", reason="no room on 3 nodes", why=WHY, **nowhere)


def passes_end(at: datetime, number: int) -> None:
    """Record that pass `number` since `at` has run."""
    ran = {"holder": "watcher", "until": at, "failover_ran_at": at + timedelta(seconds=number)}
    PassLock.objects.update_or_create(name="pass", defaults=ran)


def test_start_waits_for_a_portfolio_without_a_node_until_enough_passes_have_ended(
    readiness: Readiness,
) -> None:
    now = readiness.database_now()
    unassigned("drained")
    for number in range(PASSES + 1):
        passes_end(now, number)
        missing = readiness.missing(["drained"], now)
        assert missing == ([] if number == PASSES else ["drained (pending: no room on 3 nodes)"])
    assert readiness.waiting() == ["drained waits: no room on 3 nodes"]


def test_start_keeps_waiting_for_a_portfolio_that_has_a_node_however_many_passes_end(
    readiness: Readiness,
) -> None:
    now = readiness.database_now()
    make_trader("owned", make_node("node-1"))
    for number in range(3 * PASSES):
        passes_end(now, number)
        (missing,) = readiness.missing(["owned"], readiness.database_now())
        assert missing.startswith("owned (")
    assert readiness.waiting() == []


def test_waiting_portfolios_are_listed_up_to_ten_and_the_rest_counted(readiness: Readiness) -> None:
    unassigned(*(f"p-{number:02}" for number in range(12)))
    told = readiness.waiting()
    assert len(told) == 11
    assert told[-1] == "2 more portfolios wait."


def test_the_lease_of_a_daemon_of_this_machine_ends_with_its_process_and_no_other_does(
    readiness: Readiness,
) -> None:
    here = socket.gethostname()
    dead, living, elsewhere = (make_node(name).row.pk for name in ("dead", "living", "elsewhere"))
    gone = 2**22 + 1  # above the largest process id of Linux
    Node.objects.filter(pk=dead).update(host=here, pid=gone)
    Node.objects.filter(pk=living).update(host=here, pid=os.getpid())
    Node.objects.filter(pk=elsewhere).update(host="rack-9", pid=gone)
    _end_leases_of_dead_daemons()
    valid = Lease.objects.filter(expires_at__gt=readiness.database_now())
    assert set(valid.values_list("node", flat=True)) == {living, elsewhere}
    assert set(Node.objects.values_list("status", flat=True)) == {"alive"}


def test_feed_that_does_not_exist_is_refused_with_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GINKGO_FEED", "nyse")
    with pytest.raises(
        bootstrap.Refused, match=r"^GINKGO_FEED is 'nyse', which is no feed: use re"
    ):
        bootstrap._create_feed_if_missing()


def test_freeze_of_a_person_outlives_a_stop_during_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "GINKGO", replace(settings.GINKGO, home=tmp_path))
    operations.freeze(actor="ann", reason="release", failover=False)
    bootstrap.stop()
    bootstrap.stop()  # Ctrl-C while nodes register, before the freeze of the first is undone
    bootstrap._undo_own_freeze(tmp_path)
    control = Control.objects.get(frozen_at__isnull=False)
    assert (control.frozen_by, control.frozen_reason) == ("ann", "release")
    assert not control.freeze_failover

    operations.unfreeze(actor="ann")
    bootstrap.stop()
    bootstrap._undo_own_freeze(tmp_path)
    assert not Control.objects.filter(frozen_at__isnull=False).exists()
