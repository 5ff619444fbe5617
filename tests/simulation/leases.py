"""Answers to statements about leases, nodes and gateways."""

from __future__ import annotations

import math
from typing import Any
from uuid import UUID

from scheduling.enact import register, stalls
from scheduling.enact.lease import departures, gateways, heartbeats, loss, sockets
from tests.simulation import rows
from tests.simulation.database import ACTIVE, Row, Store, answers, differ, view


@answers(heartbeats.RENEW)
def renew(db: Store, args: Any) -> list[Row]:
    found = []
    asked = zip(args.nodes, args.incarnations, args.leaving, args.unheard, strict=True)
    for node_id, incarnation, leaving, unheard_s in asked:
        node = db.nodes.get(node_id)
        if node is None:
            continue
        held = db.leases.get(node_id)
        came_from = None if held is None else held.gateway_id
        unheard_s = min(
            unheard_s, _serving_for_s(db, args.gateway, args.gap_s),
            _serving_for_s(db, came_from, args.gap_s) if came_from in db.gateways else math.inf,
        )  # fmt: skip
        mine = held is not None and held.incarnation == incarnation
        renewed = mine and node.status in ("alive", "lost")
        row = _heartbeat_answer(
            db, node, held, renewed=renewed,
            late=bool(
                renewed and held is not None
                and (held.expires_at < db.now or node.status == "lost")
                and _renewed(db, held, args.ttl_s, unheard_s) > db.now
            ),
            pending=bool(db.handoffs_at(node_id)),
            busy=any(run.node_id == node_id for run in db.runs.values()),
        )  # fmt: skip
        found.append(row)
        if not renewed or held is None:
            continue
        db.set(
            held, renewals=held.renewals + 1, gateway_id=args.gateway,
            renewed_at=db.now if unheard_s < args.ttl_s else held.renewed_at,
            expires_at=_renewed(db, held, args.ttl_s, unheard_s),
        )  # fmt: skip
        if leaving and not node.leaving:
            db.set(node, leaving=True)
            db.write_event("node_leaving", None, node_id, reason="its daemon was asked to stop")
            db.hints.append((None, 0))
    return found


@answers(gateways.RECORD_GATEWAY)
def record_gateway(db: Store, args: Any) -> None:
    passed = any(
        g.commits_passed_at is not None and db.now - args.gap_s <= g.commits_passed_at <= db.now
        for g in db.gateways.values()
    )
    own = db.gateways.get(args.gateway)
    if own is None:
        own = rows.Gateway(args.gateway, db.now, db.now)
        db.add(db.gateways, args.gateway, own)
    steady = not args.overloaded and -1 <= db.now - own.pulsed_at <= args.gap_s
    since = own.serving_since if steady else db.now
    db.set(own, pulsed_at=db.now, serving_since=since, left_at=None)
    if args.passed_s is not None:
        db.set(own, commits_passed_at=db.now - args.passed_s)
    if args.blocked_s is None or passed:
        return
    since = db.now - args.blocked_s
    if own.commits_stood_at is not None and -1 <= db.now - own.commits_stood_at <= args.gap_s:
        assert own.commits_stand_since is not None
        since = min(since, own.commits_stand_since)
    db.set(own, commits_stand_since=since, commits_stood_at=db.now)


@answers(gateways.GATEWAY_LEFT)
def gateway_left(db: Store, args: Any) -> None:
    if args.gateway in db.gateways:
        db.set(db.gateways[args.gateway], left_at=db.now)


def _serving_for_s(db: Store, gateway: UUID | None, gap_s: float) -> float:
    own = None if gateway is None else db.gateways.get(gateway)
    if own is None or not db.is_fit(own, gap_s):
        return 0.0
    return max(db.now - own.serving_since, 0.0)


def _renewed(db: Store, held: rows.Lease, ttl_s: float, unheard_s: float) -> float:
    """Return when a lease ends after the heartbeat of a node without answers for `unheard_s`."""
    if unheard_s <= 0:
        return db.now + ttl_s
    return max(held.expires_at, db.now + ttl_s - unheard_s)


@answers(heartbeats.REVIVE)
def revive(db: Store, args: Any) -> None:
    for node_id in sorted(args.nodes):
        node = db.nodes[node_id]
        if node.status == "lost":
            db.set(node, status="alive", status_since=db.now)
            db.write_event("node_alive", None, node_id, reason="heartbeats arrive again")
            db.hints.append((None, 0))


@answers(heartbeats.HOLDERS)
def holders(db: Store, args: Any) -> list[Row]:
    found = []
    for node_id in sorted(args.nodes):
        node, held = db.nodes[node_id], db.leases.get(node_id)
        no = dict.fromkeys(("renewed", "late", "pending", "busy"), False)
        found.append(_heartbeat_answer(db, node, held, **no))
    return found


