"""The fence in Python: what a commit changes, and the answer to a commit that it refuses."""

from __future__ import annotations

from typing import Any

from scheduling.enact.commit import COMMIT, COMMIT_PLAIN
from scheduling.enact.commit_refusals import FENCED_EVENT, REFUSED
from scheduling.observe.checkpoint import CHECKPOINT
from tests.simulation import rows
from tests.simulation.database import ACTIVE, Row, Store, answers, view


@answers(COMMIT, COMMIT_PLAIN)
def commit(db: Store, args: Any) -> list[Row]:
    # Before the commits change it: PostgreSQL reads the snapshot of the statement.
    version = db.nodes[args.node].desired_version
    passed, touched = [], set()
    asked = zip(
        args.portfolios, args.epochs, args.from_seqs, args.to_seqs, args.batches, args.states,
        args.suppressed, args.feed_us, args.refused, args.held_back, args.unplaced, args.placed,
        strict=True,
    )  # fmt: skip
    for portfolio, epoch, from_seq, to_seq, batch, state, suppress, feed_us, *outcomes in sorted(
        asked, key=lambda line: line[0]
    ):
        run = db.runs.get(portfolio)
        if run is None or (run.epoch, run.node_id, run.incarnation, run.last_seq) != (
            epoch, args.node, args.incarnation, from_seq,
        ) or _is_unreleased(db, from_seq, to_seq, feed_us):  # fmt: skip
            continue
        touched |= _accept(db, run, from_seq, to_seq, batch, state, suppress)
        _count_orders(db, run, *outcomes)
        _store_lines(db, run, args)
        passed.append(Row(portfolio_id=portfolio, version=version))
    if touched:
        db.touch(touched)
    return passed


def _is_unreleased(db: Store, from_seq: int, to_seq: int, feed_us: int) -> bool:
    """Return whether a commit has events that the feed, after a change of rate, did not release."""
    feed = db.feed
    if feed.from_time > db.now or not to_seq > max(from_seq, feed.from_seq):
        return False
    return feed.rate == 0 or 1 <= feed_us < int(feed.from_time * 1e6)


def _count_orders(
    db: Store, run: rows.Run, refused: int, held_back: int, unplaced: int, placed: bool
) -> None:
    """Count orders by outcome; `unplaced` counts those since the last one that was placed."""
    since = run.unplaced_since
    if unplaced > 0 and (placed or run.unplaced_orders == 0):
        since = db.now
    elif placed:
        since = None
    db.set(
        run,
        orders_refused=run.orders_refused + refused,
        orders_suppressed=run.orders_suppressed + held_back,
        unplaced_orders=unplaced if placed else run.unplaced_orders + unplaced,
        unplaced_since=since,
    )


def _accept(
    db: Store, run: rows.Run, from_seq: int, to_seq: int, batch: Any, state: bytes | None,
    suppress: bool,
) -> set[int | None]:  # fmt: skip
    """Write a commit that passed the fence. Return the nodes whose desired sets change."""
    before, first, moved = run.last_commit_at, run.first_commit_at is None, to_seq > from_seq
    pause_ms = None if before is None else (db.now - before) * 1000
    change: dict[str, Any] = {"last_seq": to_seq, "batch": batch, "last_commit_at": db.now}
    if state is not None:
        change["state_seq"] = to_seq
    if first:
        change["first_commit_at"] = db.now
        if run.phase == "starting":
            change |= {"phase": "running", "phase_since": db.now}
    past = moved and to_seq >= (run.failed_seq or 0)
    if first or (past and run.attempts > 0):
        change["reason"] = ""
    if past:
        change["attempts"] = 0
    if run.failed_seq is not None and to_seq >= run.failed_seq:
        change["failed_seq"] = None
    if moved:
        change["failures_by_node"] = {}
    db.set(run, **change)
    if state is not None:
        kept = rows.Checkpoint(run.portfolio_id, run.epoch, run.revision, to_seq, state)
        if run.portfolio_id in db.checkpoints:
            db.set(db.checkpoints[run.portfolio_id], **vars(kept))
        else:
            db.add(db.checkpoints, run.portfolio_id, kept)
    if suppress and moved:
        line = rows.Suppression(run.portfolio_id, from_seq + 1, to_seq, run.epoch)
        db.add(db.suppressions, (run.portfolio_id, from_seq + 1), line)
    if not first:
        return set()
    db.set(db.tenures[run.portfolio_id, run.epoch], first_commit_at=db.now, pause_ms=pause_ms)
    touched: set[int | None] = set()
    for handoff in db.handoffs.values():
        if handoff.portfolio_id != run.portfolio_id or handoff.to_epoch is None:
            continue
        if handoff.state == "activating" and handoff.to_epoch == run.epoch:
            db.set(
                handoff, state="done", activated_at=db.now, finished_at=db.now, pause_ms=pause_ms
            )
            data = {"handoff": handoff.id, "kind": handoff.kind, "pause_ms": pause_ms}
            db.write_event("handoff_done", handoff.portfolio_id, handoff.target_node_id, data=data)
            touched |= {handoff.source_node_id, handoff.target_node_id}
        elif (
            handoff.state == "rolled_back"
            and handoff.to_epoch + 1 == run.epoch
            and handoff.pause_ms is None
        ):
            db.set(handoff, pause_ms=pause_ms)
    return touched


