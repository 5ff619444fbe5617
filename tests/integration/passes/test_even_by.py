"""Balancing by CPU as an operator chooses it: figures read, moves, reasons, stored choice."""

from __future__ import annotations

import pytest
from django.core.management import CommandError

from portfolios.models import Portfolio
from scheduling import operations
from scheduling.db.transaction import execute
from scheduling.decide.types import Cpu, Policy
from scheduling.enact.pass_lock import acquire
from scheduling.models import Control, Event, Handoff, Run
from scheduling.observe.snapshot import observe
from scheduling.passes.balance import balance
from scheduling.timing import timing
from scheduling.wire.messages import ProcessStatus
from tests.support.api_client import ApiClient
from tests.support.commands import said, told
from tests.support.factories import FakeNode, make_node, make_running_portfolio

pytestmark = pytest.mark.django_db


def process(portfolio: int, epoch: int, cpu_pct: float) -> ProcessStatus:
    return ProcessStatus(
        portfolio=portfolio, epoch=epoch, revision=1, phase="running", seq=1, lag=0, cpu_pct=cpu_pct
    )


def beat_measured(daemon: FakeNode, minute_pct: float, **shares: float) -> None:
    """Let a daemon beat with what it measured of its machine and of its portfolios."""
    processes = [
        process(run.portfolio_id, run.epoch, shares[run.portfolio.name])
        for run in Run.objects.filter(portfolio__name__in=shares).select_related("portfolio")
    ]
    daemon.beat(metrics={"cpu_pct": 1.0, "cpu_minute_pct": minute_pct}, portfolios=processes)


def make_busy_fleet() -> tuple[FakeNode, FakeNode]:
    """node-1 runs a and b and is busy, node-2 runs c."""
    one, two = make_node("node-1"), make_node("node-2")
    for name, daemon in (("a", one), ("b", one), ("c", two)):
        make_running_portfolio(name, daemon)
    beat_measured(one, 82.4, a=21.2, b=60.0)
    beat_measured(two, 11.9, c=11.0)
    return one, two


def cpu_read() -> Cpu:
    cpu = observe(timing()).snapshot.cpu
    assert cpu is not None
    return cpu


def pass_once() -> None:
    execute(acquire("cast"))
    balance("cast", timing(), Policy())


def test_cpu_measurements_are_not_read_when_balancing_by_weight() -> None:
    make_busy_fleet()
    assert observe(timing()).snapshot.cpu is None
    pass_once()
    assert not Handoff.objects.filter(kind="migrate", reason__contains="CPU").exists()


def test_rebalance_by_cpu_relieves_the_busiest_node_and_its_reason_has_the_percentages() -> None:
    make_busy_fleet()
    operations.even_by("cpu", actor="olive")
    pass_once()
    reasons = Handoff.objects.filter(reason__contains="CPU").values_list("reason", flat=True)
    # a: 61 and 33; b would leave 22 and 72.
    assert list(reasons) == ["rebalances CPU: node-1 82 → 61 %, node-2 12 → 33 %"]


def test_cpu_figures_of_a_portfolio_come_from_its_owner_at_its_epoch_only() -> None:
    one, two = make_busy_fleet()
    operations.even_by("cpu", actor="olive")
    a, b, c = (Portfolio.objects.get(name=name).pk for name in "abc")
    assert cpu_read() == Cpu({one.row.pk: 82.4, two.row.pk: 11.9}, {a: 21.2, b: 60.0, c: 11.0})
    beat_measured(two, 11.9, a=99.0)  # it has prepared a, and does not own it
    Run.objects.filter(portfolio__name="b").update(epoch=77)
    assert cpu_read().portfolios == {a: 21.2}


def test_rebalance_by_cpu_ignores_a_node_that_was_not_measured_for_a_minute() -> None:
    one, two = make_busy_fleet()
    operations.even_by("cpu", actor="olive")
    two.beat(metrics={"cpu_pct": 3.0})
    assert set(cpu_read().nodes) == {one.row.pk}
    pass_once()
    assert not Handoff.objects.filter(reason__contains="CPU").exists()


@pytest.mark.parametrize(("said", "read"), [(-5.0, 0), (1e300, 100)])
def test_invalid_numbers_of_one_node_do_not_fail_the_snapshot(said: float, read: float) -> None:
    one, two = make_busy_fleet()
    operations.even_by("cpu", actor="olive")
    nonsense = process(2**64 - 1, 2**64 - 1, said)
    two.beat(metrics={"cpu_minute_pct": said}, portfolios=[nonsense])
    assert cpu_read().nodes == {one.row.pk: 82.4, two.row.pk: read}


def test_a_heartbeat_with_other_cpu_figures_causes_no_row_to_be_read_again() -> None:
    one, _ = make_busy_fleet()
    Run.objects.update(changed_in=0)
    beat_measured(one, 40.0, a=1.0, b=2.0)
    assert not Run.objects.exclude(changed_in=0).exists()


def test_choice_of_even_by_is_stored_and_recorded_once() -> None:
    assert operations.even_by("weight", actor="olive") is None
    assert not Event.objects.filter(kind="even_by").exists()
    for _ in range(2):
        operations.even_by("cpu", actor="olive", reason="machines differ")
    (event,) = Event.objects.filter(kind="even_by")
    assert (event.actor, event.reason) == ("olive", "machines differ")
    assert event.data == {"even_by": "cpu"}
    operations.freeze(actor="olive")
    assert Control.objects.get().even_by == "cpu"


def test_even_by_command_states_the_new_choice() -> None:
    assert told("even_by", "cpu", "--by", "olive") == {"even_by": "cpu"}
    assert said("even_by", "weight").startswith("Nodes are rebalanced by the weight they hold")
    with pytest.raises(CommandError, match="invalid choice"):
        said("even_by", "mood")


def test_the_api_answers_and_changes_the_policy(operator: ApiClient, viewer: ApiClient) -> None:
    assert operator.get("schedule/policy/").json() == {"even_by": "weight"}
    answer = operator.post("schedule/policy/", {"even_by": "cpu", "reason": "machines differ"})
    assert (answer.status_code, answer.json()) == (200, {"even_by": "cpu"})
    assert Event.objects.get(kind="even_by").actor == "olive"
    assert operator.post("schedule/policy/", {"even_by": "mood"}).status_code == 400
    assert viewer.get("schedule/policy/").json() == {"even_by": "cpu"}
    assert viewer.post("schedule/policy/", {"even_by": "weight"}).status_code == 403
