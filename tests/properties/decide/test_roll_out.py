"""Roll-outs over portfolios in any condition end, and start nothing that they must not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.decide import roll_out as decide
from tests.support.drawn_examples import examples

LIMITS = decide.Limits(change_s=300, build_s=330, good_s=60, prove_s=600, ready_s=120)
LAST = ("finished", "stopped", "back")

#: What happens to one portfolio, by the fields that it sets; beside these: time passes, `stop`,
#: `back`, and what `World.happen` does by name.
OPERATOR: dict[str, dict[str, Any]] = {
    "stopped": {"is_wanted": False, "has_owner": False, "running": None, "phase": "stopped"},
    "deleted": {"is_deleted": True, "is_wanted": False, "has_owner": False, "running": None},
    "quarantined": {"phase": "quarantined", "has_owner": False, "running": None},
    "loses its owner": {"has_owner": False, "running": None, "phase": "pending"},
    "in handoff": {"in_handoff": True}, "out of handoff": {"in_handoff": False},
    "first proven": {"has_good": True},
}  # fmt: skip
HAPPENINGS = [*OPERATOR, "patched", "started", "runs", "progresses", "proven", "rejected"]


@dataclass
class World:
    """A roll-out, enacted as the pass does it, and which revision of each portfolio is whose."""

    roll_out: decide.RollOut
    by_operator: set[int] = field(default_factory=set)  #: changed since the roll-out did
    touched: set[int] = field(default_factory=set)  #: given the new revision by the roll-out
    proven: set[int] = field(default_factory=set)
    ran_since: dict[int, float] = field(default_factory=dict)

    def update(self, id: int, **changes: Any) -> None:
        items = tuple(replace(i, **changes) if i.id == id else i for i in self.roll_out.items)
        self.roll_out = replace(self.roll_out, items=items)

    def item(self, id: int) -> decide.Item:
        return next(i for i in self.roll_out.items if i.id == id)

    def happen(self, what: str, id: int) -> None:
        item = self.item(id)
        if item.is_deleted:
            return
        if what in OPERATOR:
            self.update(id, **OPERATOR[what])
        elif what == "patched":
            self.update(id, wanted=100 + item.wanted)
            self.by_operator.add(id)
        elif what == "started":
            back = {"is_wanted": True, "has_owner": True, "phase": "running"}
            self.update(id, **back, running=item.wanted)
        elif item.is_stopped:
            return
        elif what == "runs":
            self.update(id, has_owner=True, phase="running", running=item.wanted)
            if item.wanted == item.to_revision:
                self.ran_since.setdefault(id, self.roll_out.now)
        elif what == "progresses" and item.running is not None:
            self.update(id, has_progress=True)
        elif item.to_revision is None or item.running != item.to_revision:
            return
        elif what == "proven" and item.status == "unproven":
            self.update(id, status="good")
            self.proven.add(id)
        elif what == "rejected" and item.status == "unproven":
            self.update(id, status="rejected", status_reason="it broke", running=item.from_revision)

    def step(self) -> None:
        """Enact the next steps, and check what must hold whenever they are decided."""
        before = self.roll_out
        steps = decide.next_steps(before, LIMITS)
        if before.state in LAST:
            assert not steps
            return
        changed = {c.item.id: c.state for c in steps.changes}
        assert len(changed) == len(steps.changes)
        assert not changed.keys() & {i.id for i in (*steps.start, *steps.give_back)}
        for change in steps.changes:
            state, since = change.state, before.now
            self.update(change.item.id, state=state, since=since)
        self._check_starts(steps.start, before)
        for item in steps.start:
            new = item.wanted + 1
            self.touched.add(item.id)
            self.update(item.id, state="changing", since=before.now, wanted=new,
                        from_revision=item.wanted, to_revision=new, status="unproven",
                        has_progress=False)  # fmt: skip
        if steps.give_back:
            assert before.state == "going_back"
        for item in steps.give_back:
            assert item.id in self.touched
            assert item.id not in self.by_operator, "an operator has changed it since"
            self.update(item.id, since=before.now, wanted=item.from_revision)
        self.roll_out = replace(self.roll_out, state=steps.state or before.state)
        self._check_state()

    def go_back(self) -> None:
        for item in self.roll_out.items:
            if item.state not in decide.NOT_RETURNABLE:
                self.update(item.id, state="returning", since=self.roll_out.now)
        self.roll_out = replace(self.roll_out, state="going_back")

    def _check_starts(self, start: tuple[decide.Item, ...], before: decide.RollOut) -> None:
        if not start:
            return
        assert before.state == "running"
        assert not any(i.state in decide.FAILED_ITEMS for i in self.roll_out.items)
        assert not any(
            i.status == "rejected" and i.state in ("changing", "proving") for i in before.items
        ), "started after a rejection"
        for item in start:
            assert item.state == "waiting"
            assert not item.is_deleted
            assert not item.is_stopped
            assert item.has_owner and not item.in_handoff and item.has_good
            assert item.wanted == item.seen_revision
            assert item.id not in self.by_operator
        if any(not item.is_canary for item in start):
            first = self.item(0)
            others = {i.id for i in before.items if i.to_revision is not None and i.id != 0}
            assert others or 0 in self.proven or self._is_canary_due(first), "before the canary"

    def _is_canary_due(self, canary: decide.Item) -> bool:
        canary_s = self.roll_out.canary_s
        return (
            canary_s is not None
            and self.roll_out.now - self.ran_since[0] >= canary_s
            and (canary.has_progress or canary_s == 0)
        )

    def _check_state(self) -> None:
        items = self.roll_out.items
        at_work = [i for i in items if i.state == "changing" and not i.is_canary]
        assert len(at_work) <= self.roll_out.at_a_time
        limit = max(self.roll_out.at_a_time, decide.RETURN_AT_A_TIME)
        assert sum(i.state == "returning" and i.wanted == i.from_revision for i in items) <= limit
        assert all(i.id not in self.touched for i in items if i.state in ("waiting", "skipped"))
        if self.roll_out.state in LAST:
            assert not any(i.state in decide.OPEN_ITEMS for i in items)

    def run_to_the_end(self) -> int:
        """Let only time pass. Return how many passes the roll-out needs."""
        for passes in range(60 * (len(self.roll_out.items) + 2)):
            if self.roll_out.state in LAST:
                return passes
            self.step()
            self.roll_out = replace(self.roll_out, now=self.roll_out.now + 30)
        raise AssertionError(f"it does not end: {self.roll_out}")


@st.composite
def worlds(draw: st.DrawFn) -> World:
    count = draw(st.integers(1, 14))
    items = tuple(
        decide.Item(id, f"p{id}", is_canary=id == 0, seen_revision=2, wanted=2, running=2,
             has_good=draw(st.sampled_from([True, True, True, False])))
        for id in range(count)
    )  # fmt: skip
    at_a_time = draw(st.integers(1, 4))
    canary_s = draw(st.sampled_from([None, 0.0, 20.0, 2000.0]))
    return World(decide.RollOut(1, "running", 0.0, items, at_a_time, canary_s))


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["pass", "pass", "time", "stop", "back", "all run", *HAPPENINGS]),
        st.integers(0, 13),
        st.sampled_from([0.5, 30.0, 400.0]),
    ),
    max_size=60,
)


def play(world: World, events: list[tuple[str, int, float]], *, back: bool = True) -> None:
    for what, which, seconds in events:
        id = which % len(world.roll_out.items)
        if what == "time":
            world.roll_out = replace(world.roll_out, now=world.roll_out.now + seconds)
        elif what == "stop" and world.roll_out.state == "running":
            world.roll_out = replace(world.roll_out, state="stopping")
        elif what == "back" and back and world.roll_out.state in decide.RETURNABLE:
            world.go_back()
        elif what == "all run":
            for item in world.roll_out.items:
                world.happen("runs", item.id)
                world.happen("progresses", item.id)
        elif what in HAPPENINGS:
            world.happen(what, id)
        world.step()


@given(worlds(), EVENTS)
@settings(max_examples=examples(200), deadline=None)
def test_every_roll_out_ends_and_starts_nothing_that_it_must_not(
    world: World, events: list[tuple[str, int, float]]
) -> None:
    play(world, events)
    world.run_to_the_end()


@given(worlds(), EVENTS)
@settings(max_examples=examples(150), deadline=None)
def test_the_way_back_returns_what_was_changed_and_nothing_that_an_operator_changed_since(
    world: World, events: list[tuple[str, int, float]]
) -> None:
    play(world, events, back=False)
    world.run_to_the_end()
    wanted = {item.id: item.wanted for item in world.roll_out.items}
    world.go_back()
    world.run_to_the_end()
    for item in world.roll_out.items:
        is_ours = item.id in world.touched and item.id not in world.by_operator
        if is_ours and not item.is_deleted:
            assert item.wanted == 2
        else:
            assert item.wanted == wanted[item.id]
