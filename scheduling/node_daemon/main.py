"""The daemon as a program: create its parts, handle signals, end everything."""

from __future__ import annotations

import asyncio
import signal
import sys
import uuid
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NoReturn

from scheduling import systemd, tracing
from scheduling.node_daemon.committer import Committer
from scheduling.node_daemon.config import NodeConfig
from scheduling.node_daemon.context import DaemonContext
from scheduling.node_daemon.control_plane_client import ControlPlaneClient
from scheduling.node_daemon.daemon import ExecutionNode
from scheduling.node_daemon.errors import ChildFailed, FatalError, RegistrationRefused
from scheduling.node_daemon.feed_reader import FeedReader
from scheduling.node_daemon.forkserver_client import ForkserverClient
from scheduling.node_daemon.lease_view import Lease
from scheduling.node_daemon.log_sender import LogSender
from scheduling.node_daemon.logs import start_logging
from scheduling.node_daemon.outbox import Outbox
from scheduling.node_daemon.shutdown import shut_down
from scheduling.node_daemon.strategy_code import StrategyCode

STOPPED_AT_ONCE = 130  #: the exit code of a program that SIGINT ended


def run_daemon(config: NodeConfig, forkserver: ForkserverClient) -> int:
    """Run until asked to stop, and return the exit code. Call it in the main thread.

    The caller has launched the forkserver, and ends it.
    """
    start_logging(config.name, as_json=config.json_logs)
    tracing.start("ginkgo-node", config.name)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_run(config, forkserver))
    except FatalError as end:
        sys.stderr.write(f"{end}\n")
        return end.code


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _run(config: NodeConfig, forkserver: ForkserverClient) -> int:
    """Create the parts of the daemon, run it, and end them. Return the exit code."""
    signals = StopSignals()
    async with ControlPlaneClient(config) as client:
        incarnation = str(uuid.uuid4())
        committer = Committer(client, incarnation)
        start = partial(
            ForkserverClient,
            config.child_memory_mb,
            sandboxed=config.sandboxed,
            hidden=config.hidden,
        )
        code = StrategyCode(
            config.cache, client, forkserver, lambda environment: start(environment=environment)
        )
        context = DaemonContext(
            config,
            incarnation,
            forkserver,
            client,
            committer,
            Lease(),
            Outbox(),
            committer.acknowledged,
            code,
        )
        node = ExecutionNode(config, client, context)
        try:
            return await first_of(
                _serve_until_stopped(node, client, context, signals),
                signals.wait_for_second_signal(),
            )
        finally:
            node.end()
            code.close()
            await committer.close()


async def _serve_until_stopped(
    node: ExecutionNode, client: ControlPlaneClient, context: DaemonContext, signals: StopSignals
) -> int:
    """Start, serve and shut down. Return 0 after a clean end."""
    alive = asyncio.create_task(systemd.tell_alive(), name="alive")
    listening = asyncio.create_task(context.forkserver.listen(), name="forkserver")
    log = LogSender(client, context.incarnation, context.log)
    try:
        has_started = await first_of(_start(node), signals.wait_during_start())
        if not has_started:
            return 0
        return await first_of(
            _shut_down_when_asked(node, client, signals, log),
            _raise_when_token_is_refused(context.committer),
            _endless(node.heartbeat_loop()),
            _endless(node.subscribe_schedule_updates()),
            _endless(log.run()),
            _endless(context.code.clean_up()),
            *(
                _endless(reader.run())
                for reader in context.feeds.values()
                if isinstance(reader, FeedReader)
            ),
        )
    finally:
        listening.cancel()
        alive.cancel()


async def _start(node: ExecutionNode) -> bool:
    """Load what the node needs and register it. Return True: no signal came before the end."""
    try:
        await node.load()
    except ChildFailed as failure:
        raise RegistrationRefused(f"{failure}.") from None
    await node.register()
    return True


async def _shut_down_when_asked(
    node: ExecutionNode, client: ControlPlaneClient, signals: StopSignals, log: LogSender
) -> int:
    await signals.first.wait()
    systemd.tell(systemd.STOPPING)
    await shut_down(node, client)
    await log.flush()
    return 0


async def _raise_when_token_is_refused(committer: Committer) -> NoReturn:
    """Wait until the control plane refuses the token, then raise RegistrationRefused."""
    refusal = await committer.token_refused
    raise refusal


async def _endless(work: Coroutine[Any, Any, None]) -> NoReturn:
    """Await work that must not end by itself. Raise AssertionError if it does."""
    await work
    raise AssertionError(f"{work!r} ended by itself: a defect to report")


class StopSignals:
    """The first SIGTERM or SIGINT requests an orderly shutdown, the second an immediate end."""

    def __init__(self) -> None:
        self.first, self.second = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        (self.second if self.first.is_set() else self.first).set()

    async def wait_during_start(self) -> bool:
        """Wait for the first signal, in a race with `_start`. Return False: it was interrupted."""
        await self.first.wait()
        return False

    async def wait_for_second_signal(self) -> int:
        """Return the exit code of an immediate end at the second signal."""
        await self.second.wait()
        return STOPPED_AT_ONCE


async def first_of(*work: Coroutine[Any, Any, int]) -> int:
    """Return or raise the outcome of the first coroutine to end; cancel and await the others."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if task in done and task.exception() is not None:
            raise task.exception()  # type: ignore[misc]
    return next(task.result() for task in tasks if task in done)