def _heartbeat_answer(db: Store, node: rows.Node, held: rows.Lease | None, **more: bool) -> Row:
    return Row(
        node=node.id, lease_locked=False, held_by=None if held is None else held.incarnation,
        status=node.status, host=node.host, pid=node.pid, desired_version=node.desired_version,
        now_us=int(db.now * 1e6), **more,
    )  # fmt: skip


@answers(sockets.CONNECT)
def connect(db: Store, args: Any) -> list[Row]:
    held = db.leases.get(args.node)
    if held is None or held.incarnation != args.incarnation:
        return []
    db.set(
        held, connection=args.connection, socket_gateway_id=args.gateway, socket_loss_pending=False
    )
    return [Row(node_id=args.node)]


@answers(sockets.SOCKET_LOST)
def socket_lost(db: Store, args: Any) -> list[Row]:
    held = db.leases.get(args.node)
    if held is None or held.connection is None or held.connection != args.connection:
        return []
    db.set(held, connection=None, socket_lost_at=db.now, socket_loss_pending=True)
    return [Row(node_id=args.node)]


@answers(sockets.JUDGE_SOCKETS)
def judge_sockets(db: Store, args: Any) -> None:
    alive = [held for held in db.leases.values() if db.nodes[held.node_id].status == "alive"]
    judged = []
    for held in db.leases.values():
        at = held.socket_lost_at
        if not held.socket_loss_pending or at is None or db.now - args.wait_s <= at <= db.now + 1:
            continue
        at = min(at, db.now)
        lost = [
            o
            for o in alive
            if o.socket_lost_at is not None and abs(o.socket_lost_at - at) <= args.wait_s
        ]
        sockets = [o for o in alive if o in lost or o.connection is not None]
        own = db.gateways.get(held.socket_gateway_id or UUID(int=0))
        alone = len(lost) < max(2, len(sockets) / 2)
        if not sockets:
            continue
        ends = held.expires_at
        if alone and own is not None and db.is_fit(own, args.gap_s):
            ends = min(ends, at + args.grace_s)
        judged.append((held, ends))
    for held, ends in judged:
        db.set(held, socket_loss_pending=False, expires_at=ends)


@answers(departures.END_LEASE)
def end_lease(db: Store, args: Any) -> list[Row]:
    held = db.leases.get(args.node)
    if held is None or held.incarnation != args.incarnation:
        return []
    db.set(held, expires_at=min(held.expires_at, db.now))
    return [Row(node_id=args.node)]


@answers(departures.GOODBYE)
def goodbye(db: Store, args: Any) -> list[Row]:
    held = db.leases.get(args.node)
    if held is None or held.incarnation != args.incarnation or db.nodes[args.node].status == "left":
        return []
    db.set(db.nodes[args.node], status="left", status_since=db.now, leaving=False)
    return [Row(id=args.node)]


@answers(loss.MARK_LOST)
def mark_lost(db: Store, args: Any) -> list[Row]:
    lost = []
    for held in sorted(db.leases.values(), key=lambda each: each.node_id):
        node, own = db.nodes[held.node_id], db.gateways.get(held.gateway_id or UUID(int=0))
        if node.status != "alive" or not held.expires_at < db.now:
            continue
        if not any(
            db.is_fit(g, args.gap_s)
            and (g.serving_since < db.now - args.ttl_s or held.renewed_at >= g.serving_since)
            for g in db.gateways.values()
        ):
            continue
        recent = held.expires_at > db.now - args.ttl_s or not any(
            db.served(g, args.gap_s, 2 * args.ttl_s) for g in db.gateways.values()
        )
        if own is not None and own.left_at is None and recent:
            if db.is_fit(own, args.gap_s):
                excused = held.renewed_at < own.serving_since > db.now - args.ttl_s
            else:
                excused = own.pulsed_at > db.now - args.ttl_s - args.gap_s
            if excused:
                continue
        times = [t for t in [*node.lost_times, db.now] if t > db.now - 86400]
        db.set(node, status="lost", status_since=db.now, leaving=False, lost_times=sorted(times))
        db.write_event(
            "node_lost", None, node.id, actor="sweep", data={
                "incarnation": str(held.incarnation), "renewals": held.renewals,
                "silent_s": db.now - held.renewed_at,
            },
        )  # fmt: skip
        db.hints.append((None, 0))
        lost.append(Row(id=node.id, name=node.name, reason=""))
    return lost


@answers(loss.CLAMP_LEASES)
def clamp_leases(db: Store, args: Any) -> None:
    for held in db.leases.values():
        if held.expires_at > db.now + args.ttl_s + 1 or held.renewed_at > db.now + 1:
            db.set(
                held,
                renewed_at=min(held.renewed_at, db.now),
                expires_at=min(held.expires_at, db.now + args.ttl_s),
            )


