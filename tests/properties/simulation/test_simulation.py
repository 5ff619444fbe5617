"""The invariants in a simulated world, with a virtual clock and every fault at any step.

Transactions, passes, planner, reconciler and the node's lease are those of the product. The
database is simulated, and test_simulation_conformance compares it with PostgreSQL. Processes are
values.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import product
from typing import Any

import pytest

from scheduling.errors import Refused
from tests.simulation import operators
from tests.simulation.convergence import check_converged, check_roll_outs_end
from tests.simulation.invariants import check_equals_uninterrupted
from tests.simulation.rules import EXPLORING, act, seeds, walk
from tests.simulation.world import RATE, World

NODES, PORTFOLIOS = 4, 5
WHICH, WHOSE = range(1, NODES + 1), range(1, PORTFOLIOS + 1)
EITHER = (False, True)
#: Statements after which a pass dies within its roll-outs; None: it does not.
FUSES = (None, None, None, 2, 4, 7, 11, 16, 22, 29)
LINK = (
    "request lost", "answer lost", "answer lost", "twice", "killed after 1", "killed after 2",
    "killed after 4", "killed after 7", "none",
)  # fmt: skip


class ControlPlaneFaults:
    """Faults of the control plane alone: nothing may move and nothing may stop (I9)."""

    halting = False  #: whether one of them halts before stale events, as it was asked to

    def __init__(self) -> None:
        self.world = World(NODES, PORTFOLIOS, halting=self.halting)
        for node in WHICH:
            self.world.start(node)
        self.world.go_on(5)
        self.owners = self.seen_owners()

    def seen_owners(self) -> list[tuple[Any, ...]]:
        return [(r.node_id, r.incarnation, r.epoch) for r in self.world.db.runs.values()]

    def it_ran_for_a_while(self, seconds: float) -> None:
        """After a minute its revisions are good."""
        self.world.go_on(seconds)

    @act(10, seconds=(0.5, 1, 3, 5, 10, 20, 31, 45))
    def time_goes_on(self, seconds: float) -> None:
        self.world.go_on(seconds)

    @act(2, up=EITHER)
    def gateway_goes_or_comes(self, up: bool) -> None:
        self.world.set_gateways(up)

    @act(2, number=(0, 1, 2), seconds=(2, 5, 12, 25, 30), sticky=EITHER)
    def one_gateway_freezes(self, number: int, seconds: float, sticky: bool) -> None:
        """Within one TTL, even the nodes that reach no other keep their portfolios."""
        self.world.freeze_gateway(number, seconds, sticky=sticky)

    @act(1, number=(0, 1, 2), seconds=(2, 12, 28))
    def one_gateway_is_overloaded(self, number: int, seconds: float) -> None:
        self.world.overload_gateway(number, seconds)

    @act(1, seconds=(0.5, 3, 8, 20))
    def proxy_breaks(self, seconds: float) -> None:
        self.world.break_proxy(seconds)

    @act(2, up=EITHER)
    def database_goes_or_comes(self, up: bool) -> None:
        self.world.set_database(up)

    @act(2, number=(0, 1), fuse=(1, 2, 3, 5, 8, 13, 21, 34))
    def watcher_is_killed(self, number: int, fuse: int) -> None:
        self.world.kill_watcher(number, fuse)

    @act(1, number=(0, 1))
    def watcher_is_stopped_with_the_lock(self, number: int) -> None:
        self.world.freeze_holder(number)

    @act(4, number=(0, 1))
    def watcher_comes_back(self, number: int) -> None:
        self.world.watchers[number].up, self.world.watchers[number].paused = True, False

    @act(1, seconds=(-60, -7, 15, 60, 300))
    def the_clock_is_set(self, seconds: float) -> None:
        self.world.set_clock(seconds)

    @act(2, how=("ok", "lost", "late", "twice"))
    def pushes_travel(self, how: str) -> None:
        self.world.pushes = how

    @act(1, quiet=EITHER)
    def feed_is_quiet(self, quiet: bool) -> None:
        self.world.set_feed(0 if quiet else RATE)

    def teardown(self) -> None:
        world = self.world
        world.end_all_faults()
        world.go_on(60)
        check_converged(world)
        check_roll_outs_end(world)
        check_equals_uninterrupted(world.db)
        self.check_nothing_moved()

    def check_nothing_moved(self) -> None:
        kinds = {event.kind for event in self.world.db.events.values()}
        assert "node_lost" not in kinds, "I9: a node counts as lost"
        assert self.seen_owners() == self.owners, "I9: something moved or stopped"


class AllFaults(ControlPlaneFaults):
    """And everything else: nodes, networks, processes, events, people."""

    halting = True

    def check_nothing_moved(self) -> None:
        """Check nothing: these faults make portfolios move."""

    # --- nodes -------------------------------------------------------------------------------

    @act(3, node=WHICH, host=EITHER)
    def daemon_is_killed(self, node: int, host: bool) -> None:
        self.world.kill(node, host=host)

    @act(4, node=WHICH)
    def daemon_starts(self, node: int) -> None:
        if self.world.daemon_of(node) is None:
            self.world.start(node)

    @act(1, node=WHICH)
    def a_second_daemon_of_the_name_starts(self, node: int) -> None:
        self.world.start(node)

    @act(2, node=WHICH, paused=EITHER)
    def daemon_is_stopped_or_goes_on(self, node: int, paused: bool) -> None:
        daemon = self.world.daemon_of(node)
        if daemon is not None:
            daemon.paused = paused

    @act(2, node=WHICH, cut=EITHER)
    def node_is_cut_off_or_back(self, node: int, cut: bool) -> None:
        daemon = self.world.daemon_of(node)
        if daemon is not None:
            daemon.cut = cut

    @act(4, node=WHICH, first=LINK, second=LINK, third=LINK)
    def requests_get_lost(self, node: int, first: str, second: str, third: str) -> None:
        daemon = self.world.daemon_of(node)
        if daemon is not None:
            daemon.link = [first, second, third]

    @act(1, seconds=(3, 10, 35))
    def most_nodes_are_away(self, seconds: float) -> None:
        for node in WHICH[: round(NODES * 0.6)]:
            self.world.kill(node, host=True)
        self.world.go_on(seconds)

    @act(1, node=WHICH)
    def node_flaps(self, node: int) -> None:
        for _ in range(2):
            self.world.kill(node, host=False)
            self.world.go_on(5)
            self.daemon_starts(node)
            self.world.go_on(1)

    # --- processes and events ----------------------------------------------------------------

    @act(2, portfolio=WHOSE)
    def process_is_killed(self, portfolio: int) -> None:
        for daemon in self.world.daemons:
            if not daemon.ended and not daemon.paused:
                daemon.child_dies(portfolio, self.world.now)

    @act(1, portfolio=WHOSE, ahead=(1, 10, 60))
    def an_event_is_poison(self, portfolio: int, ahead: int) -> None:
        self.world.poison[portfolio, None] = self.world.head() + ahead

    @act(1, portfolio=WHOSE)
    def the_poison_is_mended(self, portfolio: int) -> None:
        self.world.poison.pop((portfolio, None), None)

    # --- people ------------------------------------------------------------------------------

    def ask(self, steps: Any) -> Any:
        if self.world.gateways[0].database_up:
            with suppress(Refused):
                return self.world.db.execute(steps)
        return None

    @act(3, portfolio=WHOSE, node=WHICH)
    def somebody_moves(self, portfolio: int, node: int) -> None:
        run = self.world.db.runs[portfolio]
        wished = self.world.db.portfolios[portfolio].desired_state == "running"
        if run.node_id not in (None, node) and wished:
            self.ask(operators.move("migrate", portfolio, node, None, self.world.timing))

    @act(2, portfolio=WHOSE)
    def somebody_reloads(self, portfolio: int) -> None:
        run, row = self.world.db.runs[portfolio], self.world.db.portfolios[portfolio]
        if run.node_id is not None and row.desired_state == "running":
            self.ask(operators.reload(portfolio, run.node_id, row.revision, self.world.timing))

    @act(2, portfolio=WHOSE, fault=("none", "load", "event"))
    def somebody_revises(self, portfolio: int, fault: str) -> None:
        number = self.ask(operators.revise(portfolio))
        if number is not None and fault == "load":
            self.world.unloadable.add((portfolio, number))
        elif number is not None and fault == "event":
            self.world.poison[portfolio, number] = self.world.head() + 8

    @act(1, portfolio=WHOSE)
    def somebody_stops(self, portfolio: int) -> None:
        self.ask(operators.stop(portfolio))

    @act(1, portfolio=WHOSE)
    def somebody_deletes(self, portfolio: int) -> None:
        self.ask(operators.stop(portfolio, delete=True))

    @act(3, portfolio=WHOSE)
    def somebody_starts(self, portfolio: int) -> None:
        if self.world.db.runs[portfolio].node_id is None:
            self.ask(operators.start(portfolio))

    @act(1, portfolio=WHOSE, node=WHICH)
    def everything_is_asked_at_once(self, portfolio: int, node: int) -> None:
        self.somebody_moves(portfolio, node)
        self.somebody_reloads(portfolio)
        self.somebody_stops(portfolio)
        self.daemon_is_killed(node, host=False)
        self.somebody_deletes(portfolio)

    @act(
        3, canary=WHOSE, others=(0, 2, 4), at_a_time=(1, 3), canary_s=(None, 0.0, 20.0),
        fault=("none", "none", "none", "load", "event"), fuse=FUSES,
    )  # fmt: skip
    def somebody_rolls_out(
        self, canary: int, others: int, at_a_time: int, canary_s: float | None, fault: str,
        fuse: int | None,
    ) -> None:  # fmt: skip
        db = self.world.db
        turns = [1 + (canary + n - 1) % PORTFOLIOS for n in range(others + 1)]
        wanted = [(n, db.portfolios[n].revision) for n in turns if not db.portfolios[n].archived_at]
        if not wanted or self.ask(operators.roll_out(wanted, at_a_time, canary_s)) is None:
            return
        for portfolio, _ in wanted:
            number = 1 + max(n for whose, n in db.revisions if whose == portfolio)
            if fault == "load":
                self.world.unloadable.add((portfolio, number))
            elif fault == "event":
                self.world.poison[portfolio, number] = self.world.head() + 30
        self.a_pass_dies_in_a_roll_out(0, fuse)

    @act(2, number=(0, 1), fuse=FUSES)
    def a_pass_dies_in_a_roll_out(self, number: int, fuse: int | None) -> None:
        if fuse is not None:
            self.world.kill_in_roll_outs(number, fuse)

    @act(2, back=(0, 0, 1), how=("stop", "take back"), fuse=FUSES)
    def somebody_ends_a_roll_out(self, back: int, how: str, fuse: int | None) -> None:
        number = max(self.world.db.roll_outs, default=0) - back
        if number > 0:
            end = operators.stop_roll_out if how == "stop" else operators.begin_way_back
            self.ask(end(number))
        self.a_pass_dies_in_a_roll_out(0, fuse)

    @act(2, node=WHICH, draining=EITHER, cordoned=EITHER)
    def node_is_drained_or_not(self, node: int, draining: bool, cordoned: bool) -> None:
        self.ask(operators.set_scheduling(node, draining=draining, cordoned=cordoned))

    @act(1)
    def every_node_is_drained(self) -> None:
        for node in WHICH:
            self.ask(operators.set_scheduling(node, draining=True))

    @act(1, frozen=EITHER, failover=EITHER)
    def somebody_freezes(self, frozen: bool, failover: bool) -> None:
        self.world.db.frozen = frozen
        self.world.db.freeze_failover = frozen and failover


@pytest.mark.parametrize(
    ("machine", "seed"),
    [*product([ControlPlaneFaults], seeds(2)), *product([AllFaults], seeds(3))],
)
def test_invariants_hold_over_a_long_run(machine: type[ControlPlaneFaults], seed: int) -> None:
    world = machine()
    world.it_ran_for_a_while(seed % 2 * 65)
    walk(world, seed, 400 if EXPLORING else 40, lambda: None)
    world.teardown()
