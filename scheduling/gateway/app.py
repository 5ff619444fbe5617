"""The node protocol as an ASGI application of its own, before Django.

Heartbeat, commit and release are the hot paths of the platform; a Django view costs five to eight
times this. Every handler is: decode, one recipe, answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import DeadlockDetected, DiskFull, LockNotAvailable
from psycopg_pool import PoolTimeout

from ginkgo_site.connections import SENDER_KNOWN
from scheduling.db.transaction import CONNECTION_LOST, aexecute, aexecute_autocommit
from scheduling.enact import commit as commits
from scheduling.enact import handoff, process_failures
from scheduling.enact.lease import caught_up, goodbye, record_gateway_alive
from scheduling.enact.register import incarnation_in_use, register
from scheduling.enact.timeline import note_acknowledged, note_timeline
from scheduling.errors import Refused
from scheduling.gateway.acknowledgement_requests import ACKNOWLEDGEMENT_REQUESTS
from scheduling.gateway.auth import NodeIdentity, Unauthenticated, authenticate_node
from scheduling.gateway.commit_path import COMMIT_PATH
from scheduling.gateway.disk_space import DISK_SPACE
from scheduling.gateway.health import HEALTH, WRITE_TEST_INTERVAL_S, write_test
from scheduling.gateway.heartbeat_batcher import HeartbeatBatcher, HeartbeatExpired
from scheduling.gateway.http import (
    ClientGone,
    Receive,
    RequestRejected,
    Scope,
    Send,
    refuse_plain_http,
    respond,
)
from scheduling.gateway.message_decoding import (
    decode,
    decode_commits,
    decode_heartbeat,
    uuid_of,
    validate_registration,
)
from scheduling.gateway.node_limits import admit
from scheduling.gateway.pool import close_pools, lease_pool, locking_pool, open_pools, work_pool
from scheduling.gateway.request_bodies import MAX_COMMIT_BODY, MAX_SMALL_BODY, request_body
from scheduling.observe.desired_set import desired_set
from scheduling.timing import Timing, timing
from scheduling.wire import messages as wire

logger = logging.getLogger(__name__)

PENDING_HEARTBEAT_S = 1.0
#: Before a node hears that it sent no message, or too many. A daemon of ours does neither; who does
#: would else be back at once, and reading what is no message costs as much as reading what is one.
REJECTION_DELAY_S = 1.0
#: For each portfolio that is another's: the audit log has a line for each such answer.
FENCED_DELAY_S = 0.02
NO_MESSAGE_OF_OURS = (400, 413)
TOO_MANY = 429

BATCHER = HeartbeatBatcher()


_background: list[asyncio.Task[None]] = []


async def open_gateway() -> None:
    """Open the pools and begin to pulse; called when the web process starts."""
    await open_pools()
    HEALTH.open()
    _background.extend(map(asyncio.create_task, (liveness_loop(), _keep_testing_writes())))


async def close_gateway() -> None:
    """Stop the pulse and close the pools; called when the web process stops."""
    HEALTH.open(False)
    while _background:
        _background.pop().cancel()
    await close_pools()


async def liveness_loop() -> None:
    """Write again and again that this process could hear nodes."""
    deaf = ""
    while True:
        times = timing()
        try:
            async with lease_pool().connection() as connection:
                deaf = BATCHER.drops.overload_reason() or deaf
                words = record_gateway_alive(
                    times,
                    deaf=bool(deaf),
                    standing_s=COMMIT_PATH.blocked_s(),
                    passed_s=COMMIT_PATH.passed_s(),
                )
                await aexecute_autocommit(connection, words)
            HEALTH.pulse.succeed()
            if deaf:
                logger.warning("no node is judged by its silence for one lease: %s", deaf)
            deaf = ""  # not before it is durable
        except (psycopg.Error, PoolTimeout) as error:
            HEALTH.pulse.fail(error)  # that gap is what the pulse is there to show
        await asyncio.sleep(times.pulse_s)


async def _keep_testing_writes() -> None:
    """Write over the pool of the commits again and again, as a commit would, for readiness; and
    see whether it is still the same database.
    """
    while True:
        DISK_SPACE.check(_database_folder())  # before a write, which a full disk may refuse
        try:
            async with work_pool().connection() as connection:
                await aexecute_autocommit(connection, write_test())
                await aexecute_autocommit(connection, DISK_SPACE.record())
                HEALTH.write.succeed()
                await _note_timeline(connection)
        except (psycopg.Error, PoolTimeout) as error:
            HEALTH.write.fail(error)
        await asyncio.sleep(WRITE_TEST_INTERVAL_S)


async def _note_timeline(connection: psycopg.AsyncConnection[Any]) -> None:
    try:
        ACKNOWLEDGEMENT_REQUESTS.record_database(await aexecute(connection, note_timeline()))
    except psycopg.ProgrammingError as error:
        # A service that has taken these functions from its roles, or no migrated database yet.
        logger.info("whether the database is the same is not known: %s", _said(error))


def _database_folder() -> Path | None:
    """Return a folder on the disk of the embedded server, or None for any other server."""
    from django.conf import settings

    env = settings.GINKGO
    if not env.database_is_embedded:
        return None
    data = Path(str(conninfo_to_dict(env.database_url).get("host") or "/")).parent / "data"
    return data if data.exists() else env.home


async def gateway(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one request below /api/agent/."""
    try:
        route = _route(scope)
        headers = dict(scope["headers"])
        refuse_plain_http(scope, headers)
        who = await authenticate_node(headers.get(b"authorization"))
        async with admit(who.node, route.kind):
            # From here on the node's own limits bound its bodies.
            scope.get(SENDER_KNOWN, bool)()
            async with request_body(who.node, receive, headers, route.limit) as body:
                try:
                    answered = await route.handler(who, body)
                except RequestRejected as declined:
                    if declined.status in NO_MESSAGE_OF_OURS:
                        await asyncio.sleep(REJECTION_DELAY_S)
                    raise
        # A peer that does not read its answer holds no turn: a dead peer is noticed after minutes.
        await respond(send, answered)
    except ClientGone:
        return
    except RequestRejected as declined:
        if declined.status == TOO_MANY:
            await asyncio.sleep(REJECTION_DELAY_S)
        await respond(send, declined.problem, declined.status)
    except Unauthenticated as error:
        await respond(send, wire.Problem(code="unauthenticated", message=str(error)), 401)
    except Refused as refused:
        await respond(
            send, wire.Problem(code=refused.code, message=refused.message), refused.status
        )
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        await respond(
            send,
            wire.Problem(code="invalid", message=f"A value does not fit: {_said(error)}."),
            400,
        )
    except DiskFull as full:
        DISK_SPACE.note_refused(full)
        logger.error("answered 503 to %s: %s", scope["path"], _said(full))
        problem = wire.Problem(code="unavailable", message="The database's disk is full; repeat.")
        await respond(send, problem, 503)
    except (*CONNECTION_LOST, PoolTimeout, HeartbeatExpired) as error:
        logger.info("answered 503 to %s: %s", scope["path"], type(error).__name__)
        await respond(
            send,
            wire.Problem(code="unavailable", message="The database does not answer now; repeat."),
            503,
        )
    except Exception:
        # Unknown to the daemon, which repeats; the trace is ours.
        logger.exception("a request of %s failed", scope["path"])
        await respond(
            send, wire.Problem(code="unavailable", message="The gateway failed; repeat."), 500
        )


