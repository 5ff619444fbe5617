"""Input and output types of the pure scheduling core: snapshots in, plans out.

All types are frozen values. A snapshot is read at one moment (`taken_at`), and every decision is
made as of that moment; nothing in this package reads a clock. Loads and weights are counted in
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

#: Phases in which a portfolio waits for an operator and is neither placed nor moved.
NEEDS_OPERATOR_PHASES = frozenset({"halted", "quarantined"})

#: The feed name under which a daemon reports that it can read recorded feeds, with "1" as sha256.
#: A daemon that can read one recorded feed can read all of them.
RECORDED_FEEDS = "recorded feeds"


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node at the time of the snapshot."""

    id: int
    name: str
    status: NodeStatus = "alive"
    capacity: float = 5  #: places
    labels: Mapping[str, str] = field(default_factory=dict)
    cordoned: bool = False
    draining: bool = False  #: by an operator, or because its daemon is shutting down
    feeds: Mapping[str, str] = field(default_factory=dict)  #: feed name -> sha256 of its data
    python: str = ""  #: minor version of its daemon; empty: unknown, accepted for every portfolio
    strategies: Mapping[str, int] = field(default_factory=dict)  #: strategy name -> version
    #: Epoch seconds; until then the planner does not choose this node.
    flapping_until: float | None = None
    handoffs: int = 0  #: active handoffs with this node as source or target


class ArtifactNeeds(NamedTuple):
    """What the artifact of a revision needs of a node. The node itself fetches the bytes."""

    label: str  #: name and version
    python: str  #: as the artifact states it, such as `>=3.12`; empty: any version
    pythons: tuple[str, ...] = ()  #: the minor versions that meet it; empty: any

    def lacking_on(self, node: NodeView) -> bool:
        """Return whether the node has a Python that the artifact does not run under.

        An unknown version of the node counts as one that the artifact runs under.
        """
        return bool(self.pythons and node.python) and node.python not in self.pythons


class MissingRequirements(NamedTuple):
    """Which kinds of requirements a node does not meet."""

    selector: bool
    strategy: bool
    feed: bool
    python: bool
    artifact: bool


class Requirements(NamedTuple):
    """What a node must provide to run a portfolio. Many portfolios share equal requirements."""

    selector: tuple[tuple[str, str], ...]
    strategy: str
    strategy_version: int
    feed: str
    feed_sha: str
    python: str = ""  #: minor version under which it ran last; empty: any version
    accept_python: str = ""  #: a second version that an operator has accepted
    #: If given, `strategy` is empty: its code is in the artifact, and no node has it installed.
    artifact: ArtifactNeeds | None = None

    def missing_on(self, node: NodeView) -> MissingRequirements:
        """Return which kinds of these requirements `node` does not meet."""
        return MissingRequirements(
            any(node.labels.get(key) != value for key, value in self.selector),
            bool(self.strategy) and node.strategies.get(self.strategy) != self.strategy_version,
            bool(self.feed) and node.feeds.get(self.feed) != self.feed_sha,
            not may_continue_under(self.python, self.accept_python, node.python),
            self.artifact is not None and self.artifact.lacking_on(node),
        )

    def is_met_by(self, node: NodeView) -> bool:
        """Return whether `node` meets all of these requirements."""
        return not any(self.missing_on(node))


def may_continue_under(last: str, accepted: str, found: str) -> bool:
    """Return whether a portfolio that last ran under Python `last` may continue under `found`.

    Another minor version may compute different results from the same state, so an operator has to
    accept it (`accepted`). An unknown version counts as equal.
    """
    return not last or not found or found in (last, accepted)


class RevisionChoice(NamedTuple):
    """A revision that a grant may choose, and the code that a node needs to run it."""

    revision: int
    strategy: str
    strategy_version: int
    #: If given, the strategy's version is not compared: the artifact has the code.
    artifact: ArtifactNeeds | None = None

    def lacking_on(self, node: NodeView) -> bool:
        """Return whether `node` cannot run the code of this revision."""
        if self.artifact is not None:
            return self.artifact.lacking_on(node)
        return node.strategies.get(self.strategy) != self.strategy_version


@dataclass(frozen=True, slots=True)
class HandoffView:
    """The active handoff of a portfolio, which has at most one."""

    id: int
    kind: HandoffKind
    source: int | None = None
    target: int | None = None


