"""The supervisor: heartbeats, websocket, reconciliation with the desired set. No strategies."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Iterable

from portfolios.feeds import feed_names, open_feed
from portfolios.runtime.python_version import PYTHON_VERSION
from scheduling.decide import reconcile as decide
from scheduling.decide.types import RECORDED_FEEDS
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
from scheduling.node_daemon.recorded_feed import RecordedFeedReader
from scheduling.wire.messages import (
    MAX_PORTFOLIOS,
    SPOKEN,
    DesiredEntry,
    DesiredSet,
    FeedInfo,
    Heartbeat,
    HeartbeatAnswer,
    Hello,
    ProcessStatus,
    Register,
    Registered,
)

VERSION = "0.1.0"
PUSH_LATE_S = 0.25  #: a push that takes longer is considered lost
#: Heartbeat interval while the websocket is closed, while leaving and after registering again.
SHORT_HEARTBEAT_S = 1.0


class ExecutionNode:
    """One incarnation of a node.

    Desired sets, whose version only grows, arrive with heartbeat answers and as pushes;
    `decide.reconcile` decides what to do about them.
    """

    def __init__(
        self, config: NodeConfig, client: ControlPlaneClient, context: DaemonContext
    ) -> None:
        """Run nothing yet. `main.run_daemon` creates the parts, and ends them."""
        self.config = config
        self.incarnation = context.incarnation
        self.leaving = False  #: asked to stop: hands its portfolios over
        self.left = False  #: sends and starts nothing any more
        self.desired: DesiredSet | None = None
        self.hosted: dict[int, HostedPortfolio] = {}  #: by slot
        self.leaving_acknowledged = asyncio.Event()  #: the server knows that it leaves
        self._context = context
        self._client = client
        self._feed_time = FeedTime()
        self._strategies: dict[str, int] = {}  #: name → version
        self._ttl_s = 30.0
        self._registered_us = 0  #: by the database's clock
        self._registration_number = 0  #: the count of registrations of this node, by the server
        self._answered_sent_us = 0  #: when the last answered heartbeat was sent
        self._unanswered = False  #: a later heartbeat got no answer
        self._last_slot = 0
        self._connected = False  #: the websocket is open
        self._heartbeat_due = asyncio.Event()
        self._reconcile_timer: asyncio.TimerHandle | None = None
        self._reconcile_scheduled = False
        self._metrics = Metrics()
        self._context.on_change = self._on_change
        self._context.beat_soon = self._heartbeat_due.set
        self._context.committer.on_version = self._on_version

    # --- start -------------------------------------------------------------------------------

    async def load(self) -> None:
        """Open the feeds and list the strategies in a child process. Raise ChildFailed."""
        for name in feed_names():
            self._context.feeds[name] = FeedReader(open_feed(name), self._feed_time)
        self._strategies = await self._context.forkserver.strategies()

    async def register(self) -> None:
        """Take over the runs of the node, however long the server is unavailable.

        A gateway that is not upgraded yet refuses the newest protocol and is asked in the previous
        one. Raise RegistrationRefused.
        """
        attempt = 0
        protocols = list(SPOKEN)
        while True:
            sent_us = boottime_us()
            try:
                registered = await self._client.register(self._registration(protocols[-1]))
                break
            except RequestRefused as declined:
                if declined.code != "protocol" or len(protocols) == 1:
                    raise RegistrationRefused(str(declined)) from None
                LOG.info("%s; trying the previous protocol", declined)
                protocols.pop()
            except ServerUnavailable as error:
                if attempt % 15 == 0:
                    LOG.warning("waiting for %s: %s", self.config.server, error)
                await back_off(attempt, 0.2, 2.0)
                attempt += 1
        self._apply_registration(registered, sent_us)

    def _registration(self, protocol: int) -> Register:
        return Register(
            protocol=protocol,
            incarnation=self.incarnation,
            host=platform.node(),
            pid=os.getpid(),
            version=VERSION,
            capacity=self.config.capacity,
            labels=dict(self.config.labels),
            strategies=self._strategies,
            feeds={
                name: reader.feed.sha256
                for name, reader in self._context.feeds.items()
                if isinstance(reader, FeedReader)
            }
            | {RECORDED_FEEDS: "1"},  # no hash: says that this daemon can read any recorded feed
            python=PYTHON_VERSION,
        )

    def _apply_registration(self, registered: Registered, sent_us: int) -> None:
        """Apply the answer to a registration that was sent at `sent_us`, by the boot-time clock."""
        LOG.info("registered as node %d (%s)", registered.node, registered.name)
        self._feed_time.sample(registered.now_us, sent_us, boottime_us())
        self._ttl_s = registered.lease_ttl_s
        self._registered_us = registered.now_us
        self._registration_number = registered.registration
        self._context.stale_order_age_s = registered.stale_order_age_s
        self.desired = None  # the server may have been restored to lower versions
        self.take_desired(registered.desired)
        self._context.lease.renew(sent_us / 1e6, self._ttl_s)
        self._answered_sent_us, self._unanswered = sent_us, False

    def end(self) -> None:
        """Kill every process and start nothing more."""
        self.left = True
        for reader in self._context.feeds.values():
            if isinstance(reader, RecordedFeedReader):
                reader.end()
        for hosted in self.hosted.values():
            hosted.end()

    # --- heartbeat ---------------------------------------------------------------------------

    async def heartbeat_loop(self) -> None:
        """Send heartbeats at the server's interval, or at once when due; none once `left`."""
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
        await asyncio.Event().wait()  # `main` takes the end of a loop for a defect

    async def _wait_until_heartbeat_due(self, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await self._heartbeat_due.wait()
        except TimeoutError:
            pass

    async def send_heartbeat(self) -> float:
        """Send a heartbeat and apply the answer. Return the seconds until the next heartbeat.

        Raise Superseded if another daemon took the name, RegistrationRefused if the token is not
        valid, RequestRefused for another refusal, ServerUnavailable if no answer came.
        """
        sent_us = boottime_us()
        heartbeat = self._heartbeat(sent_us)
        answer = await self._client.heartbeat(heartbeat)
        if self.left:  # since the heartbeat was sent
            return SHORT_HEARTBEAT_S
        if answer.status == "superseded":
            taken = f"Another daemon registered as node {self.config.name}: end one of the two."
            raise Superseded(answer.message or taken)
        if answer.status == "unknown":
            LOG.warning("the server does not know this lease any more: registering again")
            await self.register()
            # A new socket has to be noted on the new lease: without one, the death of this daemon
            # would be noticed by its silence only.
            self._client.close_socket()
            return SHORT_HEARTBEAT_S
        return self._apply_answer(heartbeat, answer, sent_us)

    def _heartbeat(self, sent_us: int) -> Heartbeat:
        """Return the next heartbeat: state, unconfirmed reports, commits that may have vanished."""
        acknowledged = self._context.acknowledged
        return Heartbeat(
            incarnation=self.incarnation,
            # While leaving, every answer carries the full set, by which `shutdown` judges.
            have_version=0 if self.leaving else self._desired_version,
            leaving=self.leaving,
            metrics=self._metrics.read(sent_us / 1e6, self._pids()),
            portfolios=self._process_statuses(),
            reports=self._context.outbox.next_reports(),
            unheard_s=(sent_us - self._answered_sent_us) / 1e6 if self._unanswered else 0.0,
            registered_us=self._registered_us,
            registration=self._registration_number,
            acknowledged=acknowledged.next_claims(),
            recalled=acknowledged.is_recalled,
        )

    def _apply_answer(self, sent: Heartbeat, answer: HeartbeatAnswer, sent_us: int) -> float:
        """Apply an answer with status ok. Return the seconds to the next heartbeat."""
        self._feed_time.sample(answer.now_us, sent_us, boottime_us())
        self._context.outbox.mark_delivered(sent.reports)
        self._context.acknowledged.mark_delivered(sent.acknowledged)
        if answer.recall:
            self._context.acknowledged.recall()
        if answer.desired is not None:
            self.take_desired(answer.desired)
        else:
            self._reconcile()
        self._context.lease.renew(sent_us / 1e6, min(self._ttl_s, answer.expires_in_s))
        self._answered_sent_us, self._unanswered = sent_us, False
        if sent.leaving:
            self.leaving_acknowledged.set()
        # After unanswered heartbeats the next one is due at once, since this one renewed the lease
        # only to one TTL after the last answer; so are reports that did not fit or came meanwhile,
        # and what the server recalls.
        at_once = sent.unheard_s > 0 or bool(self._context.outbox) or answer.recall
        return 0.0 if at_once else answer.next_beat_s

    def beat_soon(self) -> None:
        """Send a heartbeat at once; several requests result in one heartbeat."""
        self._heartbeat_due.set()

    def _pids(self) -> list[int]:
        hosted = self.hosted.values()
        return [portfolio.child.pid for portfolio in hosted if portfolio.child is not None]

    def _process_statuses(self) -> list[ProcessStatus]:
        reported = [hosted for hosted in self.hosted.values() if hosted.phase != "ended"]
        return [_process_status(hosted, self._metrics) for hosted in reported[:MAX_PORTFOLIOS]]

    # --- websocket ---------------------------------------------------------------------------

    async def subscribe_schedule_updates(self) -> None:
        """Apply desired sets as they are pushed. Send a heartbeat each time the socket fails.

        The next heartbeat answer carries the same set as a push, so a lost push costs time only.
        """
        attempt = 0
        while True:
            try:
                hello = Hello(incarnation=self.incarnation, have_version=self._desired_version)
                async for pushed in self._client.pushes(hello):
                    if pushed is None:  # the socket is open
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
        """The version of the newest desired set; 0 before the first."""
        return self.desired.version if self.desired else 0

    def take_desired(self, desired: DesiredSet) -> None:
        """Apply a desired set, unless a newer one is known."""
        if self.desired is not None and desired.version < self.desired.version:
            return
        self.desired = desired
        self._apply_feeds(desired.feeds, {entry.feed for entry in desired.entries})
        self._context.code.keep(entry.spec for entry in desired.entries)
        runs = {entry.portfolio: entry for entry in desired.entries if entry.role == "run"}
        for hosted in self.hosted.values():
            if hosted.portfolio in runs:
                hosted.apply_entry(runs[hosted.portfolio])
        self._reconcile()

    def _on_version(self, version: int) -> None:
        """Send a heartbeat if desired set `version`, known from a commit, is not pushed in time."""
        if self.desired is not None and version > self.desired.version:
            loop = asyncio.get_running_loop()
            loop.call_later(PUSH_LATE_S, self._request_missed_push, version)

    def _request_missed_push(self, version: int) -> None:
        """Send a heartbeat if the push with this version of the desired set has not come."""
        if self.desired is not None and version > self.desired.version:
            self._heartbeat_due.set()

    def _apply_feeds(self, feeds: Iterable[FeedInfo], needed: set[str]) -> None:
        """Follow exactly the recorded feeds in `needed`, and give the replays their segments."""
        self._unfollow(needed)
        for info in feeds:
            reader = self._context.feeds.get(info.name)
            if info.kind == "recorded":
                if info.name in needed:
                    self._follow(info.name)
            elif not isinstance(reader, FeedReader) or reader.feed.sha256 != info.sha256:
                LOG.error(
                    "feed %s is missing here or has other data than the server's: its portfolios "
                    "cannot run on this node; install here the server's version of Ginkgo",
                    info.name,
                )
            else:
                reader.set_segments(info.segments)

    def _unfollow(self, needed: set[str]) -> None:
        """Stop following the recorded feeds that no portfolio of the node needs any more."""
        for name, reader in list(self._context.feeds.items()):
            if isinstance(reader, RecordedFeedReader) and name not in needed:
                reader.end()
                del self._context.feeds[name]

    def _follow(self, feed: str) -> None:
        """Follow a recorded feed from now on, once for all portfolios of the node."""
        reader = self._context.feeds.get(feed)
        if reader is None:
            reader = RecordedFeedReader(feed, self._client, self._feed_time, self.incarnation)
            self._context.feeds[feed] = reader
        if isinstance(reader, RecordedFeedReader):
            reader.start()

    def _on_change(self) -> None:
        """Send a heartbeat and reconcile: a process changed its phase."""
        self._heartbeat_due.set()
        if not self._reconcile_scheduled:
            self._reconcile_scheduled = True
            asyncio.get_running_loop().call_soon(self._reconcile)

    def _reconcile(self) -> None:
        """Compare the desired set with the processes, and perform every action."""
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
        """Begin an action; what takes time runs in a task of its slot.

        `DesiredEntry()` in a pattern narrows the type: a decision knows the protocol only.
        """
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
            case decide.Wait():
                pass  # `_reconcile` sets a timer instead

    def handle_portfolio_reload(self, entry: DesiredEntry) -> None:
        """Prepare the process of a handoff: a new revision, or a portfolio of another node.

        The running process is not touched: it drains only once the new one is ready.
        """
        self._host(entry, None).prepare()

    def _host(self, entry: DesiredEntry, replaces: int | None) -> HostedPortfolio:
        """Return a new slot for the entry; end the slot that it replaces, if any."""
        before = self.hosted.pop(replaces) if replaces is not None else None
        if before is not None:
            before.end()
        self._last_slot += 1
        hosted = self.hosted[self._last_slot] = HostedPortfolio(
            self._context, self._last_slot, entry, before
        )
        return hosted


def _process_status(hosted: HostedPortfolio, metrics: Metrics) -> ProcessStatus:
    """Return the status of one slot for a heartbeat; `pid` is None without a process."""
    pid = hosted.child.pid if hosted.child else None
    feeder = hosted.feeder
    feeding = feeder is not None and hosted.phase in ("running", "draining")
    return ProcessStatus(
        portfolio=hosted.portfolio,
        epoch=hosted.epoch,
        revision=hosted.revision,
        # The halt has a report of its own; its process is alive.
        phase="running" if hosted.phase == "halted" else hosted.phase,  # type: ignore[arg-type]
        seq=feeder.seq if feeder else 0,
        lag=feeder.lag if feeder else 0,
        pid=pid,
        cpu_pct=metrics.cpu_pct_of(pid),
        handoff=hosted.handoff,
        stalled_s=round(feeder.stalled_s(), 1) if feeder and feeding else 0.0,
        caught_up_ms=feeder.caught_up_ms if feeder else None,
    )
