"""The parameters of COMMIT: the lines of many commits as one array for each column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from scheduling.wire.messages import Commit, OrderLine


def to_columns(
    node: int, node_name: str, incarnation: UUID, commits: Sequence[Commit]
) -> dict[str, Any]:
    """Return the parameters of COMMIT, one array per column.

    A prefix names the lines: o_ orders, f_ fills, e_ equity points, m_ metrics, x_ ends of orders.
    `suppressed`: whether decisions were suppressed. `feed_us`: the start of the newest feed segment
    that the node knew, in µs; 0: not known. `records`: the sha256 of the record at `to_seq`, empty
    on a packaged feed. For `refused`, `held_back`, `placed` and `unplaced` see `_order_counts`.
    """
    orders = [(c.portfolio, line) for c in commits for line in c.orders]
    fills = [(c.portfolio, line) for c in commits for line in c.fills]
    equity = [(c.portfolio, line) for c in commits for line in c.equity]
    ended = [(c.portfolio, line) for c in commits for line in c.ended]
    metrics = [(c.portfolio, line) for c in commits for line in c.metrics]
    return {
        "node": node,
        "node_name": node_name,
        "incarnation": incarnation,
        "portfolios": [c.portfolio for c in commits],
        "epochs": [c.epoch for c in commits],
        "from_seqs": [c.from_seq for c in commits],
        "to_seqs": [c.to_seq for c in commits],
        "batches": [UUID(c.batch) for c in commits],
        "states": [c.state for c in commits],
        "suppressed": [c.suppress for c in commits],
        "feed_us": [c.feed_us for c in commits],
        "records": [c.record for c in commits],
        **_order_counts(commits),
        "o_portfolios": [p for p, _ in orders],
        "o_seqs": [o.seq for _, o in orders],
        "o_indexes": [o.index for _, o in orders],
        "o_symbols": [o.symbol for _, o in orders],
        "o_sides": [o.side for _, o in orders],
        "o_quantities": [o.quantity for _, o in orders],
        "o_prices": [o.price for _, o in orders],
        "o_statuses": [o.status for _, o in orders],
        "o_reasons": [o.reason for _, o in orders],
        "o_decided_us": [o.decided_us for _, o in orders],
        "o_kinds": [o.kind for _, o in orders],
        "o_limit_prices": [o.limit_price for _, o in orders],
        "o_stop_prices": [o.stop_price for _, o in orders],
        "o_times_in_force": [o.time_in_force for _, o in orders],
        "o_tags": [o.tag for _, o in orders],
        "f_portfolios": [p for p, _ in fills],
        "f_order_seqs": [f.order_seq for _, f in fills],
        "f_order_indexes": [f.order_index for _, f in fills],
        "f_seqs": [f.fill_seq for _, f in fills],
        "f_indexes": [f.index for _, f in fills],
        "f_symbols": [f.symbol for _, f in fills],
        "f_sides": [f.side for _, f in fills],
        "f_quantities": [f.quantity for _, f in fills],
        "f_prices": [f.price for _, f in fills],
        "f_at_us": [f.at_us for _, f in fills],
        "f_fees": [f.fee for _, f in fills],
        "m_portfolios": [p for p, _ in metrics],
        "m_seqs": [m.seq for _, m in metrics],
        "m_at_us": [m.at_us for _, m in metrics],
        "m_names": [m.name for _, m in metrics],
        "m_values": [m.value for _, m in metrics],
        "x_portfolios": [p for p, _ in ended],
        "x_order_seqs": [e.order_seq for _, e in ended],
        "x_order_indexes": [e.order_index for _, e in ended],
        "x_seqs": [e.seq for _, e in ended],
        "x_statuses": [e.status for _, e in ended],
        "x_reasons": [e.reason for _, e in ended],
        "e_portfolios": [p for p, _ in equity],
        "e_seqs": [e.seq for _, e in equity],
        "e_at_us": [e.at_us for _, e in equity],
        "e_equities": [e.equity for _, e in equity],
    }


def are_plain(commits: Sequence[Commit]) -> bool:
    """Return whether no commit has a rare line: an end of an order, a metric or a special order."""
    return not any(
        commit.ended or commit.metrics or not all(map(is_plain_order, commit.orders))
        for commit in commits
    )


def is_plain_order(order: OrderLine) -> bool:
    """Return whether an order is like most: a market order without tag, prices or expiry."""
    is_market_order = order.kind == "market" and order.time_in_force == "gtc"
    return is_market_order and not (order.tag or order.limit_price or order.stop_price)


#: Statuses of orders that do not go to the broker.
UNPLACED = ("refused", "suppressed")


def _order_counts(commits: Sequence[Commit]) -> dict[str, list[Any]]:
    """Return four columns with an entry for each commit.

    `refused` and `held_back`: how many orders were refused and suppressed. `placed`: whether any
    order was placed. `unplaced`: how many refused and suppressed orders follow the last placed one,
    or how many there are if none was placed.
    """
    columns: dict[str, list[Any]] = {"refused": [], "held_back": [], "unplaced": [], "placed": []}
    for commit in commits:
        statuses = [order.status for order in commit.orders]
        unplaced = 0
        for status in statuses:
            unplaced = unplaced + 1 if status in UNPLACED else 0
        # Repeated refusals have no rows, and their position among the rows is not known: they count
        # as the last ones.
        repeated = commit.refused_again
        columns["refused"].append(statuses.count("refused") + repeated)
        columns["held_back"].append(statuses.count("suppressed"))
        columns["unplaced"].append(unplaced + repeated)
        columns["placed"].append(unplaced < len(statuses))
    return columns
