"""Commits, releases, and the checkpoints from which a process starts."""

from __future__ import annotations

import asyncio
import logging
from uuid import UUID

import psycopg
from psycopg.errors import DeadlockDetected, LockNotAvailable
from psycopg_pool import PoolTimeout

from scheduling import tracing
from scheduling.db.transaction import aexecute, aexecute_autocommit
from scheduling.enact import commit as commits
from scheduling.enact import handoff
from scheduling.enact.commit_validation import validate_commit
from scheduling.gateway.auth import NodeIdentity
from scheduling.gateway.commit_health import COMMIT_HEALTH
from scheduling.gateway.http import RequestRejected, primary_message
from scheduling.gateway.message_decoding import decode, decode_commits, uuid_of
from scheduling.gateway.pool import locking_connection, work_connection
from scheduling.gateway.request_metrics import commits_answered
from scheduling.observe.checkpoint import checkpoint
from scheduling.timing import timing
from scheduling.wire.messages import (
    CheckpointAnswer,
    CheckpointRequest,
    Commit,
    CommitAnswers,
    CommitResult,
)

logger = logging.getLogger(__name__)

#: Delay of an answer for each fenced commit in it. A fenced process ends, so only a broken daemon
#: sends many.
FENCED_DELAY_S = 0.02
#: Longest wait for a connection for releases: the answers to the other commits wait meanwhile.
RELEASE_WAIT_S = 0.5


async def answer_checkpoint(sender: NodeIdentity, body: bytes) -> CheckpointAnswer:
    """Return the newest checkpoint of a portfolio that the node owns, or is to take over."""
    message = decode(body, CheckpointRequest)
    incarnation = uuid_of(message.incarnation)
    async with work_connection(sender.node) as connection:
        row = await aexecute_autocommit(
            connection, checkpoint(sender.node, incarnation, message.portfolio, message.handoff)
        )
    if row is None:
        raise RequestRejected(
            409,
            "fenced",
            f"This incarnation of node {sender.name} may not read the checkpoint of portfolio "
            f"{message.portfolio}: the incarnation neither owns the portfolio nor is the target of"
            " its active handoff.",
        )
    return CheckpointAnswer(
        epoch=row.epoch,
        revision=row.revision,
        state_revision=row.state_revision,
        last_seq=row.last_seq,
        state_seq=row.state_seq,
        state=None if row.state is None else bytes(row.state),
    )


async def answer_commits(sender: NodeIdentity, body: bytes) -> CommitAnswers:
    """Write the commits of one request and return the result of each.

    A commit whose row is locked has no result: the daemon repeats it, and the other commits of the
    request are answered now.
    """
    incarnation, requested = decode_commits(body)
    results: dict[int, CommitResult] = {}
    ordinary: list[Commit] = []
    releases: list[Commit] = []
    for commit in requested:
        problem = validate_commit(commit)
        if problem:
            results[commit.portfolio] = _rejection(commit, problem)
        elif commit.release is not None:
            releases.append(commit)
        else:
            ordinary.append(commit)
    if ordinary:
        for result in await _commit_all(sender, incarnation, ordinary):
            results[result.portfolio] = result
    if releases:
        results |= await _release_all(sender, incarnation, releases)
    for result in results.values():
        commits_answered(result.answer).inc()
    rejected = [result for result in results.values() if result.answer == "rejected"]
    if rejected:  # one line per request, however many it holds
        logger.warning(
            "%s: %d of %d commits rejected, the first of portfolio %d: %s",
            sender.name,
            len(rejected),
            len(requested),
            rejected[0].portfolio,
            rejected[0].detail,
        )
    fenced = sum(result.answer == "fenced" for result in results.values())
    if fenced:
        await asyncio.sleep(FENCED_DELAY_S * fenced)
    portfolios = [commit.portfolio for commit in requested]
    return CommitAnswers(results=[results[p] for p in portfolios if p in results])


async def _commit_all(
    sender: NodeIdentity, incarnation: UUID, requested: list[Commit]
) -> list[CommitResult]:
    """Write all commits in one statement. Return the results of those whose rows are not locked.

    If the statement fails as a whole, write each half separately: that finds one bad commit among
    200 with 16 statements.
    """
    try:
        async with work_connection(sender.node) as connection, COMMIT_HEALTH.attempt():
            return await aexecute_autocommit(
                connection, commits.commit(sender.node, sender.name, incarnation, requested)
            )
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        if len(requested) == 1:
            return [_rejection(requested[0], primary_message(error))]
    middle = len(requested) // 2
    first = await _commit_all(sender, incarnation, requested[:middle])
    return first + await _commit_all(sender, incarnation, requested[middle:])


async def _release_all(
    sender: NodeIdentity, incarnation: UUID, requested: list[Commit]
) -> dict[int, CommitResult]:
    """Release one portfolio after the other. Return portfolio → result.

    A portfolio whose run is locked has no result. If a lock or a connection does not become free in
    time, the portfolios after it have none either. The daemon repeats all without a result.
    """
    results: dict[int, CommitResult] = {}
    try:
        async with locking_connection(sender.node, RELEASE_WAIT_S) as connection:
            for commit in requested:
                with tracing.handoff_span(commit.release, "grant after release") as span:
                    try:
                        result = await aexecute(
                            connection,
                            handoff.release(
                                sender.node, sender.name, incarnation, commit, timing()
                            ),
                        )
                    except (psycopg.DataError, psycopg.IntegrityError) as error:
                        result = _rejection(commit, primary_message(error))
                    if tracing.is_on:
                        _note_release(span, sender, commit, result)
                if result is not None:
                    results[commit.portfolio] = result
    except (LockNotAvailable, DeadlockDetected, PoolTimeout) as error:
        logger.info("%s: %s, the daemon repeats its releases", sender.name, type(error).__name__)
    return results


def _note_release(
    span: tracing.Span, sender: NodeIdentity, commit: Commit, result: CommitResult | None
) -> None:
    """Record in the trace who released and with which result. None: its row was locked."""
    answer = "locked" if result is None else result.answer
    detail = "" if result is None else result.detail
    span.note(
        error="" if answer in ("ok", "handed_over") else detail or answer,
        node=sender.name,
        portfolio_id=commit.portfolio,
        epoch=commit.epoch,
        outcome=answer,
    )


def _rejection(commit: Commit, detail: str) -> CommitResult:
    return CommitResult(portfolio=commit.portfolio, answer="rejected", detail=detail)