class Route(NamedTuple):
    """How one address is served."""

    kind: str
    handler: Callable[[NodeIdentity, bytes], Awaitable[msgspec.Struct]]
    limit: int


def _route(scope: Scope) -> Route:
    found = ROUTES.get(scope["path"])
    if found is None:
        raise RequestRejected(
            404, "not_found", f"The node protocol has no address {scope['path'][:80]}."
        )
    if scope["method"] != "POST":
        raise RequestRejected(405, "invalid", "The node protocol takes POST only.")
    return found


async def _register(who: NodeIdentity, body: bytes) -> msgspec.Struct:
    # The protocol number is looked at first: an old daemon's message may not fit the schema.
    said = decode(body, _Registration)
    if said.protocol != wire.PROTOCOL:
        raise RequestRejected(
            409,
            "protocol",
            f"This daemon speaks protocol {said.protocol}, the gateway {wire.PROTOCOL}; "
            "install the same version of Ginkgo on both.",
        )
    message = decode(body, wire.Register)
    uuid_of(message.incarnation)
    validate_registration(message)
    times = timing()
    async with step(who) as connection:
        try:
            await aexecute(connection, register(who.node, who.name, message, times))
        except psycopg.errors.UniqueViolation:  # two registrations under it crossed
            raise incarnation_in_use(who.name) from None
        desired = await aexecute_autocommit(connection, desired_set(who.node))
        cursor = await connection.execute(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1e6)::bigint, registrations"
            " FROM scheduling_node WHERE id = %s",
            (who.node,),
        )
        row = await cursor.fetchone()
    if desired is None or row is None:
        raise RequestRejected(503, "unavailable", "The lease vanished while registering; repeat.")
    logger.info("node %s registered, incarnation %s", who.name, message.incarnation)
    return wire.Registered(
        node=who.node,
        name=who.name,
        lease_ttl_s=times.lease_ttl_s,
        heartbeat_interval_s=times.heartbeat_interval_s,
        drain_deadline_s=times.drain_deadline_s,
        stale_order_age_s=times.stale_order_age_s,
        stall_s=times.stall_s,
        now_us=row[0],
        desired=desired,
        # One that registered meanwhile may be counted in: the holder is that one then.
        registration=row[1],
    )


