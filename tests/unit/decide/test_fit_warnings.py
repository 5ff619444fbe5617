"""Warnings after a change that no longer fits on the portfolio's node."""

from __future__ import annotations

from scheduling.decide.planner.fit_warnings import fit_warnings
from tests.support.plan_factories import node, on, portfolio, world

ZONES = [node(1, labels={"zone": "a"}), node(2, labels={"zone": "b"})]


def test_fitting_portfolio_has_no_warning() -> None:
    assert fit_warnings(world([node(1)], on(1, "p", weight=5)), "p") == []


def test_overfull_node_is_warned_of_with_remedies() -> None:
    # 4 + 2 = 6 of 5
    (warning,) = fit_warnings(world([node(1)], [*on(1, "p", weight=4), *on(1, "q", weight=2)]), "p")
    assert warning == (
        "node-1 now holds 6 of 5 places: its portfolios keep running, but nothing new is placed "
        "there until places are free; migrate p, lower its weight, or add capacity."
    )


def test_missing_label_warns_of_a_move() -> None:
    fleet = world(ZONES, on(1, "p", selector={"zone": "b"}))
    assert fit_warnings(fleet, "p") == [
        "node-1, where p runs, has no zone=b: the balancer will move it."
    ]


def test_label_of_no_node_warns_that_it_stays() -> None:
    (warning,) = fit_warnings(world(ZONES, on(1, "p", selector={"zone": "c"})), "p")
    assert warning.startswith("node-1, where p runs, has no zone=c, and it stays there: ")
    assert "zone=c" in warning.partition("stays there")[2]


def test_pinned_portfolio_warning_names_the_pin() -> None:
    fleet = world(ZONES, on(1, "p", selector={"zone": "b"}, pinned=1))
    assert fit_warnings(fleet, "p") == [
        "p is pinned to node-1, which has no zone=b; unpin it to let it move."
    ]


def test_unassigned_portfolio_warning_names_the_reason() -> None:
    (warning,) = fit_warnings(world([node(1)], [portfolio("p", weight=9)]), "p")
    assert warning.startswith("p ")
    assert warning.endswith(".")
    assert "9" in warning


def test_stopped_portfolio_has_no_warning() -> None:
    assert fit_warnings(world([node(1)], [portfolio("p", weight=9, desired="stopped")]), "p") == []
