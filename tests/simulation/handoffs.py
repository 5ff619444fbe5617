"""Answers to statements about handoffs."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from scheduling.enact.handoff import deadlines, rollback, statements, symbols
from scheduling.enact.register import FOLLOW_GRANT
from tests.simulation import rows
from tests.simulation.database import ACTIVE, Row, Store, answers, differ, stored, view

ENDS = ("done", "failed", "rolled_back", "superseded")


@answers(statements.ACTIVE_HANDOFFS)
def active_handoffs(db: Store, p: Any) -> list[Row]:
    found = [db.active(each) for each in sorted(p.portfolios)]
    return [view(h) for h in found if h is not None]


@answers(symbols.SYMBOLS)
def symbols_of(db: Store, p: Any) -> list[Row]:
    found = db.revisions.get((p.portfolio, p.number))
    return [] if found is None else [Row(symbols=found.symbols)]


@answers(statements.PORTFOLIO_OF)
def portfolio_of(db: Store, p: Any) -> list[Row]:
    return [view(db.handoffs[p.handoff])] if p.handoff in db.handoffs else []


@answers(statements.LOCK_HANDOFF)
def lock_handoff(db: Store, p: Any) -> list[Row]:
    h = db.handoffs.get(p.handoff)
    if h is None:
        return []
    source, target = _place(db, h.source_node_id), _place(db, h.target_node_id)
    revision = db.revisions.get((h.portfolio_id, h.from_revision))
    return [
        view(h, target_lease=target.lease, target_valid=target.valid, target_name=target.name,
             source_name=source.name, source_lease=source.lease, source_valid=source.valid,
             source_status=source.status, source_drains=source.drains,
             from_status=None if revision is None else revision.status)
    ]  # fmt: skip


def _place(db: Store, node: int | None) -> Row:
    """Return a node and its lease as a left join finds them."""
    row = db.nodes.get(node) if node is not None else None
    lease = db.leases.get(node) if node is not None else None
    return Row(
        name=None if row is None else row.name,
        status=None if row is None else row.status,
        drains=None if row is None else row.draining or row.leaving,
        lease=None if lease is None else lease.incarnation,
        valid=db.valid(node),
    )


@answers(statements.TARGETS)
def targets(db: Store, p: Any) -> list[Row]:
    return [_target(db, db.nodes[each]) for each in p.nodes if each in db.nodes]


def _target(db: Store, node: rows.Node) -> Row:
    held = {run.portfolio_id for run in db.runs.values() if run.node_id == node.id}
    held |= {h.portfolio_id for h in db.handoffs_at(node.id)}
    lease, storm = db.leases.get(node.id), db.storm.get(1)
    return view(
        node,
        incarnation=None if lease is None else lease.incarnation,
        valid=db.valid(node.id),
        held=sum(db.portfolios[each].weight for each in held),
        storm_held=storm is not None and storm.held_at is not None,
    )


@answers(statements.INSERT)
def insert(db: Store, p: Any) -> list[Row]:
    columns = [f.name for f in fields(statements.NewHandoff)]
    values = zip(*(getattr(p, column) for column in columns), strict=True)
    new = [Row(**dict(zip(columns, each, strict=True))) for each in values]
    return [_insert(db, each, p.actor) for each in new]


def _insert(db: Store, n: Any, actor: str) -> Row:
    assert db.active(n.portfolio) is None, "handoff_one_active"
    h = rows.Handoff(
        db.next_handoff, n.portfolio, n.kind, n.state, n.reason, stored(n.why), actor,
        n.source, n.source_incarnation, n.target, n.target_incarnation, n.from_epoch,
        n.from_revision, n.to_revision, db.now + n.deadline_s, db.now,
    )  # fmt: skip
    db.next_handoff += 1  # like a sequence: a rollback does not return the number
    db.add(db.handoffs, h.id, h)
    return view(h)


@answers(statements.SUPERSEDE)
def supersede(db: Store, p: Any) -> list[Row]:
    ended = []
    for number, why in zip(p.handoffs, p.whys, strict=True):
        h = db.handoffs[number]
        if h.state in ACTIVE:
            db.set(h, state="superseded", error=why, deadline_at=db.now, finished_at=db.now)
            ended.append(view(h))
    return ended


@answers(statements.MOVE)
def move(db: Store, p: Any) -> list[Row]:
    h = db.handoffs.get(p.handoff)
    if h is None or h.state not in p.from_:
        return []
    ready = p.to == "draining" or (p.to == "activating" and h.prepared_at is None)
    db.set(
        h, state=p.to, error=p.error or h.error, deadline_at=db.now + p.deadline_s,
        prepared_at=db.now if ready else h.prepared_at,
        finished_at=db.now if p.to in ENDS else h.finished_at,
    )  # fmt: skip
    return [view(h)]


@answers(statements.GRANTED)
def granted(db: Store, p: Any) -> None:
    h = db.handoffs[p.handoff]
    db.set(
        h, state=p.to, to_epoch=p.to_epoch, granted_at=db.now,
        released_at=db.now if p.released else None, released_seq=p.released_seq,
        release_batch=p.batch, release_answer=p.answer,
        prepared_at=db.now if h.prepared_at is None else h.prepared_at, error=p.error or h.error,
        finished_at=db.now if p.to == "done" else None, deadline_at=db.now + p.deadline_s,
    )  # fmt: skip


@answers(statements.STORE_ANSWER)
def store_answer(db: Store, p: Any) -> None:
    h = db.handoffs[p.handoff]
    if h.release_batch is None:
        db.set(h, release_batch=p.batch, release_answer="keep", error=h.error or p.error)


@answers(statements.SET_PHASE)
def set_phase(db: Store, p: Any) -> None:
    run = db.runs[p.portfolio]
    if run.epoch == p.epoch and run.phase != p.phase:
        reason = run.reason if p.reason is None else p.reason
        db.set(run, phase=p.phase, phase_since=db.now, reason=reason)


@answers(rollback.FAILED_BEFORE)
def failed_before(db: Store, p: Any) -> list[Row]:
    return [
        Row(id=h.id)
        for h in db.handoffs.values()
        if h.portfolio_id == p.portfolio
        and h.id < p.handoff
        and h.kind == "reload"
        and h.to_revision == p.revision
        and h.target_incarnation == p.incarnation
        and h.state in ("failed", "rolled_back")
        and h.finished_at is not None
        and h.finished_at > db.now - 600
    ][:1]


@answers(FOLLOW_GRANT)
def follow(db: Store, p: Any) -> None:
    for h in db.handoffs.values():
        if (h.portfolio_id, h.state, h.to_epoch) == (p.portfolio, "activating", p.seen_epoch):
            db.set(
                h, to_epoch=p.epoch, target_incarnation=p.incarnation,
                deadline_at=db.now + p.deadline_s,
            )  # fmt: skip


def delayed(db: Store, p: Any, *nodes: int | None) -> bool:
    """Return whether these nodes could not reach a gateway, or no commit got through."""
    gateways = db.gateways.values()
    return (
        (bool(gateways) and not any(db.served(g, p.gap_s, p.interval_s) for g in gateways))
        or db.commits_blocked(p.interval_s)
        or any(db.own_gateway_failed(node, p.gap_s, p.interval_s) for node in nodes)
    )


@answers(deadlines.OVERDUE)
def overdue(db: Store, p: Any) -> list[Row]:
    found = []
    for h in db.handoffs.values():
        if h.state not in ACTIVE:
            continue
        source, target = _place(db, h.source_node_id), _place(db, h.target_node_id)
        late = h.deadline_at < db.now and not delayed(db, p, h.target_node_id, h.source_node_id)
        target_gone = h.kind != "stop" and (
            differ(target.status, "alive") or differ(target.lease, h.target_incarnation)
        )
        source_gone = h.state == "draining" and (
            differ(source.status, "alive") or differ(source.lease, h.source_incarnation)
        )
        if late or target_gone or source_gone:
            found.append(view(h))
    return found


@answers(deadlines.IS_DUE)
def due(db: Store, p: Any) -> list[Row]:
    return [Row(has_passed=p.deadline < db.now, build_s=0.0)]
