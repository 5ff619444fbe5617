"""A simulated daemon: the reconcile and lease of the product, over simulated processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from scheduling.decide import reconcile as decide
from scheduling.node_daemon.lease_view import Lease
from scheduling.wire import messages as wire
from tests.simulation.gateway import Away, Gateway
from tests.simulation.process import MAX_EVENTS, Batch, Hosted, run
from tests.simulation.trading import decode

if TYPE_CHECKING:
    from tests.simulation.world import World


class Daemon:
    """One incarnation of a node. `step` is one quantum of its time."""

    def __init__(self, world: World, node: int, incarnation: UUID) -> None:
        self.world, self.node, self.incarnation = world, node, incarnation
        self.at = node % len(world.gateways)  #: the number of its gateway
        self.registered = self.paused = self.cut = self.ended = False
        self.link: list[str] = []  #: faults of its next requests, in order
        self.lease = Lease()
        self.slots: dict[int, Hosted] = {}
        self.next_slot = 1
        self.have = -1  #: version of the desired set, whose entries are `wanted`
        self.wanted: list[wire.DesiredEntry] = []
        self.next_beat = 0.0
        self.outbox: list[tuple[Any, Hosted | None]] = []  #: reports, and of which process

    # --- talking -----------------------------------------------------------------------------

    def ask(self, act: Any) -> Any:
        """Make a request by calling `act`. Return its answer, or raise Away if there is none."""
        if self.cut:
            raise Away
        try:
            return self.gateway.ask(self.link, act)
        except Away:
            if not self.gateway.serving and not self.world.sticky:
                # The proxy finds another for the next request.
                self.at = (self.at + 1) % len(self.world.gateways)
            raise

    @property
    def gateway(self) -> Gateway:
        """The web process that its requests reach."""
        return self.world.gateways[self.at]

    def step(self, now: float) -> None:
        """Do what is due. `now` is the boot-time clock, which nothing sets."""
        if self.paused or self.ended:
            return
        if not self.registered:
            self._register(now)
        elif now >= self.next_beat:
            self._beat(now)
        if self.ended or not self.registered:
            return
        self._reconcile(now)
        for hosted in list(self.slots.values()):
            self._drive(hosted, now)

    def _register(self, now: float) -> None:
        try:
            found = self.ask(lambda: self.gateway.register(self.node, self.incarnation))
        except Away:
            return
        except Exception as refused:
            if getattr(refused, "code", "") != "name_in_use":
                raise
            self.ended = True
            return
        self.registered = True
        self.lease.renew(now, self.world.timing.lease_ttl_s)
        self.next_beat = now + 1
        self.take(found)

    def _beat(self, now: float) -> None:
        self.next_beat = now + 1  # if there is no answer
        sent = list(self.outbox)
        words = wire.Heartbeat(
            incarnation=str(self.incarnation), have_version=self.have,
            reports=[report for report, _ in sent],
        )  # fmt: skip
        try:
            status, found, busy = self.ask(lambda: self.gateway.beat(self.node, words))
        except Away:
            return
        if status == "superseded":
            self.ended, self.slots = True, {}
            return
        if status == "unknown":
            self.registered = False
            return
        self.lease.renew(now, self.world.timing.lease_ttl_s)
        self.outbox = self.outbox[len(sent) :]
        for _, hosted in sent:
            if hosted is not None:
                hosted.reported = True
        self.take(found)
        soon = busy or self.outbox
        self.next_beat = now + (1 if soon else self.world.timing.heartbeat_interval_s)

    def take(self, found: wire.DesiredSet | None) -> None:
        """Take a desired set, unless it is older than the present one."""
        if found is not None and found.version >= self.have:
            self.have, self.wanted = found.version, list(found.entries)

    # --- doing -------------------------------------------------------------------------------

    def _new(self, entry: wire.DesiredEntry, phase: str, replaces: int | None = None) -> Hosted:
        """Return a process for `entry` in a new slot, with the failures of the one it replaces."""
        old = self.slots.pop(replaces, None) if replaces is not None else None
        hosted = Hosted(self.next_slot, entry, phase, handoff=entry.handoff)
        if old is not None:
            hosted.failures = old.failures
            hosted.activated = old.epoch == entry.epoch and old.activated
        self.slots[self.next_slot] = hosted
        self.next_slot += 1
        return hosted

    def _reconcile(self, now: float) -> None:
        views = [hosted.view() for hosted in self.slots.values()]
        for action in decide.reconcile(self.wanted, views, now):
            match action:
                case decide.Start(entry=entry, replaces=old):
                    hosted = self._new(entry, "starting", old)  # type: ignore[arg-type]
                    activated = hosted.activated  # own() resets it, as for a new epoch
                    hosted.own(hosted.entry)
                    hosted.activated = activated
                case decide.ReleaseAbsent(entry=entry, replaces=old):
                    hosted = self._new(entry, "draining", old)  # type: ignore[arg-type]
                    hosted.epoch = entry.epoch
                case decide.Prepare(entry=entry):
                    self._new(entry, "preparing")  # type: ignore[arg-type]
                case decide.Activate(entry=entry, slot=slot) | decide.Adopt(entry=entry, slot=slot):
                    self.slots[slot].own(entry)  # type: ignore[arg-type]
                case decide.Drain(entry=entry, slot=slot):
                    self.slots[slot].phase = "draining"
                    self.slots[slot].handoff = entry.handoff
                case decide.Resume(slot=slot):
                    self.slots[slot].handoff = None
                    if self.slots[slot].pending is None or self.slots[slot].pending.release is None:  # type: ignore[union-attr]
                        self.slots[slot].phase = "running"
                case decide.Freeze(slot=slot):
                    self.slots[slot].phase = "warm"
                    self.slots[slot].pending = None
                case decide.Stop(slot=slot):
                    del self.slots[slot]

    def _drive(self, hosted: Hosted, now: float) -> None:
        try:
            if hosted.phase == "preparing":
                self._try(hosted, now)
            elif hosted.phase in ("starting", "running", "draining"):
                self._go_on(hosted, now)
        except Away:
            return  # repeated with the next step

    def _try(self, hosted: Hosted, now: float) -> None:
        """Load the newest checkpoint, and report to the handoff whether that succeeded."""
        found = self.ask(
            lambda: self.gateway.checkpoint(
                self.node, self.incarnation, hosted.portfolio, hosted.handoff
            )
        )
        if found is None:
            self._failed(hosted, now, "no checkpoint was given", load=False)
        elif (hosted.portfolio, hosted.revision) in self.world.unloadable:
            self._failed(hosted, now, "it cannot be loaded", load=True)
        else:
            hosted.state, hosted.state_seq = decode(found.state), found.state_seq
            hosted.phase = "prepared"
            self._say(wire.Prepared(handoff=hosted.handoff or 0), None, now)

    def _say(self, report: Any, hosted: Hosted | None, now: float) -> None:
        if hosted is not None:
            hosted.reported = False
        self.outbox.append((report, hosted))
        self.next_beat = now

    def _go_on(self, hosted: Hosted, now: float) -> None:
        if hosted.pending is not None:
            self._send(hosted, now)
        elif hosted.phase == "draining" and hosted.state is None:
            self._load(hosted, now, absent=True)
        elif hosted.phase in ("starting", "draining") and not hosted.owns:
            self._load(hosted, now, absent=False)
        elif hosted.phase == "draining":
            self._commit(hosted, now, release=hosted.handoff)
        elif self.lease.may_feed(now):
            self._commit(hosted, now, release=None)

    def _load(self, hosted: Hosted, now: float, *, absent: bool) -> None:
        """Load the checkpoint of the granted epoch and commit at once without events.

        `absent`: the desired set asks to drain a portfolio that has no process: release it so.
        """
        found = self.ask(
            lambda: self.gateway.checkpoint(self.node, self.incarnation, hosted.portfolio, None)
        )
        if found is None or found.epoch > hosted.epoch:
            hosted.end("ended", now)
            return
        if found.epoch < hosted.epoch:
            return  # asked again
        if (hosted.portfolio, hosted.revision) in self.world.unloadable and not absent:
            self._failed(hosted, now, "it cannot be loaded", load=True)
            return
        if hosted.state is None or hosted.state_seq != found.state_seq:
            hosted.state, hosted.state_seq = decode(found.state), found.state_seq
        hosted.committed = found.last_seq
        batch = Batch(hosted.state, found.last_seq)
        hosted.pending = batch.commit(
            hosted, self.world.new_uuid(), hosted.handoff if absent else None
        )
        hosted.batch = batch
        self._send(hosted, now)

    def _commit(self, hosted: Hosted, now: float, *, release: int | None) -> None:
        world, cursor = self.world, hosted.committed
        limit, stale, suppress = (cursor if release is not None else world.head()), 0, False
        if hosted.entry.catch_up != "full":
            stale = world.head(age_s=world.timing.stale_order_age_s)
            if cursor < stale:
                if hosted.entry.catch_up == "halt":
                    report = wire.Halted(
                        portfolio=hosted.portfolio, epoch=hosted.epoch, seq=cursor, age_s=9
                    )
                    hosted.phase = "halted"
                    self._say(report, hosted, now)
                    return
                limit, suppress = min(limit, stale), True
        to_seq = min(limit, cursor + MAX_EVENTS)
        bad = world.poisoned(hosted.portfolio, hosted.revision, cursor, to_seq)
        if bad is not None:
            to_seq = bad - 1
            if to_seq == cursor:
                self._failed(hosted, now, f"it raised at seq {bad}", load=False)
                return
        if to_seq <= cursor and release is None:
            return
        batch = run(hosted, to_seq, suppress and to_seq > cursor)
        hosted.events_seen = hosted.events_seen or to_seq > cursor
        hosted.pending = batch.commit(hosted, world.new_uuid(), release)
        hosted.batch = batch
        self._send(hosted, now)
        if suppress and release is None and hosted.pending is None and hosted.committed == stale:
            self._commit(hosted, now, release=None)  # the rest is fresh

    def _send(self, hosted: Hosted, now: float) -> None:
        words = hosted.pending
        assert words is not None
        result = self.ask(lambda: self.gateway.commit(self.node, self.incarnation, words))
        hosted.pending = None
        if result.version > self.have:
            self.next_beat = now  # there is a newer set, and its push got lost
        if result.answer in ("ok", "keep", "handed_over"):
            assert hosted.batch is not None
            hosted.committed, hosted.state = words.to_seq, hosted.batch.state
            if words.state is not None:
                hosted.state_seq = words.to_seq
            first, hosted.owns, hosted.activated = not hosted.owns, True, True
            if words.release is not None and result.answer != "keep":
                hosted.phase, hosted.owns = "warm", False
            elif words.release is not None:
                hosted.kept, hosted.handoff, hosted.phase = hosted.handoff, None, "running"
            elif first and hosted.phase == "starting":
                hosted.phase = "running"
                self.next_beat = now
        elif result.answer == "fenced":
            hosted.end("ended", now)
            self.next_beat = now
        elif result.answer == "conflict":
            hosted.owns, hosted.state, hosted.phase = False, None, "starting"
        elif result.answer == "rejected":
            self._failed(hosted, now, "its commit was refused", load=False)

    def _failed(self, hosted: Hosted, now: float, error: str, *, load: bool) -> None:
        preparing = hosted.phase in ("preparing", "prepared")
        hosted.failures = 1 if hosted.events_seen else hosted.failures + 1
        report: Any
        if hosted.handoff is not None and (preparing or not hosted.activated):
            report = wire.StepFailed(
                handoff=hosted.handoff, step="prepare" if preparing else "activate", error=error,
                strategy_failed=load,
            )  # fmt: skip
        else:
            report = wire.ProcessExited(
                death=str(self.world.new_uuid()), portfolio=hosted.portfolio, epoch=hosted.epoch,
                revision=hosted.revision, seq=hosted.committed, stage="load" if load else "event",
                error=error, before_first_event=not hosted.events_seen,
            )  # fmt: skip
        hosted.end("ended" if preparing else "waiting", now)
        self._say(report, hosted, now)

    def child_dies(self, portfolio: int, now: float) -> None:
        """Kill the process of this portfolio, as from outside of the daemon."""
        for hosted in self.slots.values():
            alive = hosted.phase in ("prepared", "starting", "running", "draining")
            if hosted.portfolio == portfolio and alive:
                self._failed(hosted, now, "it was killed", load=False)
