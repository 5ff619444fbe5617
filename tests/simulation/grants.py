"""Answers to statements about runs, tenures, attempts, events and hints."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from scheduling.enact import (
    alerts,
    pass_lock,
    pending_reasons,
    process_failures,
    register,
    revisions,
    unheld_runs,
)
from scheduling.enact.audit_log import AUDIT
from scheduling.enact.grant import GRANT, LOCK_FREE_RUNS, LOCK_RUNS, RAISE_ATTEMPTS, RUNS
from scheduling.enact.handoff.rollback import REJECT, STORE_REASON
from scheduling.enact.notify import LOCK_NODES, TOUCH
from scheduling.enact.pin import PIN, UNPIN
from scheduling.enact.start import MAKE_PENDING
from scheduling.observe.snapshot_cache import CHANGES
from tests.simulation import rows
from tests.simulation.database import Row, Store, answers, stored, view
from tests.simulation.handoffs import delayed


@answers(GRANT)
def grant(db: Store, args: Any) -> list[Row]:
    run = db.runs.get(args.portfolio)
    if run is None or run.epoch != args.epoch:
        return []
    committed = [
        t.python
        for t in db.tenures.values()
        if t.portfolio_id == args.portfolio and t.first_commit_at is not None
    ]
    if args.node is None:
        python = committed[-1] if committed else ""
    else:
        reported = db.nodes[args.node].python if args.python is None else args.python
        python = reported or run.python
    db.set(
        run, python=python, epoch=run.epoch + 1, node_id=args.node, incarnation=args.incarnation,
        revision=args.revision, granted_at=db.now, first_commit_at=None, batch=None,
        attempts=run.attempts + args.lost_owners, phase=args.phase, phase_since=db.now,
        reason=args.reason, why=None,
        resume_seq=db.head() if run.last_commit_at is None else run.resume_seq,
        resumed_from=run.last_seq if run.last_commit_at is None else run.resumed_from,
    )  # fmt: skip
    for tenure in db.tenures.values():
        if tenure.portfolio_id == args.portfolio and tenure.ended_at is None:
            db.set(tenure, to_seq=run.last_seq, ended_at=db.now)
    if args.node is not None:
        tenure = rows.Tenure(
            args.portfolio, run.epoch, args.node, args.incarnation, args.revision, run.last_seq,
            args.cause, args.why, args.handoff, db.now, python=python,
        )  # fmt: skip
        db.add(db.tenures, (args.portfolio, run.epoch), tenure)
    db.write_event(
        "ended" if args.node is None else "granted", args.portfolio, args.node, actor=args.actor,
        reason=args.why, data={
            "epoch": run.epoch,
            "incarnation": None if args.incarnation is None else str(args.incarnation),
            "revision": args.revision, "from_seq": run.last_seq, "cause": args.cause,
            "handoff": args.handoff,
        },
    )  # fmt: skip
    return [Row(epoch=run.epoch, last_seq=run.last_seq, granted_at=db.now)]


@answers(LOCK_RUNS, LOCK_FREE_RUNS)
def lock_runs(db: Store, args: Any) -> list[Row]:
    return [Row(portfolio_id=each) for each in sorted(args.portfolios) if each in db.runs]


@answers(RUNS)
def runs_of(db: Store, args: Any) -> list[Row]:
    return [_run_of(db, db.runs[each]) for each in args.portfolios]


def _run_of(db: Store, run: rows.Run) -> Row:
    portfolio = db.portfolios[run.portfolio_id]
    revision = db.revisions.get((run.portfolio_id, run.revision))
    return view(
        run, failures_by_node=dict(run.failures_by_node), event_waits=run.last_seq < db.head(),
        node_name=None if run.node_id is None else db.nodes[run.node_id].name, name=portfolio.name,
        wanted_revision=portfolio.revision, weight=portfolio.weight,
        desired_state=portfolio.desired_state, archived_at=portfolio.archived_at,
        revision_status=None if revision is None else revision.status,
    )  # fmt: skip


@answers(RAISE_ATTEMPTS)
def raise_attempts(db: Store, args: Any) -> list[Row]:
    run = db.runs.get(args.portfolio)
    if run is None:
        return []
    failures = dict(run.failures_by_node)
    if args.node_failed is not None:
        failures[args.node_failed] = failures.get(args.node_failed, 0) + 1
    db.set(
        run,
        attempts=run.attempts + 1,
        last_death=run.last_death if args.death is None else UUID(str(args.death)),
        reason=args.reason,
        failed_seq=run.failed_seq if args.failed_seq is None else args.failed_seq,
        failures_by_node=failures,
    )
    return [Row(attempts=run.attempts)]


@answers(REJECT)
def reject(db: Store, args: Any) -> list[Row]:
    revision = db.revisions.get((args.portfolio, args.number))
    if revision is None or revision.status == "good":
        return []
    db.set(revision, status="rejected", status_reason=args.error)
    return [Row(portfolio_id=args.portfolio)]


@answers(STORE_REASON)
def set_reason(db: Store, args: Any) -> None:
    db.set(db.runs[args.portfolio], reason=args.reason)


@answers(pending_reasons.STORE_REASONS)
def store_reasons(db: Store, args: Any) -> list[Row]:
    said = []
    for portfolio, epoch, reason, why in zip(
        args.portfolios, args.epochs, args.reasons, args.whys, strict=True
    ):
        run = db.runs[portfolio]
        if run.epoch == epoch and run.reason != reason:
            db.set(run, reason=reason, why=stored(why))
            said.append(Row(portfolio_id=portfolio))
    return said


@answers(PIN)
def pin(db: Store, args: Any) -> None:
    for portfolio, node in zip(args.portfolios, args.nodes, strict=True):
        db.set(db.runs[portfolio], pinned_node_id=node)


@answers(UNPIN)
def unpin(db: Store, args: Any) -> list[Row]:
    cleared = []
    for run in map(db.runs.__getitem__, sorted(args.portfolios)):
        node = run.pinned_node_id
        if node is not None and args.node in (None, node):
            db.set(run, pinned_node_id=None)
            cleared.append(Row(portfolio_id=run.portfolio_id, node=node))
    return cleared


@answers(MAKE_PENDING)
def make_pending(db: Store, args: Any) -> list[Row]:
    run = db.runs[args.portfolio]
    if run.node_id is not None:
        return []
    db.set(
        run, phase="pending", phase_since=db.now, attempts=0, failures_by_node={},
        reason="waits for the next pass", halt_id=None, failed_seq=None, resume_seq=db.head(),
        resumed_from=run.last_seq,
    )  # fmt: skip
    return [Row(portfolio_id=args.portfolio)]


@answers(AUDIT)
def audit(db: Store, args: Any) -> None:
    for portfolio, node, reason, data in zip(
        args.portfolios, args.nodes, args.reasons, args.data, strict=True
    ):
        db.write_event(args.kind, portfolio, node, actor=args.actor, reason=reason, data=data.obj)


@answers(TOUCH)
def touch(db: Store, args: Any) -> None:
    db.touch(args.nodes)


@answers(
    *(LOCK_NODES, register.LOCK_LEASE),  # transactions here are one after another
    register.END_DRAIN_UNTIL_RETURN,  # no drain of the simulation lasts until the node returns
    alerts.COMPARE,  # no decision depends on alerts; the conformance test checks PostgreSQL's
    CHANGES,  # every snapshot reads all rows again
)
def nothing(db: Store, args: Any) -> None:
    """Do nothing."""


@answers(pass_lock.ACQUIRE)
def acquire_pass_lock(db: Store, args: Any) -> list[Row]:
    held = db.locks.get("pass")
    until = db.now + args.hold_s
    if held is None:
        db.add(db.locks, "pass", rows.PassLock(args.holder, until))
    elif held.holder == args.holder or held.until < db.now or held.until > until + 1:
        db.set(held, holder=args.holder, until=until)
    else:
        return []
    return [Row(holder=args.holder)]


@answers(pass_lock.RELEASE)
def release_pass_lock(db: Store, args: Any) -> None:
    held = db.locks.get("pass")
    if held is not None and held.holder == args.holder:
        db.set(held, until=db.now)


@answers(pass_lock.RECORD_PASS)
def record_pass(db: Store, args: Any) -> None:
    if "pass" in db.locks:
        db.set(db.locks["pass"], failover_ran_at=db.now)


@answers(process_failures.OWNED)
def owned(db: Store, args: Any) -> list[Row]:
    run = db.runs.get(args.portfolio)
    owner = None if run is None else (run.epoch, run.node_id, run.incarnation)
    return (
        [Row(portfolio_id=args.portfolio)]
        if owner == (args.epoch, args.node, args.incarnation)
        else []
    )


@answers(process_failures.COUNTED_BEFORE)
def counted_before(db: Store, args: Any) -> list[Row]:
    lines = db.lines("process_died", args.within_s, portfolio_id=args.portfolio).values()
    counted = (args.death in (e.data.get("death"), *e.data.get("deaths", ())) for e in lines)
    return [Row(id=0)] if any(counted) else []


@answers(process_failures.RECENT_EXITS)
def recent_exits(db: Store, args: Any) -> list[Row]:
    lines = db.lines("process_died", args.within_s, portfolio_id=args.portfolio)
    return [Row(lines=len(lines), newest=max(lines, default=None))]


@answers(process_failures.COUNT_EXIT)
def count_exit(db: Store, args: Any) -> None:
    line = db.events[args.line]
    deaths = [args.death, *line.data.get("deaths", [])][: args.max_deaths]
    db.set(line, data={**line.data, "times": line.data.get("times", 1) + 1, "deaths": deaths})


@answers(process_failures.NOTE_EXIT)
def note_exit(db: Store, args: Any) -> None:
    db.set(db.runs[args.portfolio], last_death=args.death)


# --- reads of the sweep ---------------------------------------------------------------------------


@answers(revisions.PROVE)
def prove_revisions(db: Store, args: Any) -> list[Row]:
    proven = []
    for run in db.runs.values():
        tenure = db.tenures.get((run.portfolio_id, run.epoch))
        revision = db.revisions.get((run.portfolio_id, run.revision))
        if tenure is None or revision is None or run.first_commit_at is None:
            continue
        news = revision.status == "unproven" or (
            revision.status == "good" and run.good_revision != run.revision
        )
        committed = run.last_commit_at or run.first_commit_at
        ran = committed > run.first_commit_at + args.good_after_s and run.last_seq > tenure.from_seq
        if news and ran:
            db.set(run, good_revision=run.revision)
            db.set(revision, status="good", status_reason="")
            data = {"revision": run.revision}
            db.write_event("revision_good", run.portfolio_id, None, actor="sweep", data=data)
            proven.append(Row(portfolio_id=run.portfolio_id))
    return proven


@answers(revisions.STALE_REVISIONS)
def stale_revisions(db: Store, args: Any) -> list[Row]:
    found = []
    for run in db.runs.values():
        wanted = db.portfolios[run.portfolio_id].revision
        asked = db.revisions[run.portfolio_id, wanted]
        node = db.nodes.get(run.node_id) if run.node_id is not None else None
        tenure = db.tenures.get((run.portfolio_id, run.epoch))
        lease = db.leases.get(run.node_id) if run.node_id is not None else None
        if tenure is None or lease is None or lease.incarnation != run.incarnation:
            continue
        healthy = tenure.cause != "failover" or (
            run.first_commit_at is not None and run.first_commit_at < db.now - args.good_after_s
        )
        busy = db.active(run.portfolio_id) is not None or any(
            handoff.kind == "reload"
            and handoff.portfolio_id == run.portfolio_id
            and handoff.to_revision == wanted
            and handoff.state in ("failed", "rolled_back")
            and handoff.finished_at is not None
            and handoff.finished_at > db.now - args.pause_s
            for handoff in db.handoffs.values()
        )
        if (
            run.revision != wanted
            and asked.status != "rejected"
            and node is not None
            and node.strategies.get(asked.strategy) == asked.strategy_version
            and run.phase == "running"
            and lease.expires_at > db.now
            and healthy
            and not busy
        ):
            found.append(view(run, wanted=wanted))
    return found


@answers(unheld_runs.ORPHANED)
def orphaned(db: Store, args: Any) -> list[Row]:
    return [
        view(run)
        for run in db.runs.values()
        if run.node_id is not None
        and (lease := db.leases.get(run.node_id)) is not None
        and lease.incarnation != run.incarnation
        and db.active(run.portfolio_id) is None
    ]


@answers(unheld_runs.UNACTIVATED)
def unactivated(db: Store, args: Any) -> list[Row]:
    found = []
    for run in db.runs.values():
        lease = db.leases.get(run.node_id) if run.node_id is not None else None
        if lease is None or lease.incarnation != run.incarnation or run.granted_at is None:
            continue
        node = db.nodes[lease.node_id]
        if (
            run.first_commit_at is None
            and run.phase == "starting"
            and run.granted_at < db.now - args.limit_s
            and lease.taken_at < db.now - args.limit_s
            and lease.expires_at > db.now + 2
            and node.status == "alive"
            and db.active(run.portfolio_id) is None
            and not delayed(db, args)
        ):
            found.append(view(run))
    return found


@answers(unheld_runs.UNSTOPPED)
def unstopped(db: Store, args: Any) -> list[Row]:
    return [
        view(run)
        for run in db.runs.values()
        if run.node_id is not None
        and db.portfolios[run.portfolio_id].desired_state == "stopped"
        and db.active(run.portfolio_id) is None
    ]