@asynccontextmanager
async def work(who: NodeIdentity) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Give a connection of the work pool, of which a node may have its share at once."""
    async with admit(who.node, "work"), work_pool().connection() as connection:
        yield connection


@asynccontextmanager
async def step(
    who: NodeIdentity, within_s: float | None = None
) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Give a connection of those that may wait for row locks, of which a node has its share too."""
    async with admit(who.node, "steps"), locking_pool().connection(within_s) as connection:
        yield connection


class _Registration(msgspec.Struct):
    protocol: int


async def _heartbeat(who: NodeIdentity, body: bytes) -> msgspec.Struct:
    message = decode_heartbeat(body)
    incarnation = uuid_of(message.incarnation)
    row = await BATCHER.submit(who.node, message)
    if not row.beaten:
        return _not_the_holder(who, message, row)
    times = timing()
    desired = None
    await _note_caught_up(who, message)
    await _note_acknowledged(who, message)
    odd: list[str] = []
    for record in message.reports:
        try:
            # A connection for each: hundreds of reports must not keep one from others.
            async with step(who) as connection:
                await _apply(connection, who, incarnation, record)
        except (*CONNECTION_LOST, PoolTimeout):
            raise  # the database is away or a row is held: the daemon says it again
        except (RequestRejected, psycopg.DataError) as error:
            odd.append(_said(error) if isinstance(error, psycopg.Error) else str(error))
        except Exception:
            # The beat is durable: one report, or a fault of ours in it, must not cost the node its
            # lease. Unanswered, it would be repeated indefinitely.
            logger.exception("%s: a report could not be applied", who.name)
    if odd:  # one line a request, however many it holds
        logger.warning("%s: %d reports make no sense: %s", who.name, len(odd), odd[0])
    if message.reports or row.desired_version > message.have_version:
        async with work(who) as connection:
            desired = await aexecute_autocommit(
                connection, desired_set(who.node, message.have_version)
            )
    return wire.HeartbeatAnswer(
        status="ok",
        expires_in_s=times.lease_ttl_s,
        next_beat_s=_next_beat_s(row, times),
        now_us=row.now_us,
        desired=desired,
        recall=ACKNOWLEDGEMENT_REQUESTS.is_due(who.node, message.incarnation),
    )


async def _note_acknowledged(who: NodeIdentity, message: wire.Heartbeat) -> None:
    """Compare what the daemon remembers with what the database has."""
    if message.acknowledged:
        recipe = note_acknowledged(who.node, who.name, message.acknowledged)
        try:
            async with step(who) as connection:
                missing = await aexecute(connection, recipe)
        except (*CONNECTION_LOST, PoolTimeout):
            raise  # it is told again
        except Exception:  # the beat is durable; nonsense in it must not cost the lease
            logger.exception("%s: what it remembers could not be compared", who.name)
        else:
            if missing:
                logger.error(
                    "%s: the database lacks acknowledged commits of %d portfolios",
                    who.name,
                    missing,
                )
    if message.recalled:
        ACKNOWLEDGEMENT_REQUESTS.record_received(who.node, message.incarnation)


