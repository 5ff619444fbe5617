"""What the pure core sees and what it answers: snapshots in, plans out.

Everything here is a frozen value. A snapshot is read at one moment (`taken_at`) and every decision
is made as of that moment; nothing in this package reads a clock. Loads and weights are counted in
*places*: a node of capacity 5 has five places, a portfolio of weight 1 takes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

NodeStatus = Literal["alive", "suspect", "lost", "left"]
DesiredState = Literal["running", "stopped"]
HandoffKind = Literal["place", "reload", "migrate", "failover", "stop"]
MoveCause = Literal["failover", "drain", "pin", "rebalance"]

#: States of a handoff under way.
ACTIVE_STATES = ("requested", "preparing", "draining", "activating")

#: Phases in which a portfolio waits for a person and is neither placed nor moved.
NEEDS_OPERATOR_PHASES = frozenset({"halted", "quarantined"})


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node as the snapshot found it."""

    id: int
    name: str
    status: NodeStatus = "alive"
    capacity: float = 5  #: places
    labels: Mapping[str, str] = field(default_factory=dict)
    cordoned: bool = False
    draining: bool = False  #: asked for by an operator, or its daemon is leaving
    feeds: Mapping[str, str] = field(default_factory=dict)  #: feed name -> sha256 of its data
    python: str = ""  #: minor version that computes there; empty: not known, so any is taken
    strategies: Mapping[str, int] = field(default_factory=dict)  #: strategy name -> version
    #: Epoch seconds; until then no automatic choice falls on it.
    flapping_until: float | None = None
    handoffs: int = 0  #: handoffs under way in which it is source or target


class Requirements(NamedTuple):
    """What a node must have to run a portfolio. Many portfolios share one need."""

    selector: tuple[tuple[str, str], ...]
    strategy: str
    strategy_version: int
    feed: str
    feed_sha: str
    python: str = ""  #: minor version under which it ran last; empty: any will do
    accept_python: str = ""  #: one that a person has allowed beside it

    def is_met_by(self, node: NodeView) -> bool:
        """Whether the node has it all: labels, versions of strategy and Python, the feed's data."""
        for key, value in self.selector:
            if node.labels.get(key) != value:
                return False
        if self.strategy and node.strategies.get(self.strategy) != self.strategy_version:
            return False
        if not may_continue_under(self.python, self.accept_python, node.python):
            return False
        return not self.feed or node.feeds.get(self.feed) == self.feed_sha


def may_continue_under(last: str, accepted: str, found: str) -> bool:
    """Return whether a run that was last computed under Python `last` may go on under `found`.

    Another minor version may compute something else from the same state, so it takes a person's
    consent. What is not known is taken for the same.
    """
    return not last or not found or found in (last, accepted)


class RevisionChoice(NamedTuple):
    """One revision of a portfolio, and the strategy that its node must have for it."""

    revision: int
    strategy: str
    strategy_version: int


@dataclass(frozen=True, slots=True)
class HandoffView:
    """The active handoff of a portfolio. At most one exists."""

    id: int
    kind: HandoffKind
    source: int | None = None
    target: int | None = None


@dataclass(frozen=True, slots=True)
class PortfolioView:
    """One portfolio: what its next grant needs, and where it runs now.

    `revision`, `strategy` and `strategy_version` are those of the revision that runs, or of the
    first of `choices` where it has no owner; `granting.as_granted` chooses among them.
    """

    id: int
    name: str
    weight: float = 1  #: places
    priority: int = 0  #: higher is placed first
    selector: Mapping[str, str] = field(default_factory=dict)  #: labels its node must have
    spread_group: str | None = None
    spread_hard: bool = False
    strategy: str = ""  #: empty: any node will do
    strategy_version: int = 1
    feed: str = ""  #: empty: any node will do
    feed_sha: str = ""
    python: str = ""
    accept_python: str = ""
    node: int | None = None  #: the owner of its run
    desired: DesiredState = "running"
    phase: str = "pending"
    pinned: int | None = None
    handoff: HandoffView | None = None
    failed_nodes: frozenset[int] = frozenset()  #: nodes where starting it failed twice
    not_before: float | None = None  #: epoch seconds; backing off until then
    revision: int = 0
    #: Revisions to start without a living owner, the best first; empty: only `revision`.
    revision_choices: tuple[RevisionChoice, ...] = ()
    #: The wanted revision, where another one runs and it was not rejected.
    wanted: RevisionChoice | None = None
    #: Worked out once, when the view is made: a plan compares a hundred thousand of them.
    requirements: Requirements = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        selector = tuple(sorted(self.selector.items())) if self.selector else ()
        need = Requirements(
            selector,
            self.strategy,
            self.strategy_version,
            self.feed,
            self.feed_sha,
            self.python,
            self.accept_python,
        )
        object.__setattr__(self, "requirements", need)


