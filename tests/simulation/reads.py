"""Answers to reads: a node's desired set, and the snapshot of the fleet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

from scheduling import scheduler
from scheduling.enact import pass_lock
from scheduling.observe import desired_set as desired
from scheduling.observe import snapshot
from scheduling.observe.snapshot import CLOCK, NODES, PORTFOLIOS, RECENT_FAILURES
from scheduling.passes import attempts, balance, roll_outs, sweep
from tests.simulation import rows
from tests.simulation.database import Row, Store, answers, view


@answers(desired.DESIRED)
def desired_set(db: Store, args: Any) -> list[Row]:
    lease = db.leases.get(args.node)
    if lease is None or db.nodes[args.node].desired_version <= args.known:
        return []
    me = (args.node, lease.incarnation)
    entries: list[tuple[int, int, int, str, int | None]] = []
    for run in db.runs.values():
        if (run.node_id, run.incarnation) != me:
            continue
        h = db.active(run.portfolio_id)
        drains = h is not None and h.state == "draining" and h.from_epoch == run.epoch
        activates = h is not None and h.state == "activating" and h.to_epoch == run.epoch
        handoff = h.id if h is not None and (drains or activates) else None
        role = "drain" if drains else "run"
        entries.append((run.portfolio_id, run.epoch, run.revision, role, handoff))
    for h in db.handoffs.values():
        target = (h.target_node_id, h.target_incarnation) == me
        source = (h.source_node_id, h.source_incarnation) == me
        if target and h.kind != "stop" and h.state in ("preparing", "draining"):
            entries.append((h.portfolio_id, h.from_epoch, h.to_revision, "prepare", h.id))
        if source and h.state == "activating" and h.release_answer == "handed_over":
            entries.append((h.portfolio_id, h.from_epoch, h.from_revision, "warm", h.id))
    head = Row(version=db.nodes[args.node].desired_version, frozen=db.frozen, feeds=[])
    if not entries:
        return [view(head, portfolio_id=None)]
    return [_entry(db, head, *entry) for entry in sorted(entries, key=lambda e: (e[0], e[3]))]


def _entry(
    db: Store, head: Row, portfolio: int, epoch: int, number: int, role: str, handoff: int | None
) -> Row:
    row, revision = db.portfolios[portfolio], db.revisions[portfolio, number]
    return view(
        head, portfolio_id=portfolio, role=role, epoch=epoch, revision=number, handoff=handoff,
        attempts=db.runs[portfolio].attempts, failed_seq=db.runs[portfolio].failed_seq or 0,
        resume_seq=db.runs[portfolio].resume_seq or 0,
        resumed_from=-1 if (at := db.runs[portfolio].resumed_from) is None else at,
        name=row.name, uid=row.uid, catch_up=row.catch_up,
        starting_cash=row.starting_cash, first_seq=row.first_seq, feed=db.feed.name,
        strategy=revision.strategy, strategy_version=revision.strategy_version,
        config=revision.config, symbols=revision.symbols, limits=revision.limits,
        artifact_sha256=None, env_sha256=None, class_path=None,
    )  # fmt: skip


@answers(CLOCK)
def clock(db: Store, args: Any) -> list[Row]:
    held = db.storm.get(1)
    db.looks += 1
    return [
        Row(
            now=db.now,
            # Each snapshot seems to come from another server, so that everything is read again.
            numbering=str(db.looks),
            first_unseen=0,
            newest=0,
            frozen=db.frozen,
            freeze_failover=db.freeze_failover,
            by_cpu=False,  # never set in the simulation
            storm_held=held is not None and held.held_at is not None,
            storm_by="" if held is None else held.held_by,
            storm_ended=None if held is None else held.ended_at,
        )
    ]


@answers(NODES)
def nodes(db: Store, args: Any) -> list[Row]:
    found = []
    for node in sorted(db.nodes.values(), key=lambda each: each.id):
        lease = db.leases.get(node.id)
        ends = None if lease is None else lease.expires_at
        if node.status != "new":
            found.append(view(node, expires_at=ends, handoffs=len(db.handoffs_at(node.id))))
    return found


@answers(PORTFOLIOS)
def portfolios(db: Store, args: Any) -> list[Row]:
    found = []
    for row in sorted(db.portfolios.values(), key=lambda each: each.id):
        run, h = db.runs[row.id], db.active(row.id)
        wanted = db.revisions[row.id, row.revision]
        ran = _other(db, row, run.revision)
        good = _other(db, row, run.good_revision)
        if row.archived_at is None:
            found.append(view(
                row, feed=db.feed.name, feed_sha=db.feed.sha256, node_id=run.node_id,
                phase=run.phase, epoch=run.epoch, pinned_node_id=run.pinned_node_id,
                failures_by_node=run.failures_by_node, running_revision=run.revision,
                good_revision=run.good_revision, python=run.python, accept_python=run.accept_python,
                reason=run.reason, attempts=run.attempts, phase_since=run.phase_since,
                wanted_revision=wanted.number, wanted_status=wanted.status,
                strategy=wanted.strategy, strategy_version=wanted.strategy_version,
                # No artifacts in the simulation.
                artifact=None, running_artifact=None, good_artifact=None, artifacts=None,
                running_strategy=ran and ran.strategy, running_version=ran and ran.strategy_version,
                good_strategy=good and good.strategy, good_version=good and good.strategy_version,
                handoff=None if h is None else h.id, kind=None if h is None else h.kind,
                source_node_id=None if h is None else h.source_node_id,
                target_node_id=None if h is None else h.target_node_id,
            ))  # fmt: skip
    return found


def _other(db: Store, row: rows.Portfolio, number: int | None) -> rows.Revision | None:
    """Return a revision other than the wanted one, as a left join finds it."""
    if number is None or number == row.revision:
        return None
    return db.revisions.get((row.id, number))


@answers(RECENT_FAILURES)
def recent_failures(db: Store, args: Any) -> list[Row]:
    groups: dict[tuple[int, int, bool], list[float]] = {}
    for h in db.handoffs.values():
        if h.state not in ("failed", "rolled_back") or h.kind == "reload":
            continue
        if h.target_node_id is None or h.finished_at is None:
            continue
        if h.finished_at > db.now - args.lately_s:
            key = (h.portfolio_id, h.target_node_id, h.kind == "migrate")
            groups.setdefault(key, []).append(h.finished_at)
    return [
        Row(portfolio_id=key[0], target=key[1], was_move=key[2], times=len(ends), last=max(ends))
        for key, ends in sorted(groups.items())
    ]


@contextmanager
def simulated_database(db: Store) -> Iterator[None]:
    """Run the passes of the product, from `Scheduler.tick` down, on the simulated database."""
    with (
        mock.patch.object(scheduler, "execute_autocommit", db.execute_autocommit),
        mock.patch.object(pass_lock, "execute_autocommit", db.execute_autocommit),
        mock.patch.object(attempts, "execute", db.execute),
        mock.patch.object(sweep, "execute", db.execute),
        mock.patch.object(sweep, "execute_autocommit", db.execute_autocommit),
        mock.patch.object(balance, "execute", db.execute),
        mock.patch.object(balance, "execute_autocommit", db.execute_autocommit),
        mock.patch.object(roll_outs, "execute_autocommit", db.execute_autocommit),
        mock.patch.object(snapshot, "repeatable_read", return_value=nullcontext(db)),
        mock.patch.object(snapshot, "fetch", Store.fetch),
    ):
        yield