@answers(loss.CLAMP_GATEWAY)
def clamp_gateway(db: Store, args: Any) -> None:
    for gateway in db.gateways.values():
        if gateway.pulsed_at > db.now + 1:
            db.set(gateway, pulsed_at=db.now - args.gap_s - 1)


@answers(loss.CLAMP_STATUS)
def clamp_status(db: Store, args: Any) -> None:
    for node in db.nodes.values():
        if node.status_since > db.now + 1:
            db.set(node, status_since=db.now)


@answers(register.LEASE)
def lease_of(db: Store, args: Any) -> list[Row]:
    held = db.leases.get(args.node)
    if held is None:
        return []
    node = db.nodes[args.node]
    return [
        view(held, valid=held.expires_at > db.now, host=node.host, pid=node.pid, status=node.status,
             now=db.now)
    ]  # fmt: skip


@answers(register.RECENT)
def recent_registrations(db: Store, args: Any) -> list[Row]:
    return [Row(times=len(db.lines("node_registered", args.within_s, node_id=args.node)))]


@answers(register.HELD_ELSEWHERE)
def held_elsewhere(db: Store, args: Any) -> list[Row]:
    return [
        Row(node_id=node)
        for node, held in db.leases.items()
        if node != args.node and held.incarnation == args.incarnation
    ]


@answers(register.TAKE_LEASE)
def take_lease(db: Store, args: Any) -> None:
    new = rows.Lease(
        args.node, args.incarnation, 0, db.now, db.now + args.ttl_s, args.gateway, None, db.now,
        args.takeovers.obj,
    )  # fmt: skip
    if args.node in db.leases:
        kept = ("socket_gateway_id", "socket_lost_at")
        values = {name: value for name, value in vars(new).items() if name not in kept}
        db.set(db.leases[args.node], **values)
    else:
        db.add(db.leases, args.node, new)


@answers(register.NODE)
def register_node(db: Store, args: Any) -> None:
    node = db.nodes[args.node]
    db.set(
        node, capacity=args.capacity, labels=args.labels.obj, strategies=args.strategies.obj,
        feeds=args.feeds.obj, host=args.host, pid=args.pid, version=args.version,
        python=args.python, registered_at=db.now, registrations=node.registrations + 1,
        status="alive", leaving=False,
        status_since=node.status_since if node.status == "alive" else db.now,
    )  # fmt: skip


@answers(register.AFFECTED)
def affected(db: Store, args: Any) -> list[Row]:
    found = {run.portfolio_id for run in db.runs.values() if run.node_id == args.node}
    found |= {
        h.portfolio_id
        for h in db.handoffs.values()
        if h.state in ACTIVE
        and h.target_node_id == args.node
        and differ(h.target_incarnation, args.incarnation)
    }
    return [Row(portfolio_id=each) for each in sorted(found)]


@answers(stalls.STALLS)
def mark_stalled(db: Store, args: Any) -> list[Row]:
    """Mark stalled portfolios, unmark the others."""
    feed, opened = db.feed, []
    judging = any(
        db.served(g, args.gap_s, args.stall_s) for g in db.gateways.values()
    ) and not db.commits_blocked(args.stall_s)
    judged = {
        node
        for node in db.leases
        if judging and not db.own_gateway_failed(node, args.gap_s, args.stall_s)
    }
    for run in db.runs.values():
        ahead = max(run.last_seq + 1 - feed.from_seq, 0)
        waits_since = feed.from_time + (ahead / feed.rate if feed.rate else 0)
        standing = (
            run.node_id is not None
            and run.node_id in judged
            and db.nodes[run.node_id].status == "alive"
            and run.phase == "running"
            and run.last_seq < db.head()
            and run.last_commit_at is not None
            and run.last_commit_at < db.now - args.stall_s
            and waits_since < db.now - args.stall_s
        )
        if standing and run.stalled_at is None:
            db.set(run, stalled_at=db.now)
            opened.append(Row(portfolio_id=run.portfolio_id))
        elif run.stalled_at is not None and not standing:
            moved = run.last_commit_at is not None and run.last_commit_at > run.stalled_at
            if run.node_id in judged or run.phase != "running" or moved:
                db.set(run, stalled_at=None)
    return opened


@answers(stalls.BEHIND)
def mark_behind(db: Store, args: Any) -> list[Row]:
    """Mark portfolios that are behind, unmark the others."""
    feed, then, changed = db.feed, db.now - args.stale_s, []
    if not any(db.is_fit(g, args.gap_s) for g in db.gateways.values()):
        return []
    due = feed.from_seq + int(feed.rate * (then - feed.from_time) // 1)
    for run in db.runs.values():
        late = (
            feed.from_time <= then
            and run.node_id is not None
            and db.nodes[run.node_id].status == "alive"
            and run.phase == "running"
            and run.last_seq < due
        )
        if late == (run.behind_since is None):
            db.set(run, behind_since=db.now if late else None)
            changed.append(Row(portfolio_id=run.portfolio_id))
    return changed