@dataclass(frozen=True, slots=True)
class Cpu:
    """What was measured lately, in per cent of a machine. Who has no figure is not in it."""

    nodes: Mapping[int, float] = field(default_factory=dict)  #: node id → how busy its machine is
    portfolios: Mapping[int, float] = field(default_factory=dict)  #: portfolio id → its own share


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole fleet at one moment. No nodes means none: a read that failed never gets here."""

    taken_at: float  #: epoch seconds, the database's clock
    nodes: tuple[NodeView, ...] = ()
    portfolios: tuple[PortfolioView, ...] = ()
    frozen: bool = False  #: no automatic move; new portfolios are still placed
    frozen_failover: bool = False  #: with `frozen`: failover is held too
    storm_hold: bool = False  #: failover is held because many nodes went at once
    storm_by: str = ""  #: the person who holds it; empty: the storm guard does
    #: Nodes that are late beside lost ones, so that together they would be a storm: failover waits
    #: until they beat or are lost too.
    storm_late: tuple[str, ...] = ()
    after_storm: bool = False  #: nodes lost in a storm still own portfolios: few at a time
    #: What runs is evened out by this, where the operator chose so; None: by weight.
    cpu: Cpu | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """How eager the balancer is."""

    #: Two nodes whose relative loads (load / capacity) differ by less than this are left alone.
    rebalance_gain: float = 0.1
    max_moves: int = 5  #: drain, pin and rebalance moves started in one pass
    handoffs_per_node: int = 2  #: as source or target, those under way included; not for failover
    failovers_after_storm: int = 10  #: begun in one pass, so that the survivors are not swamped


@dataclass(frozen=True, slots=True)
class Reason:
    """Why, as data: a code and its parameters. `reasons.render` makes the one sentence of it."""

    code: str
    params: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Placement:
    """A portfolio that runs nowhere gets a node."""

    portfolio: PortfolioView
    target: NodeView
    reason: Reason
    supersedes: int | None = None  #: the id of the active handoff this one ends


@dataclass(frozen=True, slots=True)
class Move:
    """A portfolio gets another owner. `source` is None only where its owner is no longer known."""

    portfolio: PortfolioView
    source: NodeView | None
    target: NodeView
    cause: MoveCause
    reason: Reason
    supersedes: int | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """A portfolio that cannot have what it should have, and why."""

    portfolio: PortfolioView
    reason: Reason


@dataclass(frozen=True, slots=True)
class Plan:
    """What the balancer wants. Each bucket is in the order in which it should be enacted.

    `pending` run nowhere (or on a lost node) and could not be placed. `stuck` go on running where
    they are although they should leave (drain, pin, a rule broken by a later change): nothing else
    would take them yet. `older` run on an earlier revision since their node lacks the strategy of
    the wanted one.
    """

    place: tuple[Placement, ...] = ()
    move: tuple[Move, ...] = ()
    pending: tuple[Pending, ...] = ()
    stuck: tuple[Pending, ...] = ()
    older: tuple[Pending, ...] = ()

    @property
    def changes(self) -> int:
        """The number of handoffs this plan would start."""
        return len(self.place) + len(self.move)


@dataclass(frozen=True, slots=True)
class TargetAnswer:
    """Whether one node could take one portfolio, as an operator asks it."""

    node: str
    feasible: bool
    code: str | None  #: None where feasible, else a 409 code of the public interface
    sentence: str
    risk: str | None  #: feasible, but the operator should know this
    load_before: float
    load_after: float
    capacity: float
