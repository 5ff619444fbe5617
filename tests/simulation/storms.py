"""Answers to statements about the hold of failover."""

from __future__ import annotations

from typing import Any

from scheduling.enact import storm
from tests.simulation import rows
from tests.simulation.database import Row, Store, answers


@answers(storm.SEEN)
def node_histories(db: Store, args: Any) -> list[Row]:
    held = db.storm.get(1)
    return [
        Row(name=node.name, status=node.status, status_since=node.status_since,
            lost_times=node.lost_times,
            expires_at=db.leases[node.id].expires_at if node.id in db.leases else None, now=db.now,
            ended_at=None if held is None else held.ended_at,
            ended_timestamp=None if held is None else held.ended_at,
            held=held is not None and held.held_at is not None)
        for node in sorted(db.nodes.values(), key=lambda each: each.name)
        if node.status != "new"
    ]  # fmt: skip


@answers(storm.OPEN)
def open_storm(db: Store, args: Any) -> list[Row]:
    held, nodes, until = db.storm.get(1), args.nodes.obj, db.now + args.ttl_s
    if held is None:
        db.add(db.storm, 1, rows.Storm(db.now, until, nodes, args.of))
    elif held.held_at is None and held.ended_at == args.ended:
        db.set(
            held, held_at=db.now, until=until, nodes=nodes, of_nodes=args.of, held_by="", reason=""
        )
    else:
        return []
    return [Row(held_at=db.now)]


@answers(storm.CLOSE)
def close_storm(db: Store, args: Any) -> list[Row]:
    held = db.storm.get(1)
    if held is None or held.held_at is None or held.until is None:
        return []
    if not held.until < db.now:
        return []
    db.set(held, held_at=None, until=None, ended_at=db.now)
    return [Row(id=1)]


@answers(storm.CLAMP)
def clamp_storm(db: Store, args: Any) -> None:
    held = db.storm.get(1)
    if held is None:
        return
    latest, ended, until = db.now + args.ttl_s, held.ended_at, held.until
    if (until is not None and until > latest) or (ended is not None and ended > db.now):
        db.set(
            held,
            ended_at=None if ended is None else min(ended, db.now),
            until=None if until is None else min(until, latest),
        )
