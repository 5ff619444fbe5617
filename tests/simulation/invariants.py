"""The invariants, checked on the simulated rows and on every accepted commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from scheduling.decide.roll_out import OPEN_ITEMS
from scheduling.wire.messages import Commit
from tests.simulation.database import Store
from tests.simulation.trading import State, decode, see


@dataclass(frozen=True)
class Accepted:
    """One commit that passed the fence."""

    portfolio: int
    epoch: int
    writer: tuple[int, UUID]
    from_seq: int
    to_seq: int
    at: float


class Ledger:
    """Every accepted commit, recorded at the fence."""

    def __init__(self) -> None:
        self.accepted: dict[int, list[Accepted]] = {}

    @contextmanager
    def watching(self, db: Store, node: int, incarnation: UUID, words: Commit) -> Iterator[None]:
        """Record a commit if it passes the fence, and check I1, I2, I4 and I5."""
        before, epoch = _written(db, words.portfolio), db.runs[words.portfolio].epoch
        yield
        if _written(db, words.portfolio) == before:
            return
        done = self.accepted.setdefault(words.portfolio, [])
        new = Accepted(
            words.portfolio, words.epoch, (node, incarnation), words.from_seq, words.to_seq, db.now
        )
        last = done[-1] if done else None
        assert new.epoch == epoch, f"I5: {new} was accepted while epoch {epoch} existed"
        if last is None:
            first = db.portfolios[words.portfolio].first_seq - 1
            assert new.from_seq == first, f"I2: {new} is not the first event"
        else:
            assert new.epoch >= last.epoch, f"I1: {new} after {last}"
            assert new.from_seq == last.to_seq, f"I2: {new} after {last}"
            same = new.epoch != last.epoch or new.writer == last.writer
            assert same, f"I1: two writers of one epoch, {last} and {new}"
        done.append(new)


def _written(db: Store, portfolio: int) -> object:
    """Return the columns that only a commit changes."""
    run = db.runs[portfolio]
    orders = sum(key[0] == portfolio for key in db.orders)
    fills = sum(key[0] == portfolio for key in db.fills)
    return run.last_seq, run.state_seq, run.last_commit_at, orders, fills


def check_rows(db: Store) -> None:
    """Check the invariants that hold at every moment."""
    for run in db.runs.values():
        portfolio = db.portfolios[run.portfolio_id]
        active = db.active(run.portfolio_id)  # asserts that there is at most one
        whole = (run.node_id is None) == (run.incarnation is None)
        assert whole, f"a node without an incarnation, or the reverse: {run}"
        tenure = db.tenures.get((run.portfolio_id, run.epoch))
        assert (run.node_id is None) == (tenure is None), f"I10: an owner without a tenure: {run}"
        if run.node_id is None and portfolio.desired_state == "running":
            assert run.reason, f"I8: a portfolio has neither owner nor reason: {run}"
        if active is not None and active.state == "preparing" and run.first_commit_at is not None:
            said = f"I11: the source does not run while {active} prepares: {run}"
            assert run.phase in ("running", "draining"), said
    check_roll_outs(db)
    check_history(db)
    check_told_once(db)


def check_roll_outs(db: Store) -> None:
    """Check that open roll-outs share no portfolio, obey their limits and begin with the canary."""
    held = [i.portfolio_id for i in db.roll_out_items.values() if i.state in OPEN_ITEMS]
    assert len(held) == len(set(held)), "two roll-outs of one portfolio"
    for roll_out in db.roll_outs.values():
        items = [i for i in db.roll_out_items.values() if i.roll_out_id == roll_out.id]
        changing = [i for i in items if i.state == "changing"]
        assert len(changing) <= roll_out.at_a_time, f"too many at once: {changing}"
        canary = next(i for i in items if i.position == 0)
        if canary.state in ("waiting", "changing") and roll_out.state != "going_back":
            others = [i for i in items if i is not canary and i.to_revision is not None]
            assert others == [], f"started before the canary ran: {others}"


def check_history(db: Store) -> None:
    """I10: check that the tenures follow from the audit log alone."""
    told: dict[int, list[tuple[int, int, str, int, int, int | None]]] = {}
    for event in db.events.values():
        if event.kind not in ("granted", "ended") or event.portfolio_id is None:
            continue
        lines, data = told.setdefault(event.portfolio_id, []), event.data
        if lines and lines[-1][5] is None:
            lines[-1] = (*lines[-1][:5], data["from_seq"])
        if event.kind == "granted" and event.node_id is not None:
            lines.append(
                (data["epoch"], event.node_id, data["incarnation"], data["revision"],
                 data["from_seq"], None)
            )  # fmt: skip
    kept: dict[int, list[tuple[int, int, str, int, int, int | None]]] = {}
    for t in sorted(db.tenures.values(), key=lambda each: each.epoch):
        line = (t.epoch, t.node_id, str(t.incarnation), t.revision, t.from_seq, t.to_seq)
        kept.setdefault(t.portfolio_id, []).append(line)
    assert {k: v for k, v in told.items() if v} == kept, (
        "I10: the audit log tells another history than the tenures"
    )


def check_told_once(db: Store) -> None:
    """I12: check that each loss of a node is reported once, and that each handoff ends once."""
    lost: set[int] = set()
    ended: set[int] = set()
    for event in db.events.values():
        if event.kind == "node_lost" and event.node_id is not None:
            assert event.node_id not in lost, f"I12: node {event.node_id} was reported lost twice"
            lost.add(event.node_id)
        elif event.kind in ("node_alive", "node_registered", "node_left") and event.node_id:
            lost.discard(event.node_id)
        elif event.kind in ("handoff_failed", "handoff_rolled_back", "handoff_done",
                            "handoff_superseded"):  # fmt: skip
            handoff = event.data.get("handoff")
            if handoff is not None:
                assert handoff not in ended, f"I12: handoff {handoff} ended twice"
                ended.add(handoff)


def check_equals_uninterrupted(db: Store) -> None:
    """I3: check that state, orders and fills equal those of an uninterrupted process."""
    for run in db.runs.values():
        mine, state = run.portfolio_id, State()
        orders, fills = set(), set()
        tenures = sorted(
            (t for t in db.tenures.values() if t.portfolio_id == mine), key=lambda t: t.epoch
        )
        muted = [s for s in db.suppressions.values() if s.portfolio_id == mine]
        for tenure in tenures:
            to_seq = run.last_seq if tenure.to_seq is None else tenure.to_seq
            for seq in range(tenure.from_seq + 1, to_seq + 1):
                suppress = any(s.from_seq <= seq <= s.to_seq for s in muted)
                step = see(state, tenure.revision, seq, suppress)
                state = step.state
                if step.order is not None:
                    orders.add(step.order)
                if step.fill is not None:
                    fills.add(step.fill)
        kept = db.checkpoints.get(mine)
        found = decode(None if kept is None else kept.state)
        assert found == state, f"I3: {db.portfolios[mine].name} has {found}, not {state}"
        assert {seq for p, seq, _ in db.orders if p == mine} == orders, "I3, I4: other orders"
        assert {seq for p, seq, _ in db.fills if p == mine} == fills, "I3, I4: other fills"