def _next_beat_s(row: Any, times: Timing) -> float:
    """Return when to beat next. A node with portfolios hears of a new set in the answers to its
    commits; one without has only its beats when pushes are lost, so it beats twice as often."""
    if row.pending:
        return min(PENDING_HEARTBEAT_S, times.heartbeat_interval_s)
    return times.heartbeat_interval_s if row.busy else times.heartbeat_interval_s / 2


#: (node, portfolio, epoch) whose catching up was written down by this process.
_noted: dict[tuple[int, int, int], None] = {}
_MOST_NOTED = 20_000


async def _note_caught_up(who: NodeIdentity, message: wire.Heartbeat) -> None:
    """Write down, once an epoch, how long a new owner needed to reach the head."""
    reached = [
        (actual.portfolio, actual.epoch, actual.caught_up_ms)
        for actual in message.portfolios
        if actual.caught_up_ms is not None
        and (who.node, actual.portfolio, actual.epoch) not in _noted
    ]
    if not reached:
        return
    async with work(who) as connection:
        await aexecute_autocommit(connection, caught_up(who.node, reached))
    if len(_noted) > _MOST_NOTED:
        _noted.clear()
    _noted.update(((who.node, portfolio, epoch), None) for portfolio, epoch, _ in reached)


def _not_the_holder(who: NodeIdentity, message: wire.Heartbeat, row: Any) -> wire.HeartbeatAnswer:
    """Answer a daemon that does not hold the lease of its node.

    A holder that registered before this daemon did not take the node from it: the database went
    back to a time before this daemon, by a restore or the promotion of a replica. The holder is
    newer by the count of registrations, which a clock that was set back does not change; or by the
    clock, since a restored database counts again from where it was.
    """
    is_held = row.held_by is not None and row.held_by != UUID(message.incarnation)
    counts_more = message.registration and row.registrations >= message.registration
    if is_held and (counts_more or row.taken_us >= message.registered_us):
        return wire.HeartbeatAnswer(
            status="superseded",
            now_us=row.now_us,
            message=f"Node {who.name} was taken over by a daemon on {row.host}, pid {row.pid}.",
        )
    knows = "an earlier daemon only" if is_held else f"no lease (status {row.status})"
    return wire.HeartbeatAnswer(
        status="unknown",
        now_us=row.now_us,
        message=f"Of node {who.name} the database knows {knows}; register again.",
    )


#: Outcomes of reports that came late or twice. Not worth a line each: a node may send many.
CHANGES_NOTHING = ("late", "gone")


async def _apply(
    connection: psycopg.AsyncConnection[Any],
    who: NodeIdentity,
    incarnation: UUID,
    record: wire.Report,
) -> None:
    """Make one report true. A report that comes late or twice changes nothing."""
    times = timing()
    match record:
        case wire.Prepared():
            recipe = handoff.prepared(record.handoff, who.node, incarnation, times)
        case wire.StepFailed():
            recipe = handoff.step_failed(
                record.handoff,
                who.node,
                incarnation,
                record.step,
                _text(record.error),
                record.strategy_failed,
                times,
            )
        case wire.ProcessExited():
            uuid_of(record.death)
            record = msgspec.structs.replace(record, error=_text(record.error))
            recipe = process_failures.handle_process_exit(who.node, incarnation, record, times)
        case wire.Halted():
            recipe = process_failures.handle_stale_halt(who.node, incarnation, record, times)
    outcome = await aexecute(connection, recipe)
    told = logging.DEBUG if outcome in CHANGES_NOTHING else logging.INFO
    logger.log(told, "%s reported %s: %s", who.name, type(record).__name__, outcome)


def _text(said: str) -> str:
    """Return a daemon's words as PostgreSQL can keep them, and no longer than people read."""
    return said.replace("\0", "")[:2000]


async def _checkpoint(who: NodeIdentity, body: bytes) -> msgspec.Struct:
    message = decode(body, wire.CheckpointRequest)
    async with work(who) as connection:
        row = await aexecute_autocommit(
            connection,
            commits.checkpoint(
                who.node, uuid_of(message.incarnation), message.portfolio, message.handoff
            ),
        )
    if row is None:
        raise RequestRejected(
            409, "fenced", f"Portfolio {message.portfolio} is not {who.name}'s to read now."
        )
    return wire.CheckpointAnswer(
        epoch=row.epoch,
        revision=row.revision,
        state_revision=row.state_revision,
        last_seq=row.last_seq,
        state_seq=row.state_seq,
        state=None if row.state is None else bytes(row.state),
    )


