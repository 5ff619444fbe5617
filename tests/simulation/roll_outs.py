"""Answers to statements about roll-outs. The artifact is of the strategy that everybody runs."""

from __future__ import annotations

from typing import Any

from scheduling.decide.roll_out import OPEN_ITEMS, OPEN_ROLL_OUTS
from scheduling.enact.artifacts import HOLD_ARTIFACT
from scheduling.enact.roll_out import statements
from scheduling.observe import roll_outs as observed
from tests.simulation import rows
from tests.simulation.database import Row, Store, answers, stored, view

ARTIFACT = "a" * 64


@answers(HOLD_ARTIFACT)
def hold_artifact(db: Store, args: Any) -> list[Row]:
    return [Row(sha256=args.artifact)]


@answers(statements.NEW_ROLL_OUT)
def new_roll_out(db: Store, args: Any) -> list[Row]:
    row = rows.RollOut(
        db.next_roll_out,
        args.artifact,
        "running",
        args.at_a_time,
        args.canary_s,
        args.note,
        args.actor,
        db.now,
    )
    db.next_roll_out += 1  # like a sequence: a rollback does not return the number
    db.add(db.roll_outs, row.id, row)
    return [view(row)]


@answers(statements.NEW_ITEMS)
def new_items(db: Store, args: Any) -> list[Row]:
    made = []
    held = {i.portfolio_id for i in db.roll_out_items.values() if i.state in OPEN_ITEMS}
    asked = enumerate(zip(args.portfolios, args.revisions, strict=True))
    for position, (portfolio, revision) in sorted(asked, key=lambda each: each[1]):
        number, db.next_item = db.next_item, db.next_item + 1
        if portfolio not in held:
            item = rows.RollOutItem(
                number, args.roll_out, portfolio, position, "waiting", db.now, revision
            )
            db.add(db.roll_out_items, number, item)
            made.append(Row(portfolio_id=portfolio))
    return made


@answers(statements.HELD_BY_OTHERS)
def held_by_others(db: Store, args: Any) -> list[Row]:
    found = [
        Row(name=db.portfolios[i.portfolio_id].name, roll_out_id=i.roll_out_id)
        for i in db.roll_out_items.values()
        if i.portfolio_id in args.portfolios
        and i.roll_out_id != args.roll_out
        and i.state in OPEN_ITEMS
    ]
    return sorted(found, key=lambda row: row.name)[:3]


@answers(statements.LOCK_ROLL_OUT)
def lock_roll_out(db: Store, args: Any) -> list[Row]:
    return [view(db.roll_outs[args.roll_out])] if args.roll_out in db.roll_outs else []


@answers(statements.ITEM)
def item_of(db: Store, args: Any) -> list[Row]:
    return [view(db.roll_out_items[args.item])]


@answers(statements.LOCK_PORTFOLIO)
def lock_portfolio(db: Store, args: Any) -> list[Row]:
    return [Row(id=args.portfolio)]


@answers(statements.WANTED)
def wanted(db: Store, args: Any) -> list[Row]:
    row = db.portfolios[args.portfolio]
    return [view(row, status=db.revisions[row.id, row.revision].status)]


@answers(statements.NEW_REVISION)
def new_revision(db: Store, args: Any) -> list[Row]:
    newest = max(number for portfolio, number in db.revisions if portfolio == args.portfolio)
    same = vars(db.revisions[args.portfolio, args.number])
    changed = {"number": newest + 1, "status": "unproven", "status_reason": ""}
    added = rows.Revision(**{**same, **changed})
    db.add(db.revisions, (args.portfolio, added.number), added)
    return [Row(number=added.number)]


@answers(statements.WANT)
def want(db: Store, args: Any) -> list[Row]:
    row = db.portfolios[args.portfolio]
    if row.revision != args.from_ or row.archived_at is not None:
        return []
    db.set(row, revision=args.to)
    return [Row(id=row.id)]


@answers(statements.START_ITEM)
def start_item(db: Store, args: Any) -> None:
    item = db.roll_out_items[args.item]
    if item.state == "waiting":
        db.set(item, state="changing", since=db.now, from_revision=args.from_, to_revision=args.to)


