"""List the nodes that could take a portfolio, for an operator who is about to move it.

An operator may choose what the planner avoids: a suspect or flapping node, or one where the
portfolio failed to start. Such a node is feasible, with a risk stated. Hard rules hold for
operators too:

========================== ==============
obstacle                   code
========================== ==============
already runs there         `same_node`
lost or left               `node_lost`
label, strategy, feed or
Python version             `node_lacks`
cordoned or draining       `node_cordoned`
hard spread group          `no_room`
places                     `node_full`
========================== ==============
"""

from __future__ import annotations

from scheduling.decide.planner.feasibility import node_state, obstacle, why_unplaced
from scheduling.decide.planner.fleet_state import FleetState
from scheduling.decide.reasons import render
from scheduling.decide.types import PortfolioView, Reason, Snapshot, TargetAnswer

PUBLIC_CODES = {  #: code of an obstacle → error code of the API
    "lost": "node_lost",
    "left": "node_lost",
    "selector": "node_lacks",
    "strategy": "node_lacks",
    "feed": "node_lacks",
    "python": "node_lacks",
    "artifact": "node_lacks",
    "draining": "node_cordoned",
    "cordoned": "node_cordoned",
    "spread": "no_room",
    "full": "node_full",
}


class NotInSnapshot(LookupError):
    """The snapshot has no portfolio or node of this name."""

    def __init__(self, what: str, name: str) -> None:
        super().__init__(f"There is no {what} named {name}.")
        self.what = what
        self.name = name


def targets(
    snapshot: Snapshot, portfolio_name: str, language: str | None = "en"
) -> list[TargetAnswer]:
    """Return one answer per node, sorted by name, with sentences in `language`.

    Raise `NotInSnapshot` if there is no such portfolio.
    """
    fleet = FleetState.of(snapshot)
    portfolio = fleet.with_granted_revision(find_portfolio(snapshot, portfolio_name))
    return [_answer(fleet, portfolio, node, language) for node in range(len(fleet.nodes))]


def choose_target(snapshot: Snapshot, portfolio_name: str) -> TargetAnswer | Reason:
    """Return the node that the balancer would choose for the portfolio, or why there is none.

    The choice is that of a plan without limits on concurrent moves. Raise `NotInSnapshot` if
    there is no such portfolio.
    """
    fleet = FleetState.of(snapshot)
    portfolio = fleet.with_granted_revision(find_portfolio(snapshot, portfolio_name))
    node = choose_node(fleet, portfolio)
    return node if isinstance(node, Reason) else _answer(fleet, portfolio, node)


def choose_node(fleet: FleetState, portfolio: PortfolioView) -> int | Reason:
    """Return the index of the node that the balancer would choose, or why there is none."""
    owner = fleet.live_index(portfolio.node)
    # A portfolio without an owner goes to its pinned node if it can. The move or failover of one
    # with an owner ends its pin. `live_index` finds suspect nodes too; a pin needs an alive one.
    node = fleet.live_index(portfolio.pinned) if portfolio.node is None else None
    if (
        node is None
        or not fleet.alive[node]
        or portfolio.pinned in portfolio.failed_nodes
        or not fleet.is_allowed(node, portfolio)
    ):
        node = fleet.choose(portfolio, frozenset() if owner is None else frozenset({owner}))
    return why_unplaced(fleet, portfolio, owner) if node is None else node


def granted_revision(snapshot: Snapshot, portfolio_name: str) -> int:
    """Return the number of the revision that the portfolio's next grant would bring.

    Raise `NotInSnapshot` if there is no such portfolio.
    """
    portfolio = find_portfolio(snapshot, portfolio_name)
    return FleetState.of(snapshot).with_granted_revision(portfolio).revision


def target_reason(snapshot: Snapshot, portfolio_name: str, node_name: str) -> Reason:
    """Return what `targets` says of a known node: that it can take the portfolio, or why not.

    Raise `NotInSnapshot` if there is no such portfolio.
    """
    fleet = FleetState.of(snapshot)
    portfolio = fleet.with_granted_revision(find_portfolio(snapshot, portfolio_name))
    node = next(i for i, view in enumerate(fleet.nodes) if view.name == node_name)
    return state_on(fleet, portfolio, node, obstacle_on(fleet, portfolio, node))


def find_portfolio(snapshot: Snapshot, name: str) -> PortfolioView:
    """Return the portfolio of that name, or raise `NotInSnapshot`."""
    for portfolio in snapshot.portfolios:
        if portfolio.name == name:
            return portfolio
    raise NotInSnapshot("portfolio", name)


def _answer(
    fleet: FleetState, portfolio: PortfolioView, node: int, language: str | None = "en"
) -> TargetAnswer:
    """Return whether `fleet.nodes[node]` can take the portfolio and why. Language None: English."""
    view = fleet.nodes[node]
    same = portfolio.node == view.id
    found = obstacle_on(fleet, portfolio, node)
    risk = risk_on(fleet, portfolio, node) if found is None else None
    before = fleet.held[node]
    after = before if same else before + portfolio.weight
    return TargetAnswer(
        node=view.name,
        feasible=found is None,
        code=None if found is None else PUBLIC_CODES.get(found, found),
        sentence=render(state_on(fleet, portfolio, node, found), language),
        risk=None if risk is None else render(risk, language),
        load_before=before,
        load_after=after,
        capacity=view.capacity,
    )


def obstacle_on(fleet: FleetState, portfolio: PortfolioView, node: int) -> str | None:
    """Return the code of why an operator cannot move the portfolio to the node at index `node`."""
    same = portfolio.node == fleet.nodes[node].id
    return "same_node" if same else obstacle(fleet, portfolio, node)


def state_on(fleet: FleetState, portfolio: PortfolioView, node: int, found: str | None) -> Reason:
    """Return the reason for `found`, the code of an obstacle or risk; None: the portfolio fits."""
    return Reason("on_node", node_state(fleet, portfolio, node, found or "fits"))


def risk_on(fleet: FleetState, portfolio: PortfolioView, node: int) -> Reason | None:
    """Return what an operator should know before choosing this node, or None."""
    view = fleet.nodes[node]
    if view.status == "suspect":
        risk = "suspect"
    elif view.id in portfolio.failed_nodes:
        risk = "failed_there"
    elif fleet.is_flapping(view):
        risk = "flapping"
    elif node in fleet.spread_members(portfolio):
        risk = "spread"
    else:
        return None
    return state_on(fleet, portfolio, node, risk)
