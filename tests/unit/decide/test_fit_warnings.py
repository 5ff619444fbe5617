"""Warnings after a change that no longer fits on the portfolio's node."""

from __future__ import annotations

import pytest

from scheduling.decide.planner.fit_warnings import fit_warnings
from scheduling.decide.types import PortfolioView
from tests.support.plan_factories import node, on, portfolio, world

ZONES = [node(1, labels={"zone": "a"}), node(2, labels={"zone": "b"})]
OVERFULL = (
    "node-1 now holds 6 of 5 places: its portfolios keep running, but nothing new is placed "
    "there until places are free; migrate p, lower its weight, or add capacity."
)


@pytest.mark.parametrize(
    ("portfolios", "expected"),
    [
        (on(1, "p", weight=5), []),
        ([portfolio("p", weight=9, desired="stopped")], []),
        ([*on(1, "p", weight=4), *on(1, "q", weight=2)], [OVERFULL]),  # 4 + 2 = 6 of 5
        (
            on(1, "p", selector={"zone": "b"}),
            ["node-1, where p runs, has no zone=b: the balancer will move it."],
        ),
        (
            on(1, "p", selector={"zone": "b"}, pinned=1),
            ["p is pinned to node-1, which has no zone=b; unpin it to let it move."],
        ),
    ],
    ids=["fits", "stopped", "overfull", "missing label", "pinned"],
)
def test_warning_names_what_does_not_fit_and_what_happens(
    portfolios: list[PortfolioView], expected: list[str]
) -> None:
    assert fit_warnings(world(ZONES, portfolios), "p") == expected


def test_warning_about_a_label_that_no_node_has_says_that_the_portfolio_stays() -> None:
    (warning,) = fit_warnings(world(ZONES, on(1, "p", selector={"zone": "c"})), "p")
    assert warning.startswith("node-1, where p runs, has no zone=c, and p stays: ")
    assert "zone=c" in warning.partition("stays: ")[2]


def test_unassigned_portfolio_warning_names_the_reason() -> None:
    (warning,) = fit_warnings(world(ZONES, [portfolio("p", weight=9)]), "p")
    assert warning.startswith("p ") and warning.endswith(".") and "9" in warning
