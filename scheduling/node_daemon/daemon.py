"""The supervisor: heartbeat, websocket, and what the desired set asks for. Runs no strategy."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Iterable

from portfolios.feeds import feed_names, open_feed
from portfolios.runtime.python_version import PYTHON_VERSION
from scheduling.decide import reconcile as decide
from scheduling.node_daemon.clock import boottime_s, boottime_us
from scheduling.node_daemon.config import NodeConfig
from scheduling.node_daemon.context import DaemonContext
from scheduling.node_daemon.control_plane_client import ControlPlaneClient, back_off
from scheduling.node_daemon.errors import (
    RegistrationRefused,
    RequestRefused,
    ServerUnavailable,
    Superseded,
)
from scheduling.node_daemon.feed_reader import FeedReader
from scheduling.node_daemon.feed_time import FeedTime
from scheduling.node_daemon.hosted_portfolio import HostedPortfolio
from scheduling.node_daemon.logs import LOG
from scheduling.node_daemon.metrics import Metrics
from scheduling.wire.messages import (
    MAX_PORTFOLIOS,
    PROTOCOL,
    DesiredEntry,
    DesiredSet,
    FeedInfo,
    Heartbeat,
    Hello,
    ProcessStatus,
    Register,
    Registered,
)

VERSION = "0.1.0"
PUSH_LATE_S = 0.25  #: a push that is not here by then is taken for lost
SHORT_HEARTBEAT_S = 1.0  #: while the websocket is closed, while leaving, after registering again
REPORTED_PHASES = frozenset(
    {"preparing", "prepared", "starting", "running", "draining", "warm", "waiting"}
)


class ExecutionNode:
    """One incarnation of a node.

    What it should have comes in sets whose version only grows, by heartbeat answers and by pushes;
    what it does about them is `decide.reconcile`.
    """

    def __init__(
        self, config: NodeConfig, client: ControlPlaneClient, context: DaemonContext
    ) -> None:
        """Use `program.run`, which makes the parts and ends them."""
        self.config = config
        self.incarnation = context.incarnation
        self.leaving = False
        self.left = False  #: nothing more is said or begun
        self.desired: DesiredSet | None = None
        self.hosted: dict[int, HostedPortfolio] = {}
        self.leaving_acknowledged = asyncio.Event()
        self._context = context
        self._client = client
        self._feed_time = FeedTime()
        self._strategies: dict[str, int] = {}
        self._ttl_s = 30.0
        self._registered_us = 0  #: by the database's clock
        self._registration_number = 0  #: as the server counts those of this node
        self._answered_us = 0  #: when the last answered beat was sent
        self._unanswered = False  #: a later one got no answer
        self._last_slot = 0
        self._connected = False
        self._heartbeat_due = asyncio.Event()
        self._reconcile_timer: asyncio.TimerHandle | None = None
        self._reconcile_scheduled = False
        self._metrics = Metrics()
        self._context.on_change = self._on_change
        self._context.beat_soon = self._heartbeat_due.set
        self._context.committer.version_seen = self._on_version

    # --- start -------------------------------------------------------------------------------

    async def load(self) -> None:
        """Read the feeds and ask a child which strategies there are. Raise ChildFailed."""
        for name in feed_names():
            self._context.feeds[name] = FeedReader(open_feed(name), self._feed_time)
        self._strategies = await self._context.forkserver.strategies()

    async def register(self) -> None:
        """Take the node's runs over, however long the server is away. Raise NotWelcome."""
        attempt = 0
        while True:
            sent_us = boottime_us()
            try:
                registered = await self._client.register(self._registration())
                break
            except RequestRefused as declined:
                raise RegistrationRefused(str(declined)) from None
            except ServerUnavailable as error:
                if attempt % 15 == 0:
                    LOG.warning("waiting for %s: %s", self.config.server, error)
                await back_off(attempt, 0.2, 2.0)
                attempt += 1
        self._apply_registration(registered, sent_us)

    def _registration(self) -> Register:
        return Register(
            protocol=PROTOCOL,
            incarnation=self.incarnation,
            host=platform.node(),
            pid=os.getpid(),
            version=VERSION,
            capacity=self.config.capacity,
            labels=dict(self.config.labels),
            strategies=self._strategies,
            feeds={name: reader.feed.sha256 for name, reader in self._context.feeds.items()},
            python=PYTHON_VERSION,
        )

    def _apply_registration(self, registered: Registered, sent_us: int) -> None:
        LOG.info("registered as node %d (%s)", registered.node, registered.name)
        self._feed_time.sample(registered.now_us, sent_us, boottime_us())
        self._ttl_s = registered.lease_ttl_s
        self._registered_us = registered.now_us
        self._registration_number = registered.registration
        self._context.stale_order_age_s = registered.stale_order_age_s
        self.desired = None  # the server may have been restored to lower versions
        self.take_desired(registered.desired)
        self._context.lease.renew(sent_us / 1e6, self._ttl_s)
        self._answered_us, self._unanswered = sent_us, False

    def end(self) -> None:
        """Kill every process and begin nothing more."""
        self.left = True
        for hosted in self.hosted.values():
            hosted.end()

    # --- heartbeat ---------------------------------------------------------------------------

    async def heartbeat_loop(self) -> None:
        """Beat when the server wants it, and at once when a step is done."""
        failures = 0
        while not self.left:
            self._heartbeat_due.clear()
            try:
                wait_s = await self.send_heartbeat()
                failures = 0
            except (ServerUnavailable, RequestRefused) as error:
                LOG.warning("heartbeat failed: %s", error)
                await back_off(failures, 0.2, 2.0)
                failures += 1
                self._unanswered = True
                continue
            if self.leaving or not self._connected:
                wait_s = min(wait_s, SHORT_HEARTBEAT_S)
            await self._wait_until_heartbeat_due(wait_s)
        await asyncio.Event().wait()

    async def _wait_until_heartbeat_due(self, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await self._heartbeat_due.wait()
        except TimeoutError:
            pass

    async def send_heartbeat(self) -> float:
        """Say what this node has and take the answer. Return the seconds until the next one.

        Raise Superseded if another daemon took the name, ServerAway if no answer came.
        """
        leaving, reports = self.leaving, self._context.outbox.next_reports()
        acknowledged = self._context.acknowledged.next_claims()
        recalled = self._context.acknowledged.is_recalled
        sent_us = boottime_us()
        unheard, unheard_s = self._unanswered, (sent_us - self._answered_us) / 1e6
        answer = await self._client.heartbeat(
            Heartbeat(
                incarnation=self.incarnation,
                # Who leaves wants to see the set each time.
                have_version=0 if leaving else self._desired_version,
                leaving=leaving,
                metrics=self._metrics.read(sent_us / 1e6, self._pids()),
                portfolios=self._actual(),
                reports=reports,
                unheard_s=unheard_s if unheard else 0.0,
                registered_us=self._registered_us,
                registration=self._registration_number,
                acknowledged=acknowledged,
                recalled=recalled,
            )
        )
        if self.left:
            return SHORT_HEARTBEAT_S
        if answer.status == "superseded":
            raise Superseded(answer.message or "Another daemon registered under this name.")
        if answer.status == "unknown":
            LOG.warning("the server does not know this lease any more: registering again")
            await self.register()
            return SHORT_HEARTBEAT_S
        self._feed_time.sample(answer.now_us, sent_us, boottime_us())
        self._context.outbox.mark_delivered(reports)
        self._context.acknowledged.mark_delivered(acknowledged)
        if answer.recall:
            self._context.acknowledged.recall()
        if answer.desired is not None:
            self.take_desired(answer.desired)
        else:
            self._reconcile()
        self._context.lease.renew(sent_us / 1e6, min(self._ttl_s, answer.expires_in_s))
        self._answered_us, self._unanswered = sent_us, False
        if leaving:
            self.leaving_acknowledged.set()
        # The server renewed only what was left since the last answer; it hears at once of this one.
        more = bool(self._context.outbox)  # did not fit, or came meanwhile
        return 0.0 if unheard or more or answer.recall else answer.next_beat_s

    def beat_soon(self) -> None:
        """Beat at once; several wishes become one beat."""
        self._heartbeat_due.set()

    def _pids(self) -> list[int]:
        return [h.child.pid for h in self.hosted.values() if h.child is not None]

    def _actual(self) -> list[ProcessStatus]:
        shown = [h for h in self.hosted.values() if h.phase in REPORTED_PHASES | {"halted"}]
        return [_process_status(h, self._metrics) for h in shown[:MAX_PORTFOLIOS]]

    # --- websocket ---------------------------------------------------------------------------

    async def subscribe_schedule_updates(self) -> None:
        """Take desired sets as they are pushed. While the socket is closed, beat instead.

        A push says nothing that the next heartbeat's answer would not say: losing one costs time.
        """
        attempt = 0
        while True:
            try:
                hello = Hello(incarnation=self.incarnation, have_version=self._desired_version)
                async for pushed in self._client.pushes(hello):
                    if pushed is None:
                        self._connected, attempt = True, 0
                    else:
                        self.take_desired(pushed)
            except ServerUnavailable as error:
                LOG.info("%s", error)
            self._connected = False
            self._heartbeat_due.set()
            await back_off(attempt, 0.3, 2.0)
            attempt += 1

    # --- desired set -------------------------------------------------------------------------

    @property
    def _desired_version(self) -> int:
        """The version of the set that it holds."""
        return self.desired.version if self.desired else 0

    def take_desired(self, desired: DesiredSet) -> None:
        """Do what a desired set asks for, unless a newer one is known."""
        if self.desired is not None and desired.version < self.desired.version:
            return
        self.desired = desired
        self._apply_feeds(desired.feeds)
        runs = {entry.portfolio: entry for entry in desired.entries if entry.role == "run"}
        for hosted in self.hosted.values():
            if hosted.portfolio in runs:
                hosted.apply_entry(runs[hosted.portfolio])
        self._reconcile()

    def _on_version(self, version: int) -> None:
        """An answer named a newer set: the push should be here any moment; if not, beat for it."""
        if self.desired is not None and version > self.desired.version:
            loop = asyncio.get_running_loop()
            loop.call_later(PUSH_LATE_S, self._request_missed_push, version)

    def _request_missed_push(self, version: int) -> None:
        if self.desired is not None and version > self.desired.version:
            self._heartbeat_due.set()

    def _apply_feeds(self, feeds: Iterable[FeedInfo]) -> None:
        for info in feeds:
            reader = self._context.feeds.get(info.name)
            if reader is None or reader.feed.sha256 != info.sha256:
                LOG.error("feed %s is not the same here: portfolios on it cannot run", info.name)
            else:
                reader.set_segments(info.segments)

    def _on_change(self) -> None:
        """A process changed its phase: tell the server, and look again soon."""
        self._heartbeat_due.set()
        if not self._reconcile_scheduled:
            self._reconcile_scheduled = True
            asyncio.get_running_loop().call_soon(self._reconcile)

    def _reconcile(self) -> None:
        """Compare what should be with what is, and begin every action."""
        self._reconcile_scheduled = False
        if self._reconcile_timer is not None:
            self._reconcile_timer.cancel()
            self._reconcile_timer = None
        if self.desired is None or self.left:
            return
        now = boottime_s()
        processes = [hosted.process() for hosted in self.hosted.values()]
        wake_times = []
        for action in decide.reconcile(self.desired.entries, processes, now):
            if isinstance(action, decide.Wait):
                wake_times.append(action.until)
            else:
                self._perform(action)
        if wake_times:
            delay = max(min(wake_times) - now, 0.01)
            self._reconcile_timer = asyncio.get_running_loop().call_later(delay, self._reconcile)

    def _perform(self, action: decide.Action) -> None:
        match action:
            case decide.Start(entry=DesiredEntry() as entry, replaces=replaces):
                self._host(entry, replaces).take_over(entry)
            case decide.Prepare(entry=DesiredEntry() as entry):
                self.handle_portfolio_reload(entry)
            case decide.Activate(entry=DesiredEntry() as entry, slot=slot):
                self.hosted[slot].take_over(entry)
            case decide.Adopt(entry=DesiredEntry() as entry, slot=slot):
                self.hosted[slot].take_over(entry)
            case decide.Drain(entry=DesiredEntry() as entry, slot=slot):
                self.hosted[slot].drain(entry.handoff)
            case decide.ReleaseAbsent(entry=DesiredEntry() as entry, replaces=replaces):
                self._host(entry, replaces).release_absent(entry)
            case decide.Resume(slot=slot):
                self.hosted[slot].resume()
            case decide.Freeze(slot=slot):
                self.hosted[slot].freeze()
            case decide.Stop(slot=slot):
                self.hosted.pop(slot).end()

    def handle_portfolio_reload(self, entry: DesiredEntry) -> None:
        """Prepare the process of a handoff: a new revision here, or a portfolio from elsewhere.

        The one that runs is not touched: it drains only when this one is ready.
        """
        self._host(entry, None).prepare()

    def _host(self, entry: DesiredEntry, replaces: int | None) -> HostedPortfolio:
        before = self.hosted.pop(replaces) if replaces is not None else None
        if before is not None:
            before.end()
        self._last_slot += 1
        hosted = self.hosted[self._last_slot] = HostedPortfolio(
            self._context, self._last_slot, entry, before
        )
        return hosted


def _process_status(hosted: HostedPortfolio, metrics: Metrics) -> ProcessStatus:
    """Return one process as the server sees it."""
    pid = hosted.child.pid if hosted.child else None
    feeder = hosted.feeder
    feeding = feeder is not None and hosted.phase in ("running", "draining")
    return ProcessStatus(
        portfolio=hosted.portfolio,
        epoch=hosted.epoch,
        revision=hosted.revision,
        phase="running" if hosted.phase == "halted" else hosted.phase,  # type: ignore[arg-type]
        seq=feeder.seq if feeder else 0,
        lag=feeder.lag if feeder else 0,
        pid=pid,
        cpu_pct=metrics.cpu_pct_of(pid),
        handoff=hosted.handoff,
        stalled_s=round(feeder.stalled_s(), 1) if feeder and feeding else 0.0,
        caught_up_ms=feeder.caught_up_ms if feeder else None,
    )
