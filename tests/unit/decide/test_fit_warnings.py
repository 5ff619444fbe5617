"""What a person reads whose change was accepted but no longer fits where it runs."""

from __future__ import annotations

from scheduling.decide.planner.fit_warnings import fit_warnings
from tests.support.plan_factories import node, on, portfolio, world

ZONES = [node(1, labels={"zone": "a"}), node(2, labels={"zone": "b"})]


def test_what_fits_is_not_spoken_of() -> None:
    assert fit_warnings(world([node(1)], on(1, "p", weight=5)), "p") == []


def test_a_weight_over_the_places_of_its_node_is_said_with_what_helps() -> None:
    # 4 + 2 = 6 of 5
    (said,) = fit_warnings(world([node(1)], [*on(1, "p", weight=4), *on(1, "q", weight=2)]), "p")
    assert said == (
        "node-1 now holds 6 of 5 places: its portfolios keep running, but nothing new is placed "
        "there until places are free; migrate p, lower its weight, or add capacity."
    )


def test_a_label_that_its_node_lacks_says_that_it_will_move() -> None:
    fleet = world(ZONES, on(1, "p", selector={"zone": "b"}))
    assert fit_warnings(fleet, "p") == [
        "node-1, where p runs, has no zone=b: the balancer will move it."
    ]


def test_a_label_that_no_node_has_says_why_it_stays() -> None:
    (said,) = fit_warnings(world(ZONES, on(1, "p", selector={"zone": "c"})), "p")
    assert said.startswith("node-1, where p runs, has no zone=c, and it stays there: ")
    assert "zone=c" in said.partition("stays there")[2]


def test_a_pin_is_named_as_what_keeps_it_there() -> None:
    fleet = world(ZONES, on(1, "p", selector={"zone": "b"}, pinned=1))
    assert fit_warnings(fleet, "p") == [
        "p is pinned to node-1, which has no zone=b; unpin it to let it move."
    ]


def test_one_that_runs_nowhere_says_why_no_node_takes_it() -> None:
    (said,) = fit_warnings(world([node(1)], [portfolio("p", weight=9)]), "p")
    assert said.startswith("p ")
    assert said.endswith(".")
    assert "9" in said


def test_a_stopped_one_fits_everywhere() -> None:
    assert fit_warnings(world([node(1)], [portfolio("p", weight=9, desired="stopped")]), "p") == []
