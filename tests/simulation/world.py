"""Nodes, watchers, gateways, a feed and a network in one virtual time, and their faults."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from scheduling.enact.lease import record_gateway_alive, record_socket, record_socket_loss
from scheduling.enact.pass_lock import acquire
from scheduling.errors import SnapshotUnavailable
from scheduling.observe.desired_set import desired_set
from scheduling.passes.roll_outs import advance
from scheduling.scheduler import Scheduler
from scheduling.timing import Timing
from scheduling.wire.messages import DesiredSet
from tests.simulation.daemon import Daemon
from tests.simulation.database import ACTIVE, Killed
from tests.simulation.fleet import GATEWAYS, START, a_store
from tests.simulation.gateway import Gateway
from tests.simulation.invariants import Ledger, check_rows
from tests.simulation.reads import simulated_database

QUANTUM_S = 0.5
RATE = 4.0  #: events per second
GRACE_S = 40.0  #: enough for everything that was late when the control plane came back
LATE_S = 8.0  #: a frozen holder keeps the pass lock for 5 s


@dataclass
class Watcher:
    scheduler: Scheduler
    up: bool = True
    paused: bool = False
    next_tick: float = 0.0
    next_rebalance: float = 0.0


class World:
    """`now` is true time. The database's clock may be set; a boot-time clock may not."""

    def __init__(self, nodes: int, portfolios: int, *, halting: bool = False) -> None:
        self.timing = Timing()
        self.db = a_store(nodes, portfolios, rate=RATE)
        self.db.portfolios[2].catch_up = "full"
        if halting:
            self.db.portfolios[4].catch_up = "halt"
        self.ledger = Ledger()
        self.gateways = [Gateway(each, self.db, self.timing, self.ledger) for each in GATEWAYS]
        self.sticky = False  #: nodes do not find the other gateway when theirs does not answer
        self.now, self.clock_ahead_s = START, 0.0
        self.complete_since = START  #: control plane complete, and its clock steady
        self.drawn = 0  #: number of UUIDs given so far
        self.daemons: list[Daemon] = []
        self.watchers = [Watcher(Scheduler(name, self.timing)) for name in ("first", "second")]
        self.pushes = "ok"  #: or "lost", "late", "twice"
        self.under_way: list[tuple[float, int, DesiredSet]] = []  #: pushes: when due, node, set
        self.segments = [(1, self.now, RATE)]  #: of the feed: first seq, its time, events/s
        self.unloadable: set[tuple[int, int]] = set()
        self.poison: dict[tuple[int, int | None], int] = {}  #: (portfolio, revision) → seq

    def new_uuid(self) -> UUID:
        self.drawn += 1
        return UUID(int=self.drawn)

    # --- time --------------------------------------------------------------------------------

    def go_on(self, seconds: float) -> None:
        """Advance time: run everything that is due, and check the invariants."""
        for _ in range(round(seconds / QUANTUM_S)):
            self.now += QUANTUM_S
            self.db.now = self.now + self.clock_ahead_s
            self._deliver()
            for daemon in list(self.daemons):
                daemon.step(self.now)
                self._push()
            for gateway in self.gateways:
                if gateway.serving and self.now % 1 == 0:
                    self.db.execute(
                        record_gateway_alive(self.timing, gateway.id, overloaded=gateway.overloaded)
                    )
            for watcher in self.watchers:
                self._watch(watcher)
                self._push()
            check_rows(self.db)
            self._check_deadlines()

    def set_clock(self, seconds: float) -> None:
        """Set the database's clock forward or back."""
        self.clock_ahead_s += seconds
        self.db.now += seconds
        self.complete_since = self.now

    def _check_deadlines(self) -> None:
        """I6: while the control plane is complete, an overdue step ends."""
        watched = any(watcher.up and not watcher.paused for watcher in self.watchers)
        if not watched or not all(gateway.serving for gateway in self.gateways):
            self.complete_since = self.now
        if self.now - self.complete_since < GRACE_S:
            return
        for h in self.db.handoffs.values():
            if h.state in ACTIVE:
                assert self.db.now <= h.deadline_at + LATE_S, f"I6: nobody ended {h}"

    def _watch(self, watcher: Watcher, fuse: int | None = None) -> None:
        if not watcher.up or watcher.paused or self.now < watcher.next_tick:
            return
        watcher.next_tick = self.now + 1
        if not self.gateways[0].database_up:
            return  # the watcher waits for the database
        rebalance = self.now >= watcher.next_rebalance
        self.db.fuse = fuse
        try:
            with simulated_database(self.db):
                outcome = watcher.scheduler.tick(rebalance=rebalance)
            if outcome.ran and rebalance:
                watcher.next_rebalance = self.now + 30
        except Killed:
            watcher.up = False
        except SnapshotUnavailable:
            return
        finally:
            self.db.fuse = None

    # --- gateways ----------------------------------------------------------------------------

    @property
    def serving(self) -> bool:
        """Whether nodes can reach one of the gateways."""
        return any(gateway.serving for gateway in self.gateways)

    def set_gateways(self, up: bool) -> None:
        for gateway in self.gateways:
            gateway.up = up

    def set_database(self, up: bool) -> None:
        """Cut all gateways and watchers from the database, or connect them."""
        for gateway in self.gateways:
            gateway.database_up = up

    def freeze_gateway(self, number: int, seconds: float, *, sticky: bool) -> None:
        """Stop one gateway for `seconds`. If `sticky`, its nodes try no other gateway meanwhile."""
        self.gateways[number].up, self.sticky = False, sticky
        self.go_on(seconds)
        self.gateways[number].up, self.sticky = True, False
        self.go_on(3)

    def overload_gateway(self, number: int, seconds: float) -> None:
        """Let one gateway drop all requests for `seconds`, and report overload with its pulse."""
        self.gateways[number].overloaded = True
        self.go_on(seconds)
        self.gateways[number].overloaded = False
        self.go_on(3)

    def break_proxy(self, seconds: float) -> None:
        """Close all sockets at once; the nodes open new ones after `seconds`."""
        running = [d for d in self.daemons if not d.ended and not d.cut and not d.paused]
        for daemon in running:
            if daemon.gateway.serving:
                self.db.execute(record_socket_loss(daemon.node, daemon.incarnation))
        self.go_on(seconds)
        for daemon in running:
            if daemon.gateway.serving and not daemon.ended:
                self.db.execute(
                    record_socket(
                        daemon.node, daemon.incarnation, daemon.incarnation, daemon.gateway.id
                    )
                )

    # --- pushes ------------------------------------------------------------------------------

    def _push(self) -> None:
        """Send the pushes that the last changes caused, with the fault in `pushes`."""
        hints, self.db.hints = self.db.hints, []
        for node, _ in hints:
            if node is None:
                for watcher in self.watchers:
                    watcher.next_tick = min(watcher.next_tick, self.now + QUANTUM_S)
                continue
            wanted = self.db.execute(desired_set(node))
            delays = {"ok": [0.0], "lost": [], "late": [4.0], "twice": [0.5, 3.0]}[self.pushes]
            if wanted is not None and self.serving:
                self.under_way += [(self.now + delay, node, wanted) for delay in delays]

    def _deliver(self) -> None:
        due = [line for line in self.under_way if line[0] <= self.now]
        self.under_way = [line for line in self.under_way if line[0] > self.now]
        for _, node, wanted in reversed(due):  # out of order, as a network may
            for daemon in self.daemons:
                lease = self.db.leases.get(node)
                holds = lease is not None and lease.incarnation == daemon.incarnation
                if daemon.node == node and holds and not daemon.paused and not daemon.cut:
                    daemon.take(wanted)

    # --- feed --------------------------------------------------------------------------------

    def head(self, age_s: float = 0.0) -> int:
        """Return the newest event that is at least `age_s` old."""
        at, found = self.db.now - age_s, 0
        for number, (from_seq, from_time, rate) in enumerate(self.segments):
            if at < from_time:
                break
            later = self.segments[number + 1 :]
            until = min(at, later[0][1]) if later else at
            found = from_seq + int((until - from_time) * rate) - (0 if rate else 1)
            if later:
                found = min(found, later[0][0] - 1)
        return found

    def set_feed(self, rate: float) -> None:
        seq = self.head() + 1
        self.segments.append((seq, self.db.now, rate))
        self.db.feed.from_seq, self.db.feed.from_time, self.db.feed.rate = seq, self.db.now, rate

    def poisoned(self, portfolio: int, revision: int, after: int, to_seq: int) -> int | None:
        """Return the first event in (after, to_seq] at which the strategy raises."""
        seqs = [
            seq
            for (whose, which), seq in self.poison.items()
            if whose == portfolio and which in (None, revision) and after < seq <= to_seq
        ]
        return min(seqs, default=None)

    # --- nodes -------------------------------------------------------------------------------

    def daemon_of(self, node: int) -> Daemon | None:
        """Return the newest daemon of this node that is running."""
        found = [d for d in self.daemons if d.node == node and not d.ended]
        return found[-1] if found else None

    def start(self, node: int) -> Daemon:
        """Start a daemon of this node, even if another one runs."""
        daemon = Daemon(self, node, self.new_uuid())
        self.daemons.append(daemon)
        return daemon

    def kill(self, node: int, *, host: bool) -> None:
        """Kill the newest daemon of `node`. With `host`, its machine dies: no socket closes."""
        daemon = self.daemon_of(node)
        if daemon is None:
            return
        daemon.ended, daemon.slots = True, {}
        if not host and daemon.gateway.serving and not daemon.cut:
            self.db.execute(record_socket_loss(node, daemon.incarnation))

    def freeze_holder(self, number: int) -> None:
        """SIGSTOP a watcher that has just taken the pass lock."""
        watcher = self.watchers[number]
        if watcher.up and self.gateways[0].database_up:
            self.db.execute(acquire(watcher.scheduler.holder))
            watcher.paused = True

    def kill_watcher(self, number: int, fuse: int) -> None:
        """Kill a watcher after `fuse` statements of its next pass."""
        watcher = self.watchers[number]
        watcher.next_tick = self.now
        self._watch(watcher, fuse)
        watcher.up = False

    def kill_in_roll_outs(self, number: int, fuse: int) -> None:
        """Kill a watcher after `fuse` statements of the roll-outs of its pass."""
        watcher, db = self.watchers[number], self.db
        holds = self.gateways[0].database_up and watcher.up and not watcher.paused
        if not holds or not db.execute(acquire(watcher.scheduler.holder)):
            return
        db.fuse = fuse
        try:
            with simulated_database(db):
                advance(watcher.scheduler.holder, self.timing)
        except Killed:
            pass
        finally:
            db.fuse = None
        watcher.up = False

    def end_all_faults(self) -> None:
        for gateway in self.gateways:
            gateway.up = gateway.database_up = True
            gateway.overloaded = False
        self.sticky = False
        self.pushes = "ok"
        for watcher in self.watchers:
            watcher.up, watcher.paused = True, False
        for daemon in self.daemons:
            daemon.paused = daemon.cut = False
            daemon.link = []
        for node in self.db.nodes:
            if self.daemon_of(node) is None:
                self.start(node)
        if self.segments[-1][2] == 0:
            self.set_feed(RATE)
