"""Heartbeats: decode, renew the lease in a batch, apply the reports, answer.

Each stage is one function. Between `renew` and the answer, an ordinary heartbeat needs no statement
of its own. A `lease` below is the row that `renew_leases` returned for the heartbeat.
"""

from __future__ import annotations

import logging
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout

from scheduling import tracing
from scheduling.db.transaction import CONNECTION_LOST, aexecute, aexecute_autocommit
from scheduling.enact.handoff.catch_up import store_catch_up_times
from scheduling.enact.node_reports import apply_report
from scheduling.enact.timeline import note_acknowledged
from scheduling.errors import Refused
from scheduling.gateway.acknowledgement_requests import ACKNOWLEDGEMENT_REQUESTS
from scheduling.gateway.auth import NodeIdentity
from scheduling.gateway.heartbeat_batcher import HeartbeatBatcher
from scheduling.gateway.http import RequestRejected, primary_message
from scheduling.gateway.message_decoding import decode_heartbeat
from scheduling.gateway.pool import locking_connection, work_connection
from scheduling.observe.desired_set import desired_set
from scheduling.timing import timing
from scheduling.wire.messages import (
    DesiredSet,
    Heartbeat,
    HeartbeatAnswer,
    Prepared,
    Report,
    StepFailed,
    uuid_from,
)

logger = logging.getLogger(__name__)

#: Heartbeat interval of a node with a pending handoff.
PENDING_HEARTBEAT_S = 1.0
#: Outcomes of reports that came late, twice or in too large a number. Logged at DEBUG only, since a
#: node may send thousands.
NO_CHANGE = ("late", "gone", "too_many")

BATCHER = HeartbeatBatcher()


async def answer_heartbeat(sender: NodeIdentity, body: bytes) -> HeartbeatAnswer:
    """Renew the lease of a node, apply what it reports, and return what it should run."""
    heartbeat = decode_heartbeat(body)
    lease = await BATCHER.renew(sender.node, heartbeat)
    if not lease.renewed:
        return _answer_to_other(sender, heartbeat, lease)
    await _record_catch_up(sender, heartbeat)
    if heartbeat.acknowledged or heartbeat.recalled:
        await _compare_acknowledged(sender, heartbeat)
    if heartbeat.reports:
        await _apply_reports(sender, heartbeat)
    desired = await _changed_desired_set(sender, heartbeat, lease)
    return _answer_to_holder(sender, heartbeat, lease, desired)


#: (node, portfolio, epoch) whose catch-up this process has recorded.
_recorded: set[tuple[int, int, int]] = set()
_MAX_RECORDED = 20_000


async def _record_catch_up(sender: NodeIdentity, heartbeat: Heartbeat) -> None:
    """Record, once per epoch, how long a new owner needed to reach the head."""
    reached = [
        (status.portfolio, status.epoch, status.caught_up_ms)
        for status in heartbeat.portfolios
        if status.caught_up_ms is not None
        and (sender.node, status.portfolio, status.epoch) not in _recorded
    ]
    if not reached:
        return
    async with work_connection(sender.node) as connection:
        await aexecute_autocommit(connection, store_catch_up_times(sender.node, reached))
    if len(_recorded) > _MAX_RECORDED:
        _recorded.clear()
    _recorded.update((sender.node, portfolio, epoch) for portfolio, epoch, _ in reached)


async def _compare_acknowledged(sender: NodeIdentity, heartbeat: Heartbeat) -> None:
    """Store the daemon's claims of acknowledged commits that the database lacks."""
    if heartbeat.acknowledged:
        transaction = note_acknowledged(sender.node, sender.name, heartbeat.acknowledged)
        try:
            async with locking_connection(sender.node) as connection:
                claims = await aexecute(connection, transaction)
        except (*CONNECTION_LOST, PoolTimeout):
            raise  # the daemon sends them again
        except Exception:  # the renewal is durable; a bad claim must not cost the lease
            logger.exception("%s: a defect: acknowledged commits are not compared", sender.name)
        else:
            if claims.stored:
                logger.error(
                    "%s: the database lacks acknowledged commits of %d portfolios",
                    sender.name,
                    claims.stored,
                )
            if claims.dropped:
                logger.warning(
                    "%s: %d more claims of vanished commits were not stored: the node reached the "
                    "limit of such claims",
                    sender.name,
                    claims.dropped,
                )
    if heartbeat.recalled:  # the daemon sent all, as asked: do not ask again
        ACKNOWLEDGEMENT_REQUESTS.record_received(sender.node, heartbeat.incarnation)


