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
def active_handoffs(db: Store, args: Any) -> list[Row]:
    found = [db.active(each) for each in sorted(args.portfolios)]
    return [view(handoff) for handoff in found if handoff is not None]


@answers(symbols.SYMBOLS)
def symbols_of(db: Store, args: Any) -> list[Row]:
    found = db.revisions.get((args.portfolio, args.number))
    return [] if found is None else [Row(symbols=found.symbols)]


@answers(statements.PORTFOLIO_OF)
def portfolio_of(db: Store, args: Any) -> list[Row]:
    return [view(db.handoffs[args.handoff])] if args.handoff in db.handoffs else []


@answers(statements.LOCK_HANDOFF)
def lock_handoff(db: Store, args: Any) -> list[Row]:
    handoff = db.handoffs.get(args.handoff)
    if handoff is None:
        return []
    source, target = _place(db, handoff.source_node_id), _place(db, handoff.target_node_id)
    revision = db.revisions.get((handoff.portfolio_id, handoff.from_revision))
    return [
        view(handoff, target_lease=target.lease, target_valid=target.valid, target_name=target.name,
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
def targets(db: Store, args: Any) -> list[Row]:
    return [_target(db, db.nodes[each]) for each in args.nodes if each in db.nodes]


def _target(db: Store, node: rows.Node) -> Row:
    held = {run.portfolio_id for run in db.runs.values() if run.node_id == node.id}
    held |= {handoff.portfolio_id for handoff in db.handoffs_at(node.id)}
    lease, storm = db.leases.get(node.id), db.storm.get(1)
    return view(
        node,
        incarnation=None if lease is None else lease.incarnation,
        valid=db.valid(node.id),
        held=sum(db.portfolios[each].weight for each in held),
        storm_held=storm is not None and storm.held_at is not None,
    )


@answers(statements.INSERT)
def insert(db: Store, args: Any) -> list[Row]:
    columns = [f.name for f in fields(statements.NewHandoff)]
    values = zip(*(getattr(args, column) for column in columns), strict=True)
    new = [Row(**dict(zip(columns, each, strict=True))) for each in values]
    return [_insert(db, each, args.actor) for each in new]


def _insert(db: Store, n: Any, actor: str) -> Row:
    assert db.active(n.portfolio) is None, "handoff_one_active"
    handoff = rows.Handoff(
        db.next_handoff, n.portfolio, n.kind, n.state, n.reason, stored(n.why), actor,
        n.source, n.source_incarnation, n.target, n.target_incarnation, n.from_epoch,
        n.from_revision, n.to_revision, db.now + n.deadline_s, db.now,
    )  # fmt: skip
    db.next_handoff += 1  # like a sequence: a rollback does not return the number
    db.add(db.handoffs, handoff.id, handoff)
    return view(handoff)


@answers(statements.SUPERSEDE)
def supersede(db: Store, args: Any) -> list[Row]:
    ended = []
    for number, why in zip(args.handoffs, args.whys, strict=True):
        handoff = db.handoffs[number]
        if handoff.state in ACTIVE:
            db.set(handoff, state="superseded", error=why, deadline_at=db.now, finished_at=db.now)
            ended.append(view(handoff))
    return ended


@answers(statements.MOVE)
def move(db: Store, args: Any) -> list[Row]:
    handoff = db.handoffs.get(args.handoff)
    if handoff is None or handoff.state not in args.from_:
        return []
    ready = args.to == "draining" or (args.to == "activating" and handoff.prepared_at is None)
    db.set(
        handoff, state=args.to, error=args.error or handoff.error,
        deadline_at=db.now + args.deadline_s,
        prepared_at=db.now if ready else handoff.prepared_at,
        finished_at=db.now if args.to in ENDS else handoff.finished_at,
    )  # fmt: skip
    return [view(handoff)]


@answers(statements.GRANTED)
def granted(db: Store, args: Any) -> None:
    handoff = db.handoffs[args.handoff]
    db.set(
        handoff, state=args.to, to_epoch=args.to_epoch, granted_at=db.now,
        released_at=db.now if args.released else None, released_seq=args.released_seq,
        release_batch=args.batch, release_answer=args.answer,
        prepared_at=db.now if handoff.prepared_at is None else handoff.prepared_at,
        error=args.error or handoff.error,
        finished_at=db.now if args.to == "done" else None, deadline_at=db.now + args.deadline_s,
    )  # fmt: skip


@answers(statements.STORE_ANSWER)
def store_answer(db: Store, args: Any) -> None:
    handoff = db.handoffs[args.handoff]
    if handoff.release_batch is None:
        error = handoff.error or args.error
        db.set(handoff, release_batch=args.batch, release_answer="keep", error=error)


@answers(statements.SET_PHASE)
def set_phase(db: Store, args: Any) -> None:
    run = db.runs[args.portfolio]
    if run.epoch == args.epoch and run.phase != args.phase:
        reason = run.reason if args.reason is None else args.reason
        db.set(run, phase=args.phase, phase_since=db.now, reason=reason)


@answers(rollback.FAILED_BEFORE)
def failed_before(db: Store, args: Any) -> list[Row]:
    return [
        Row(id=handoff.id)
        for handoff in db.handoffs.values()
        if handoff.portfolio_id == args.portfolio
        and handoff.id < args.handoff
        and handoff.kind == "reload"
        and handoff.to_revision == args.revision
        and handoff.target_incarnation == args.incarnation
        and handoff.state in ("failed", "rolled_back")
        and handoff.finished_at is not None
        and handoff.finished_at > db.now - 600
    ][:1]


@answers(FOLLOW_GRANT)
def follow(db: Store, args: Any) -> None:
    wanted = (args.portfolio, "activating", args.seen_epoch)
    for handoff in db.handoffs.values():
        if (handoff.portfolio_id, handoff.state, handoff.to_epoch) == wanted:
            db.set(
                handoff, to_epoch=args.epoch, target_incarnation=args.incarnation,
                deadline_at=db.now + args.deadline_s,
            )  # fmt: skip


def delayed(db: Store, args: Any, *nodes: int | None) -> bool:
    """Return whether one of `nodes` could not reach a gateway, or no commit succeeded lately."""
    gateways = db.gateways.values()
    return (
        (bool(gateways) and not any(db.served(g, args.gap_s, args.interval_s) for g in gateways))
        or db.commits_blocked(args.interval_s)
        or any(db.own_gateway_failed(node, args.gap_s, args.interval_s) for node in nodes)
    )


@answers(deadlines.OVERDUE)
def overdue(db: Store, args: Any) -> list[Row]:
    found = []
    for handoff in db.handoffs.values():
        if handoff.state not in ACTIVE:
            continue
        source, target = _place(db, handoff.source_node_id), _place(db, handoff.target_node_id)
        late = handoff.deadline_at < db.now and not delayed(
            db, args, handoff.target_node_id, handoff.source_node_id
        )
        target_gone = handoff.kind != "stop" and (
            differ(target.status, "alive") or differ(target.lease, handoff.target_incarnation)
        )
        source_gone = handoff.state == "draining" and (
            differ(source.status, "alive") or differ(source.lease, handoff.source_incarnation)
        )
        if late or target_gone or source_gone:
            found.append(view(handoff))
    return found


@answers(deadlines.IS_DUE)
def due(db: Store, args: Any) -> list[Row]:
    return [Row(has_passed=args.deadline < db.now, build_s=0.0)]
