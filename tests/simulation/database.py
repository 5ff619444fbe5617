"""The simulated tables, one transaction at a time, and the answers to statements."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, TypeVar
from uuid import UUID

from psycopg.types.json import Jsonb

from scheduling.db.statements import Statement
from scheduling.db.transaction import Query, Transaction
from tests.simulation import rows

T = TypeVar("T")
Row = SimpleNamespace  #: what a statement returns
ACTIVE = ("requested", "preparing", "draining", "activating")
Answer = Callable[["Store", Any], "Iterable[Any] | None"]

ANSWERS: dict[Statement, Answer] = {}


def answers(*statements: Statement) -> Callable[[Answer], Answer]:
    """Register a function that does to the tables what these statements do.

    Its arguments are the store, and `args` with the statement's parameters as attributes; it
    returns the rows that the statement returns.
    """

    def register(answer: Answer) -> Answer:
        ANSWERS.update(dict.fromkeys(statements, answer))
        return answer

    return register


class Killed(BaseException):
    """The process was killed. Not an Exception: no handler may catch it."""


class Duplicate(Exception):
    """A unique key exists already."""


class Store:
    """The contents of the simulated database. `now` is its clock."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.nodes: dict[int, rows.Node] = {}
        self.leases: dict[int, rows.Lease] = {}
        self.portfolios: dict[int, rows.Portfolio] = {}
        self.revisions: dict[tuple[int, int], rows.Revision] = {}
        self.runs: dict[int, rows.Run] = {}
        self.tenures: dict[tuple[int, int], rows.Tenure] = {}
        self.handoffs: dict[int, rows.Handoff] = {}
        self.checkpoints: dict[int, rows.Checkpoint] = {}
        self.orders: dict[tuple[int, int, int], rows.Order] = {}
        self.fills: dict[tuple[int, int, int], int] = {}  #: (portfolio, seq, index) → epoch
        self.suppressions: dict[tuple[int, int], rows.Suppression] = {}
        self.events: dict[int, rows.Event] = {}
        self.gateways: dict[UUID, rows.Gateway] = {}
        self.locks: dict[str, rows.PassLock] = {}
        self.storm: dict[int, rows.Storm] = {}
        self.roll_outs: dict[int, rows.RollOut] = {}
        self.roll_out_items: dict[int, rows.RollOutItem] = {}
        self.looks = 0  #: number of fleet reads
        self.frozen = self.freeze_failover = False
        self.feed = SimpleNamespace(name="demo", sha256="0" * 64, from_seq=1, from_time=now, rate=0)
        self.next_handoff = self.next_roll_out = self.next_item = 1
        self.hints: list[tuple[int | None, int]] = []  #: (node, version); node None: the watcher
        self.fuse: int | None = None  #: statements until the calling process is killed
        self._undo: list[Callable[[], None]] = []

    # --- writing -----------------------------------------------------------------------------

    def set(self, row: Any, **values: Any) -> None:
        """Change columns of a row, until a rollback."""
        before = {name: getattr(row, name) for name in values}
        self._undo.append(lambda: vars(row).update(before))
        vars(row).update(values)

    def add(self, table: dict[Any, Any], key: Any, row: Any) -> None:
        if key in table:
            raise Duplicate(f"{type(row).__name__} {key}")
        table[key] = row
        self._undo.append(lambda: table.pop(key))

    def write_event(
        self, kind: str, portfolio: int | None, node: int | None, **columns: Any
    ) -> None:
        values = {"actor": "", "reason": "", "data": {}, **columns}
        event = rows.Event(self.now, kind, portfolio, node, **values)
        self.add(self.events, len(self.events) + 1, event)

    def touch(self, nodes: Iterable[int | None]) -> None:
        """Raise the versions of these nodes and hint them."""
        for node in sorted({n for n in nodes if n is not None and n in self.nodes}):
            row = self.nodes[node]
            self.set(row, desired_version=row.desired_version + 1)
            self.hints.append((node, row.desired_version))
        self.hints.append((None, 0))

    # --- reading -----------------------------------------------------------------------------

    def active(self, portfolio: int) -> rows.Handoff | None:
        """Return the active handoff of `portfolio`, if there is one."""
        found = [
            h for h in self.handoffs.values() if h.portfolio_id == portfolio and h.state in ACTIVE
        ]
        assert len(found) <= 1, found
        return found[0] if found else None

    def handoffs_at(self, node: int) -> list[rows.Handoff]:
        """Return the active handoffs from or to `node`."""
        active = (h for h in self.handoffs.values() if h.state in ACTIVE)
        return [h for h in active if node in (h.source_node_id, h.target_node_id)]

    def lines(self, kind: str, within_s: float, **of: int) -> dict[int, rows.Event]:
        """Return the events of one kind within these seconds, `of` a portfolio_id or a node_id."""
        return {
            number: event
            for number, event in self.events.items()
            if event.kind == kind
            and event.at > self.now - within_s
            and all(getattr(event, column) == value for column, value in of.items())
        }

    def head(self) -> int:
        """Return the head of the feed, as statements compute it."""
        return int(self.feed.from_seq + (self.now - self.feed.from_time) * self.feed.rate // 1)

    def is_fit(self, gateway: rows.Gateway, gap_s: float) -> bool:
        """Return whether nodes can reach this gateway now."""
        return gateway.left_at is None and self.now - gap_s <= gateway.pulsed_at <= self.now + 1

    def served(self, gateway: rows.Gateway, gap_s: float, seconds: float) -> bool:
        """Return whether this gateway has been fit for the last `seconds`."""
        return self.is_fit(gateway, gap_s) and gateway.serving_since < self.now - seconds

    def own_gateway_failed(self, node: int | None, gap_s: float, seconds: float) -> bool:
        """Return whether `node` has a gateway that was not fit throughout the last `seconds`."""
        lease = self.leases.get(node) if node is not None else None
        own = None if lease is None else self.gateways.get(lease.gateway_id or UUID(int=0))
        return own is not None and own.left_at is None and not self.served(own, gap_s, seconds)

    def commits_blocked(self, seconds: float) -> bool:
        """Return whether a gateway has reported blocked commits in the last `seconds`."""
        return any(
            g.commits_stood_at is not None
            and self.now - seconds <= g.commits_stood_at <= self.now + 1
            for g in self.gateways.values()
        )

    def valid(self, node: int | None) -> bool | None:
        """Return whether the lease of `node` is valid; None without a lease."""
        lease = self.leases.get(node) if node is not None else None
        if node is None or lease is None:
            return None
        return lease.expires_at > self.now and self.nodes[node].status != "left"

    # --- running -----------------------------------------------------------------------------

    def execute_autocommit(self, steps: Transaction[T]) -> T:
        """Run `steps`, each statement in its own transaction."""
        return self.execute(steps, autocommit=True)

    def execute(self, steps: Transaction[T], *, autocommit: bool = False) -> T:
        """Run `steps` in one transaction, as `scheduling.db.transaction.execute` does.

        With a `fuse`, the caller is killed after that many statements, and everything that was not
        committed by then is rolled back.
        """
        self._undo, hints = [], list(self.hints)
        try:
            asked = next(steps)
            while True:
                if self.fuse is not None:
                    self.fuse -= 1
                    if self.fuse < 0:
                        raise Killed
                answer = self.answer(asked)
                if autocommit:
                    self._undo, hints = [], list(self.hints)
                asked = steps.send(answer)
        except StopIteration as stop:
            outcome: T = stop.value
            return outcome
        except BaseException:
            self._roll_back(hints)
            raise

    def _roll_back(self, hints: list[tuple[int | None, int]]) -> None:
        for undo in reversed(self._undo):
            undo()
        self.hints = hints

    def fetch(self, statement: Statement, /, **params: Any) -> list[Any]:
        """Return the rows of one statement, as `scheduling.db.transaction.fetch` does."""
        return self.answer(Query(statement, params))

    def answer(self, asked: Query) -> list[Any]:
        """Return the rows of one statement."""
        if asked.statement not in ANSWERS:
            raise KeyError(
                f"The simulation has no answer to {asked.statement.name}: write one in "
                "tests/simulation, and compare it in test_simulation_conformance"
            )
        return list(ANSWERS[asked.statement](self, SimpleNamespace(**asked.params)) or [])


def view(row: Any, **more: Any) -> Row:
    """Return the present columns of a row, and additional ones."""
    return Row(**{**vars(row), **more})


def stored(value: Jsonb | None) -> Any:
    """Return a value as a jsonb column returns it: tuples become lists."""
    return None if value is None else json.loads(json.dumps(value.obj))


def differ(one: Any, other: Any) -> bool:
    """Return the result of `<>` in SQL: NULL differs from nothing."""
    return one is not None and other is not None and one != other