async def _commit(who: NodeIdentity, body: bytes) -> msgspec.Struct:
    incarnation, asked = decode_commits(body)
    results: dict[int, wire.CommitResult] = {}
    ordinary: list[wire.Commit] = []
    releases: list[wire.Commit] = []
    for one in asked:
        wrong = commits.validate_commit(one)
        if wrong:
            results[one.portfolio] = _rejected(one, wrong)
        elif one.release is not None:
            releases.append(one)
        else:
            ordinary.append(one)
    if ordinary:
        for result in await _commit_set(who, incarnation, ordinary):
            results[result.portfolio] = result
    if releases:
        results |= await _release_all(who, incarnation, releases)
    rejected = [result for result in results.values() if result.answer == "rejected"]
    if rejected:  # one line a request, however many it holds
        logger.warning(
            "%s: %d of %d commits rejected, of portfolio %d: %s",
            who.name,
            len(rejected),
            len(asked),
            rejected[0].portfolio,
            rejected[0].detail,
        )
    fenced = sum(result.answer == "fenced" for result in results.values())
    if fenced:
        await asyncio.sleep(FENCED_DELAY_S * fenced)
    # What somebody holds is left out, for the daemon to repeat; its neighbours are answered now.
    named = [one.portfolio for one in asked]
    return wire.CommitAnswers(results=[results[p] for p in named if p in results])


#: Longest that the neighbours in one request wait for a connection for its releases.
RELEASE_WAIT_S = 0.5


async def _release_all(
    who: NodeIdentity, incarnation: UUID, asked: list[wire.Commit]
) -> dict[int, wire.CommitResult]:
    """Release one after the other, up to the first one that meets a row that somebody holds."""
    results: dict[int, wire.CommitResult] = {}
    try:
        async with step(who, RELEASE_WAIT_S) as connection:
            for one in asked:
                try:
                    result = await aexecute(
                        connection, handoff.release(who.node, who.name, incarnation, one, timing())
                    )
                except (psycopg.DataError, psycopg.IntegrityError) as error:
                    result = _rejected(one, _said(error))
                if result is not None:
                    results[one.portfolio] = result
    except (LockNotAvailable, DeadlockDetected, PoolTimeout) as busy:
        logger.info("%s: %s, releases are to be repeated", who.name, type(busy).__name__)
    return results


async def _commit_set(
    who: NodeIdentity, incarnation: UUID, asked: list[wire.Commit]
) -> list[wire.CommitResult]:
    """Commit all in one statement; where that fails as a whole, each half alone: a bad one among
    200 is found with 16 statements, and the others wait for no more than these."""
    try:
        async with work(who) as connection, COMMIT_PATH.attempt():
            answers = await aexecute_autocommit(
                connection, commits.commit(who.node, who.name, incarnation, asked)
            )
        return answers
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        if len(asked) == 1:
            return [_rejected(asked[0], _said(error))]
    middle = len(asked) // 2
    first = await _commit_set(who, incarnation, asked[:middle])
    return first + await _commit_set(who, incarnation, asked[middle:])


def _rejected(commit: wire.Commit, why: str) -> wire.CommitResult:
    return wire.CommitResult(portfolio=commit.portfolio, answer="rejected", detail=why)


def _said(error: psycopg.Error) -> str:
    """Return the database's first line: what was wrong, without our statement."""
    return error.diag.message_primary or type(error).__name__


async def _goodbye(who: NodeIdentity, body: bytes) -> msgspec.Struct:
    message = decode(body, wire.Goodbye)
    async with step(who) as connection:
        done = await aexecute(
            connection,
            goodbye(who.node, who.name, uuid_of(message.incarnation), message.reason[:500]),
        )
    return wire.HeartbeatAnswer(status="ok" if done else "superseded")


ROUTES = {
    f"/api/agent/{route.kind}/": route
    for route in (
        Route("register", _register, MAX_SMALL_BODY),
        Route("heartbeat", _heartbeat, MAX_SMALL_BODY),
        Route("checkpoint", _checkpoint, MAX_SMALL_BODY),
        Route("commit", _commit, MAX_COMMIT_BODY),
        Route("goodbye", _goodbye, MAX_SMALL_BODY),
    )
}
