"""The simulation equals PostgreSQL: the same acts give the same answers and rows.

Every transaction runs on both under one clock, in a random order, with stale and
repeated messages among them. After each act every row is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction

from scheduling.db.transaction import Transaction, execute
from scheduling.enact import handoff, lease, process_failures
from scheduling.enact.commit import commit
from scheduling.enact.register import register
from scheduling.models import Control
from scheduling.observe.checkpoint import checkpoint
from scheduling.observe.desired_set import desired_set
from scheduling.scheduler import Scheduler
from scheduling.timing import Timing, timing
from scheduling.wire.messages import Commit, FillLine, Halted, Heartbeat, OrderLine, ProcessExited
from tests.simulation import operators, postgres
from tests.simulation.comparison import comparable, entries, in_order, outcome, plan_of
from tests.simulation.database import Store
from tests.simulation.fleet import GATEWAYS, a_store, registration
from tests.simulation.reads import simulated_database
from tests.simulation.rules import EXPLORING, act, seeds, walk

NODES, PORTFOLIOS = 3, 3
TIMES = Timing()

WHICH = range(1, NODES + 1)
WHOSE = range(1, PORTFOLIOS + 1)
EITHER = (False, True)
MOSTLY = (True,) * 7 + (False,)
SELDOM = (False,) * 7 + (True,)
#: What becomes of the orders of one commit.
STATUSES = (("open",), ("refused",), ("open", "refused", "suppressed"), ("suppressed", "open"))
#: Eighths of a second, and what lies just before, at and after the deadlines.
SPANS = (0.125, 0.5, 1, 2.875, 3, 5, 5.125, 9, 10, 10.125, 29, 30, 30.125, 61, 130)


class Conformance:
    """One act after another, on both."""

    def __init__(self) -> None:
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.db: Store = a_store(NODES, PORTFOLIOS)
        postgres.install_clock(self.db.now)
        postgres.copy(self.db)
        self.drawn = 0
        self.incarnations: dict[int, list[UUID]] = {n: [] for n in self.db.nodes}
        self.sent: list[tuple[int, UUID, Commit]] = []
        self.deaths: list[tuple[int, UUID, ProcessExited]] = []
        self.watchers = [Scheduler(name, TIMES) for name in ("first", "second")]

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.atomic.__exit__(None, None, None)

    # --- both --------------------------------------------------------------------------------

    def both(self, make: Callable[[], Transaction[Any]]) -> Any:
        """Run one transaction on each side and compare the outcomes."""
        model = outcome(lambda: self.db.execute(make()))
        product = outcome(lambda: execute(make()))
        assert comparable(model) == comparable(product)
        return product

    def compare(self) -> None:
        """Assert that every row and every desired set is the same."""
        for table in postgres.TABLES:
            model = in_order(table, postgres.of_simulation(self.db, table))
            product = in_order(table, postgres.read(table))
            assert [line for line in model if line not in product] == [], table
            assert [line for line in product if line not in model] == [], table
            assert model == product, table
        for node in self.db.nodes:
            told, wanted = self.db.execute(desired_set(node)), execute(desired_set(node))
            assert entries(told) == entries(wanted)

    def new_uuid(self) -> UUID:
        self.drawn += 1
        return UUID(int=self.drawn)

    def holder(self, node: int, newest: bool = True) -> UUID:
        """Return the incarnation of this node, or the one before it, or a stranger."""
        known = self.incarnations[node]
        if newest and known:
            return known[-1]
        return known[-2] if len(known) > 1 else UUID(int=10**9)

    # --- time and nodes ----------------------------------------------------------------------

    def all_run(self) -> None:
        for node in WHICH:
            self.node_registers(node, new=True)
        for portfolio in WHOSE:
            node = 1 + portfolio % NODES
            self.both(lambda: operators.move("place", portfolio, node, None, TIMES))  # noqa: B023
            self.the_protocol_goes_on(portfolio, steps=2)

    @act(
        12,
        seconds=SPANS,
        silent=(0, 0, 0, 0, 0, 0, 1, 2, 3, 9),
        gateway=MOSTLY,
        other_gateway=MOSTLY,
        overloaded=SELDOM,
        blocked_s=(None,) * 14 + (1.0, 2.5),
        passed_s=(None,) * 6 + (0.0, 2.0, 5.0),
    )
    def time_goes_on(
        self,
        seconds: float,
        silent: int,
        gateway: bool,
        other_gateway: bool,
        overloaded: bool,
        blocked_s: float | None,
        passed_s: float | None,
    ) -> None:
        """Let nodes beat all the while, but one, or (9) none."""
        while seconds > 0:
            for _ in range(3):  # pulses come more often than beats
                step = min(seconds, 3.0)
                seconds -= step
                self.db.now += step
                postgres.set_clock(self.db.now)
                if gateway:
                    self.both(
                        lambda: lease.record_gateway_alive(
                            TIMES,
                            GATEWAYS[0],
                            overloaded=overloaded,
                            blocked_s=blocked_s,
                            passed_s=passed_s,
                        )
                    )
                if other_gateway:
                    self.both(lambda: lease.record_gateway_alive(TIMES, GATEWAYS[1]))
            for node in self.db.nodes:
                if silent not in (node, 9):
                    self.node_beats(node, newest=True, leaving=False, gateway=node % 2)

    @act(14, portfolio=WHOSE, steps=range(1, 4))
    def the_protocol_goes_on(self, portfolio: int, steps: int) -> None:
        """Do what the next step needs, as healthy daemons would."""
        for _ in range(steps):
            active = self.db.active(portfolio)
            if active is not None and active.state == "preparing":
                self.target_is_ready(portfolio, newest=True)
            elif active is not None and active.state == "draining":
                self.node_releases(portfolio, events=1, newest=True)
            elif self.db.runs[portfolio].node_id is not None:
                self.node_commits(portfolio, 2, 0, newest=True, more=True, other=0)

    @act(1, seconds=(-60, -2, 15, 60))
    def the_clock_is_set(self, seconds: float) -> None:
        self.db.now += seconds
        postgres.set_clock(self.db.now)

    @act(2, node=WHICH, new=MOSTLY)
    def node_registers(self, node: int, new: bool) -> None:
        known = self.incarnations[node]
        incarnation = self.new_uuid() if new or not known else known[-1]
        message = registration(incarnation, capacity=2)
        answer = self.both(
            lambda: register(node, f"node-{node}", message, TIMES, GATEWAYS[node % 2])
        )
        if not isinstance(answer, tuple) and incarnation not in known:
            known.append(incarnation)

    @act(
        3, node=WHICH, newest=MOSTLY, leaving=SELDOM, unheard_s=(0, 0, 0, 4, 29, 31), gateway=(0, 1)
    )
    def node_beats(
        self, node: int, newest: bool, leaving: bool, unheard_s: float = 0.0, gateway: int = 0
    ) -> None:
        words = Heartbeat(
            incarnation=str(self.holder(node, newest)),
            have_version=0,
            leaving=leaving,
            unheard_s=unheard_s,
        )
        self.both(lambda: lease.renew_leases([node], [words], TIMES, GATEWAYS[gateway]))

    @act(1, node=WHICH, newest=MOSTLY)
    def socket_opens(self, node: int, newest: bool) -> None:
        incarnation = self.holder(node, newest)
        self.both(
            lambda: lease.record_socket(node, incarnation, UUID(int=node), GATEWAYS[node % 2])
        )

    @act(1, node=WHICH)
    def socket_closes(self, node: int) -> None:
        self.both(lambda: lease.record_socket_loss(node, UUID(int=node)))

    @act(1, number=(0, 1))
    def gateway_leaves(self, number: int) -> None:
        self.both(lambda: lease.record_gateway_left(GATEWAYS[number]))

    @act(1, node=WHICH, newest=MOSTLY)
    def node_says_goodbye(self, node: int, newest: bool) -> None:
        incarnation = self.holder(node, newest)
        self.both(lambda: lease.record_goodbye(node, f"node-{node}", incarnation, "asked to"))

    @act(1, node=WHICH, draining=EITHER, cordoned=EITHER)
    def node_is_marked(self, node: int, draining: bool, cordoned: bool) -> None:
        self.both(lambda: operators.set_scheduling(node, draining=draining, cordoned=cordoned))

    # --- commits -----------------------------------------------------------------------------

    def next_commit(self, portfolio: int, events: int, shift: int, more: bool) -> Commit:
        run = self.db.runs[portfolio]
        start, to = run.last_seq, run.last_seq + events
        known = [o for o in self.db.orders.values() if o.portfolio_id == portfolio]
        still_open = [o for o in known if o.status == "open"]
        return Commit(
            portfolio=portfolio,
            epoch=run.epoch + shift,
            from_seq=start,
            to_seq=to,
            batch=str(self.new_uuid()),
            state=b"%d" % to if more else None,
            suppress=events > 1,
            orders=[
                OrderLine(to, n, "AAPL", "buy", "1", "2", status, "", 10)
                for n, status in enumerate(STATUSES[to % len(STATUSES)])
            ]
            if more and events
            else [],
            feed_us=int(self.db.feed.from_time * 1e6) - (self.drawn % 11 == 0),
            fills=[FillLine(o.seq, o.index, to, 0, "AAPL", "buy", "1", "2", 10)
                   for o in still_open[:1]] if events else [],
        )  # fmt: skip

    @act(
        8,
        portfolio=WHOSE,
        events=range(4),
        shift=(0, 0, 0, 0, 0, 0, -1, 1),
        newest=(True, True, True, False),
        more=EITHER,
        other=(0, 0, 0, 0, 0, 0, 1, 2, 3),
    )
    def node_commits(
        self, portfolio: int, events: int, shift: int, newest: bool, more: bool, other: int
    ) -> None:
        node = other or self.db.runs[portfolio].node_id or 1
        words = self.next_commit(portfolio, events, shift, more)
        self.send(node, self.holder(node, newest), words)

    def send(self, node: int, incarnation: UUID, words: Commit) -> None:
        self.sent.append((node, incarnation, words))
        name = f"node-{node}"
        if words.release is None:
            self.both(lambda: commit(node, name, incarnation, [words]))
        else:
            self.both(lambda: handoff.release(node, name, incarnation, words, TIMES))

    @act(4, portfolio=WHOSE, events=range(3), newest=MOSTLY)
    def node_releases(self, portfolio: int, events: int, newest: bool) -> None:
        active, node = self.db.active(portfolio), self.db.runs[portfolio].node_id
        if active is not None and node is not None:
            words = self.next_commit(portfolio, events, 0, more=events > 0)
            fields = {name: getattr(words, name) for name in words.__struct_fields__}
            words = Commit(**{**fields, "release": active.id})
            self.send(node, self.holder(node, newest), words)

    @act(4, back=range(1, 5))
    def a_message_comes_again(self, back: int) -> None:
        if len(self.sent) >= back:
            self.send(*self.sent[-back])

    @act(2, portfolio=WHOSE, node=WHICH, newest=MOSTLY)
    def node_asks_for_the_checkpoint(self, portfolio: int, node: int, newest: bool) -> None:
        active, incarnation = self.db.active(portfolio), self.holder(node, newest)
        number = None if active is None else active.id
        model = self.db.execute(checkpoint(node, incarnation, portfolio, number))
        product = execute(checkpoint(node, incarnation, portfolio, number))
        assert (model is None) == (product is None)
        for column in product._fields if product is not None else ():
            assert postgres.plain(getattr(product, column)) == getattr(model, column)

    # --- handoffs ----------------------------------------------------------------------------

    @act(6, portfolio=WHOSE, node=WHICH, kind=("any", "any", "failover"))
    def somebody_asks_for_a_move(self, portfolio: int, node: int, kind: str) -> None:
        run = self.db.runs[portfolio]
        if kind == "any":
            kind = "place" if run.node_id is None else "migrate"
        self.both(lambda: operators.move(kind, portfolio, node, None, TIMES))

    @act(4, portfolio=WHOSE, newest=EITHER)
    def somebody_asks_for_a_reload(self, portfolio: int, newest: bool) -> None:
        node, wanted = self.db.runs[portfolio].node_id, self.db.portfolios[portfolio].revision
        revision = wanted if newest else 1
        if node is not None:
            self.both(lambda: operators.reload(portfolio, node, revision, TIMES))

    @act(2, portfolio=WHOSE)
    def somebody_revises(self, portfolio: int) -> None:
        self.both(lambda: operators.revise(portfolio))

    @act(1, portfolio=WHOSE, delete=SELDOM)
    def somebody_stops(self, portfolio: int, delete: bool) -> None:
        self.both(lambda: operators.stop(portfolio, delete=delete))

    @act(
        4,
        canary=WHOSE,
        others=(0, 1, 2),
        at_a_time=(1, 2),
        canary_s=(None, 0.0, 20.0),
        archived=SELDOM,
    )
    def somebody_rolls_out(
        self, canary: int, others: int, at_a_time: int, canary_s: float | None, archived: bool
    ) -> None:
        turns = [1 + (canary + n - 1) % PORTFOLIOS for n in range(others + 1)]
        wanted = [
            (n, self.db.portfolios[n].revision)
            for n in turns
            if archived or self.db.portfolios[n].archived_at is None
        ]
        if wanted:
            self.both(lambda: operators.roll_out(wanted, at_a_time, canary_s))

    @act(2, back=range(1, 3), how=("stop", "take back"))
    def somebody_ends_a_roll_out(self, back: int, how: str) -> None:
        number = max(self.db.roll_outs, default=0) - back + 1
        end = operators.stop_roll_out if how == "stop" else operators.begin_way_back
        self.both(lambda: end(number))

    @act(3, portfolio=WHOSE)
    def somebody_starts(self, portfolio: int) -> None:
        self.both(lambda: operators.start(portfolio))

    @act(1, frozen=EITHER, failover=EITHER)
    def somebody_freezes(self, frozen: bool, failover: bool) -> None:
        at = "2027-01-01T00:00:00Z" if frozen else None
        values = {"frozen_at": at, "freeze_failover": frozen and failover}
        Control.objects.update_or_create(pk=1, defaults=values)
        self.db.frozen, self.db.freeze_failover = frozen, frozen and failover

    @act(4, portfolio=WHOSE, newest=MOSTLY)
    def target_is_ready(self, portfolio: int, newest: bool) -> None:
        active = self.db.active(portfolio)
        if active is not None and active.target_node_id is not None:
            number, node = active.id, active.target_node_id
            incarnation = self.holder(node, newest)
            self.both(lambda: handoff.handle_prepared(number, node, incarnation, TIMES))

    @act(3, portfolio=WHOSE, newest=MOSTLY, step=("prepare", "activate"), strategy=EITHER)
    def target_fails(self, portfolio: int, newest: bool, step: str, strategy: bool) -> None:
        active = self.db.active(portfolio)
        if active is not None and active.target_node_id is not None:
            number, node = active.id, active.target_node_id
            incarnation = self.holder(node, newest)
            self.both(
                lambda: handoff.handle_step_failure(
                    number, node, incarnation, step, "it broke", strategy
                )
            )

    @act(3, portfolio=WHOSE, back=range(3))
    def a_step_is_looked_at(self, portfolio: int, back: int) -> None:
        mine = [h.id for h in self.db.handoffs.values() if h.portfolio_id == portfolio]
        if len(mine) > back:
            self.both(lambda: handoff.expire(mine[-1 - back], TIMES))

    @act(3, portfolio=WHOSE, newest=MOSTLY, early=EITHER, stage=("load", "event", "exit", "killed"))
    def process_dies(self, portfolio: int, newest: bool, early: bool, stage: Any) -> None:
        run = self.db.runs[portfolio]
        if run.node_id is not None:
            death = ProcessExited(
                death=str(self.new_uuid()), portfolio=portfolio, epoch=run.epoch,
                revision=run.revision, seq=run.last_seq, stage=stage, error="boom",
                before_first_event=early,
            )  # fmt: skip
            self.report(run.node_id, self.holder(run.node_id, newest), death)

    def report(self, node: int, incarnation: UUID, death: ProcessExited) -> None:
        self.deaths.append((node, incarnation, death))
        self.both(lambda: process_failures.handle_process_exit(node, incarnation, death, TIMES))

    @act(1, back=range(1, 4))
    def a_death_is_told_again(self, back: int) -> None:
        if len(self.deaths) >= back:
            self.report(*self.deaths[-back])

    @act(1, portfolio=WHOSE, newest=MOSTLY)
    def portfolio_halts(self, portfolio: int, newest: bool) -> None:
        run = self.db.runs[portfolio]
        if run.node_id is not None:
            node, incarnation = run.node_id, self.holder(run.node_id, newest)
            words = Halted(portfolio=portfolio, epoch=run.epoch, seq=run.last_seq, age_s=40)
            self.both(lambda: process_failures.handle_halt(node, incarnation, words, TIMES))

    # --- passes ------------------------------------------------------------------------------

    @act(8, number=range(2), rebalance=EITHER)
    def watcher_ticks(self, number: int, rebalance: bool) -> None:
        watcher = self.watchers[number]
        with simulated_database(self.db):
            model = watcher.tick(rebalance=rebalance)
        product = watcher.tick(rebalance=rebalance)
        assert (model.ran, model.sweep) == (product.ran, product.sweep)
        assert plan_of(model) == plan_of(product)

    @act(1)
    def watcher_dies_holding_the_pass(self) -> None:
        from scheduling.enact.pass_lock import acquire

        self.both(lambda: acquire(self.watchers[0].holder))


@pytest.fixture
def machine(db: None) -> Iterator[Conformance]:
    """Return one whose nodes and portfolios run."""
    assert timing() == TIMES
    machine = Conformance()
    try:
        machine.all_run()
        yield machine
    finally:
        machine.teardown()


@pytest.mark.parametrize("seed", seeds(2))
def test_simulation_equals_postgresql_over_a_long_sequence(machine: Conformance, seed: int) -> None:
    walk(machine, seed, 3000 if EXPLORING else 100, machine.compare)


def test_simulation_equals_postgresql_for_a_whole_roll_out(machine: Conformance) -> None:
    machine.somebody_rolls_out(2, others=2, at_a_time=2, canary_s=0.0, archived=False)
    go_on(machine, lambda: machine.db.roll_outs[1].state == "finished")
    machine.somebody_ends_a_roll_out(1, "take back")
    go_on(machine, lambda: machine.db.roll_outs[1].state == "back")
    items = machine.db.roll_out_items.values()
    assert [item.state for item in items] == ["returned"] * PORTFOLIOS


def go_on(machine: Conformance, is_over: Callable[[], bool]) -> None:
    """Let healthy nodes and a watcher work until it is over, and compare after each act."""
    for _ in range(40):
        if is_over():
            return
        machine.time_goes_on(10, silent=0, gateway=True, other_gateway=True, overloaded=False,
                             blocked_s=None, passed_s=None)  # fmt: skip
        machine.watcher_ticks(0, rebalance=False)
        for portfolio in WHOSE:
            machine.the_protocol_goes_on(portfolio, steps=3)
        machine.compare()
    raise AssertionError(f"it is not over: {machine.db.roll_out_items}")