@answers(statements.CHANGE_ITEMS)
def change_items(db: Store, args: Any) -> list[Row]:
    changed = []
    columns = (args.items, args.before, args.states, args.reasons, args.whys)
    for number, before, state, reason, why in zip(*columns, strict=True):
        item = db.roll_out_items[number]
        if item.state == before and item.roll_out_id == args.roll_out:
            pause_ms = _pause_ms(db, item) if item.pause_ms is None else item.pause_ms
            db.set(
                item, state=state, since=db.now, reason=reason, why=stored(why), pause_ms=pause_ms
            )
            changed.append(Row(id=item.id, portfolio_id=item.portfolio_id))
    return changed


def _pause_ms(db: Store, item: rows.RollOutItem) -> float | None:
    pauses = [
        h.pause_ms
        for h in sorted(db.handoffs.values(), key=lambda each: each.id)
        if h.portfolio_id == item.portfolio_id
        and h.to_revision == item.to_revision != h.from_revision
        and h.state == "done"
    ]
    return pauses[0] if pauses else None


@answers(statements.SET_STATE)
def set_state(db: Store, args: Any) -> list[Row]:
    row = db.roll_outs[args.roll_out]
    if row.state not in args.from_:
        return []
    db.set(
        row,
        state=args.to,
        reason=row.reason if args.reason is None else args.reason,
        why=row.why if args.why is None else stored(args.why),
        ended_at=None if args.to in args.open else db.now,
    )
    return [Row(id=row.id)]


def _returnable(db: Store, args: Any) -> list[rows.RollOutItem]:
    """Return the items of a roll-out that its way back looks at."""
    return [
        item
        for item in db.roll_out_items.values()
        if item.roll_out_id == args.roll_out and item.state not in args.not_returnable
    ]


@answers(statements.PORTFOLIOS_CHANGED)
def portfolios_changed(db: Store, args: Any) -> list[Row]:
    return [view(item) for item in _returnable(db, args)]


@answers(statements.RETURN_ITEMS)
def return_items(db: Store, args: Any) -> list[Row]:
    items = _returnable(db, args)
    for item in items:
        db.set(item, state="returning", since=db.now, reason="", why=None)
    return [view(item) for item in items]


@answers(statements.TOUCH_ITEM)
def touch_item(db: Store, args: Any) -> None:
    item = db.roll_out_items[args.item]
    if item.state == "returning":
        db.set(item, since=db.now)


# --- reads of the pass ----------------------------------------------------------------------------


@answers(observed.OPEN)
def open_roll_outs(db: Store, args: Any) -> list[Row]:
    return [
        view(row, now=db.now, artifact="canary 2.0", python_requirement="", pythons=[],
             has_environment=False)
        for row in db.roll_outs.values()
        if row.state in OPEN_ROLL_OUTS
    ]  # fmt: skip


@answers(observed.ITEMS)
def items_of(db: Store, args: Any) -> list[Row]:
    found = [item for item in db.roll_out_items.values() if item.roll_out_id in args.roll_outs]
    found.sort(key=lambda item: (item.roll_out_id, item.position))
    return [_seen_item(db, item) for item in found]


def _seen_item(db: Store, item: rows.RollOutItem) -> Row:
    row, run = db.portfolios[item.portfolio_id], db.runs[item.portfolio_id]
    tenure = db.tenures.get((run.portfolio_id, run.epoch))
    revision = db.revisions.get((row.id, item.to_revision or 0))
    commits = run.node_id is not None and run.first_commit_at is not None
    has_progress = (
        run.first_commit_at is not None and tenure is not None and run.last_seq > tenure.from_seq
    )
    node = None if run.node_id is None else db.nodes[run.node_id]
    return view(
        item, name=row.name, wanted=row.revision, running=run.revision if commits else None,
        has_owner=run.node_id is not None, has_good=run.good_revision is not None,
        has_progress=has_progress, status=None if revision is None else revision.status,
        status_reason=None if revision is None else revision.status_reason,
        is_deleted=row.archived_at is not None, is_wanted=row.desired_state == "running",
        phase=run.phase, in_handoff=db.active(row.id) is not None,
        node=None if node is None else node.name, python=None if node is None else node.python,
    )  # fmt: skip