async def _apply_reports(sender: NodeIdentity, heartbeat: Heartbeat) -> None:
    """Apply every report in a transaction of its own, so that a bad one does not affect others."""
    times, incarnation = timing(), uuid_from(heartbeat.incarnation)
    invalid: list[str] = []
    for report in heartbeat.reports:
        try:
            transaction = apply_report(sender.node, incarnation, report, times)
            # Each report borrows a connection anew, so that a node with hundreds of reports does
            # not keep a connection from other nodes.
            with _report_span(sender, report) as span:
                async with locking_connection(sender.node) as connection:
                    outcome = await aexecute(connection, transaction)
                if outcome in NO_CHANGE:
                    span.drop()
                span.note(outcome=outcome)
        except (*CONNECTION_LOST, PoolTimeout):
            raise  # no database or connection, or a locked row: the daemon sends the reports again
        except (Refused, RequestRejected) as refused:
            invalid.append(str(refused))
        except psycopg.DataError as error:
            invalid.append(primary_message(error))
        except Exception:
            # The renewal is durable: neither one report nor an internal error in handling it may
            # cost the node its lease. A heartbeat without an answer would be repeated endlessly.
            kind = type(report).__name__
            logger.exception("%s: a defect to report: %s was not applied", sender.name, kind)
        else:
            level = logging.DEBUG if outcome in NO_CHANGE else logging.INFO
            logger.log(level, "%s reported %s: %s", sender.name, type(report).__name__, outcome)
    if invalid:  # one line per request, however many it holds
        logger.warning(
            "%s: invalid reports: %d, the first: %s", sender.name, len(invalid), invalid[0]
        )


def _report_span(sender: NodeIdentity, report: Report) -> tracing.Span:
    """Return the trace span in which a report about a handoff is applied, or NO_SPAN."""
    if isinstance(report, Prepared):
        # Without a source to drain, the target is granted at once.
        return tracing.handoff_span(report.handoff, "drain or grant", node=sender.name)
    if isinstance(report, StepFailed):
        span = tracing.handoff_span(report.handoff, f"{report.step} failed", node=sender.name)
        span.note(report.error)
        return span
    return tracing.NO_SPAN


async def _changed_desired_set(
    sender: NodeIdentity, heartbeat: Heartbeat, lease: Any
) -> DesiredSet | None:
    """Return the desired set if it is newer than the daemon's, else None."""
    # A report may have made it newer than `lease` says.
    if not heartbeat.reports and lease.desired_version <= heartbeat.have_version:
        return None
    async with work_connection(sender.node) as connection:
        return await aexecute_autocommit(
            connection, desired_set(sender.node, heartbeat.have_version)
        )


def _answer_to_holder(
    sender: NodeIdentity, heartbeat: Heartbeat, lease: Any, desired: DesiredSet | None
) -> HeartbeatAnswer:
    """Answer the holder of the lease.

    A node with portfolios (`lease.busy`) learns of a new desired set from the answers to its
    commits. One without has only its heartbeats when pushes are lost: its interval is half as long.
    """
    times = timing()
    next_beat_s = times.heartbeat_interval_s if lease.busy else times.heartbeat_interval_s / 2
    if lease.pending:
        next_beat_s = min(PENDING_HEARTBEAT_S, times.heartbeat_interval_s)
    return HeartbeatAnswer(
        status="ok",
        expires_in_s=times.lease_ttl_s,
        next_beat_s=next_beat_s,
        now_us=lease.now_us,
        desired=desired,
        recall=ACKNOWLEDGEMENT_REQUESTS.is_due(sender.node, heartbeat.incarnation),
    )


def _answer_to_other(sender: NodeIdentity, heartbeat: Heartbeat, lease: Any) -> HeartbeatAnswer:
    """Answer a daemon that does not hold the lease of its node.

    A holder that registered before this daemon did not take the node from it: the database went
    back to a time before this daemon, by a restore or the promotion of a replica. The holder counts
    as newer by the number of registrations, which is right even if the clock was set back, or by
    its time, which is right even if a restored database lost registrations.
    """
    is_held = lease.held_by is not None and lease.held_by != uuid_from(heartbeat.incarnation)
    # Equal: the holder registered before this daemon was told its number.
    has_later_number = heartbeat.registration and lease.registrations >= heartbeat.registration
    if is_held and (has_later_number or lease.taken_us >= heartbeat.registered_us):
        return HeartbeatAnswer(
            status="superseded",
            now_us=lease.now_us,
            message=f"Node {sender.name} was taken over by a daemon on {lease.host}, "
            f"pid {lease.pid}.",
        )
    known = "only an earlier daemon" if is_held else f"no lease (status {lease.status})"
    return HeartbeatAnswer(
        status="unknown",
        now_us=lease.now_us,
        message=f"The database knows {known} of node {sender.name}; register again.",
    )