@dataclass(frozen=True, slots=True)
class PortfolioView:
    """A portfolio: the requirements of its next grant, and where it runs now.

    `revision`, `strategy`, `strategy_version` and `artifact` are those of the running revision.
    Without an owner they are those of the first of `revision_choices`;
    `granted_revision.with_granted_revision` chooses among these.
    """

    id: int
    name: str
    weight: float = 1  #: places
    priority: int = 0  #: higher priorities are placed first
    selector: Mapping[str, str] = field(default_factory=dict)  #: labels that its node must have
    spread_group: str | None = None
    spread_hard: bool = False
    strategy: str = ""  #: empty: no requirement
    strategy_version: int = 1
    artifact: ArtifactNeeds | None = None  #: of the revision, if it pins one
    feed: str = ""  #: empty: no requirement
    feed_sha: str = ""
    python: str = ""  #: see `Requirements`, as for the next
    accept_python: str = ""
    node: int | None = None  #: id of the node that owns its run
    desired: DesiredState = "running"
    phase: str = "pending"
    pinned: int | None = None  #: id of the node it is pinned to
    handoff: HandoffView | None = None
    failed_nodes: frozenset[int] = frozenset()  #: ids of nodes where it failed to start twice
    not_before: float | None = None  #: epoch seconds at which its back-off ends; None: no back-off
    revision: int = 0
    #: Revisions to start without a living owner, in order of preference; empty: only `revision`.
    revision_choices: tuple[RevisionChoice, ...] = ()
    #: The wanted revision, if another one runs and the wanted one was not rejected.
    wanted: RevisionChoice | None = None
    #: Computed once per view, since a plan compares up to a hundred thousand of them.
    requirements: Requirements = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compute `requirements`: a revision with an artifact requires no installed strategy."""
        selector = tuple(sorted(self.selector.items())) if self.selector else ()
        requirements = Requirements(
            selector,
            self.strategy if self.artifact is None else "",
            self.strategy_version if self.artifact is None else 0,
            self.feed,
            self.feed_sha,
            self.python,
            self.accept_python,
            self.artifact,
        )
        object.__setattr__(self, "requirements", requirements)


@dataclass(frozen=True, slots=True)
class Cpu:
    """Recently measured CPU usage, in per cent of a machine. What was not measured is absent."""

    nodes: Mapping[int, float] = field(default_factory=dict)  #: node id → usage of its machine
    #: Portfolio id → usage of its process.
    portfolios: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole fleet at one moment. An empty `nodes` means no nodes, never a failed read."""

    taken_at: float  #: epoch seconds, the database's clock
    nodes: tuple[NodeView, ...] = ()
    portfolios: tuple[PortfolioView, ...] = ()
    frozen: bool = False  #: no automatic moves; new portfolios are still placed
    frozen_failover: bool = False  #: with `frozen`: no failover either
    storm_hold: bool = False  #: failover is held because many nodes were lost at once
    storm_by: str = ""  #: the operator who holds failover; empty: held automatically
    #: Late nodes that would make a storm together with the lost ones: failover waits until they
    #: send a heartbeat or are lost too.
    storm_late: tuple[str, ...] = ()
    after_storm: bool = False  #: portfolios of a storm's lost nodes fail over, a few in each pass
    #: Rebalance running portfolios by these figures, if the operator chose so; None: by weight.
    cpu: Cpu | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits of the balancer."""

    #: Two nodes are rebalanced only if their relative loads (load / capacity) differ by this much.
    rebalance_gain: float = 0.1
    max_moves: int = 5  #: drain, pin and rebalance moves started in one pass
    handoffs_per_node: int = 2  #: as source or target, including active ones; not for failover
    #: Started in one pass, so that the remaining nodes are not swamped.
    failovers_after_storm: int = 10


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason as data: a code and its parameters. `reasons.render` turns it into a sentence."""

    code: str
    params: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Placement:
    """Place a portfolio without an owner on a node."""

    portfolio: PortfolioView
    target: NodeView
    reason: Reason
    supersedes: int | None = None  #: id of the active handoff that this one ends


@dataclass(frozen=True, slots=True)
class Move:
    """Move a portfolio to another owner. `source` is None only if the owner is unknown."""

    portfolio: PortfolioView
    source: NodeView | None
    target: NodeView
    cause: MoveCause
    reason: Reason
    supersedes: int | None = None  #: id of the active handoff that this one ends


@dataclass(frozen=True, slots=True)
class Pending:
    """A portfolio that the plan cannot place or move, and why."""

    portfolio: PortfolioView
    reason: Reason


@dataclass(frozen=True, slots=True)
class Plan:
    """The handoffs that the balancer wants, in the order in which they should be enacted.

    `pending` portfolios have no owner (or a lost one) and could not be placed. `stuck` ones keep
    running on a node that they should leave (drain, pin, a rule broken by a later change), because
    no other node takes them yet. `older` ones run on an earlier revision because their node lacks
    the strategy of the wanted one.
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
    """The answer to an operator: whether one node can take one portfolio."""

    node: str
    feasible: bool
    code: str | None  #: None if feasible, else a 409 code of the API
    sentence: str
    risk: str | None  #: if feasible: what the operator should know beforehand
    load_before: float
    load_after: float
    capacity: float