def _store_lines(db: Store, run: rows.Run, args: Any) -> None:
    mine = run.portfolio_id
    fills = [
        (seq, index, fill_seq)
        for portfolio, seq, index, fill_seq in zip(
            args.f_portfolios, args.f_order_seqs, args.f_order_indexes, args.f_seqs, strict=True
        )
        if portfolio == mine
    ]
    filled = {(seq, index) for seq, index, _ in fills}
    for order in [db.orders[mine, *key] for key in filled if (mine, *key) in db.orders]:
        db.set(order, status="filled")
    ended = {
        (seq, index): status
        for portfolio, seq, index, status in zip(
            args.x_portfolios, args.x_order_seqs, args.x_order_indexes, args.x_statuses, strict=True
        )
        if portfolio == mine
    }
    for key, status in ended.items():
        if (mine, *key) in db.orders and db.orders[mine, *key].status == "open":
            db.set(db.orders[mine, *key], status=status)
    for portfolio, seq, index, status in zip(
        args.o_portfolios, args.o_seqs, args.o_indexes, args.o_statuses, strict=True
    ):
        if portfolio == mine:
            now = "filled" if status == "open" and (seq, index) in filled else status
            now = ended.get((seq, index), now)
            order = rows.Order(mine, seq, index, now, run.epoch, args.node_name, run.revision)
            db.add(db.orders, (mine, seq, index), order)
    for seq, index, _ in fills:
        db.add(db.fills, (mine, seq, index), run.epoch)


@answers(REFUSED)
def refused(db: Store, args: Any) -> list[Row]:
    found = []
    asked = zip(
        args.portfolios, args.batches, args.from_seqs, args.to_seqs, args.feed_us, strict=True
    )
    for portfolio, batch, from_seq, to_seq, feed_us in asked:
        run = db.runs.get(portfolio)
        said = [
            handoff
            for handoff in db.handoffs.values()
            if handoff.release_batch == batch and handoff.portfolio_id == portfolio
        ]
        columns = ("epoch", "node_id", "incarnation", "last_seq", "batch")
        found.append(
            Row(
                portfolio=portfolio,
                unreleased=_is_unreleased(db, from_seq, to_seq, feed_us),
                version=db.nodes[args.node].desired_version if args.node in db.nodes else None,
                release_answer=said[0].release_answer if said else None,
                release_error=said[0].error if said else None,
                **{name: None if run is None else getattr(run, name) for name in columns},
            )
        )
    return found


@answers(FENCED_EVENT)
def fenced_event(db: Store, args: Any) -> None:
    # A simulated fleet is too small for portfolios without a tenure to share an audit line.
    lines = {
        (event.portfolio_id, event.data["epoch"] if event.data["granted"] else None): event
        for event in db.lines("commit_refused", args.within_s, node_id=args.node).values()
    }
    for number, portfolio in enumerate(args.portfolios):
        if portfolio not in db.portfolios:
            continue
        epoch = args.epochs[number]
        tenure = db.tenures.get((portfolio, epoch))
        granted = tenure is not None and tenure.node_id == args.node
        line = lines.get((portfolio, epoch if granted else None))
        if line is not None:
            db.set(line, data={**line.data, "times": line.data["times"] + 1})
            continue
        data = {
            "epoch": epoch, "from_seq": args.from_seqs[number], "to_seq": args.to_seqs[number],
            "orders": args.orders[number], "granted": granted, "times": 1,
        }  # fmt: skip
        db.write_event(
            "commit_refused", portfolio, args.node, actor="fence", reason=args.reasons[number],
            data=data,
        )  # fmt: skip


@answers(CHECKPOINT)
def checkpoint(db: Store, args: Any) -> list[Row]:
    run = db.runs.get(args.portfolio)
    handoff = db.handoffs.get(args.handoff)
    if run is None:
        return []
    owner = (run.node_id, run.incarnation) == (args.node, args.incarnation)
    target = (
        handoff is not None
        and handoff.portfolio_id == args.portfolio
        and (handoff.target_node_id, handoff.target_incarnation) == (args.node, args.incarnation)
        and handoff.state in ACTIVE
    )
    if not owner and not target:
        return []
    kept = db.checkpoints.get(args.portfolio)
    return [
        view(
            run,
            state=None if kept is None else kept.state,
            state_revision=run.revision if kept is None else kept.revision,
        )
    ]
