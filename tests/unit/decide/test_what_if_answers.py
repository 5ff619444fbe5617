"""What an answer counts, says and offers: what is held against a question, and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from scheduling.decide.planner.fleet_index import FleetIndex
from scheduling.decide.types import HandoffView, Snapshot
from scheduling.decide.what_if.answer import Answer, answer
from scheduling.decide.what_if.hypothetical import (
    MAX_ADDED,
    MAX_CAPACITY,
    Addition,
    InvalidScenario,
    Scenario,
    add,
    added_nodes,
)
from scheduling.decide.what_if.wording import notes, outage_budget, remedy_sentence, summary
from tests.support.plan_factories import moves, node, on, portfolio, world


def asked(snapshot: Snapshot, **parts: Any) -> Answer:
    """The answer to what these texts ask."""
    texts = {"lose": (), "drain": (), "add": (), **parts}
    return answer(snapshot, Scenario.of(**texts), FleetIndex.of(snapshot.portfolios), 0.5)


def sentence(found: Answer) -> str:
    return "".join(words.text for words in summary(found))


def helps(found: Answer) -> dict[str, str]:
    return {one.reason.code: remedy_sentence(one.reason) for one in found.remedies}


def test_labels_may_be_spaced() -> None:
    (found,) = Scenario.of([], [], ["4:gpu=yes, zone=hk"]).add
    assert found.labels == {"gpu": "yes", "zone": "hk"}


def test_what_gets_a_place_by_a_new_node_is_not_pending_already() -> None:
    found = asked(world([node(1)], [portfolio("gpu", selector={"gpu": "yes"})]), add=["1:gpu=yes"])
    assert found.already_pending == 0
    assert found.is_complete


def test_several_that_stay_are_counted_together() -> None:
    found = asked(world([node(1)], on(1, "a", "b")), drain=["node-1"])
    assert sentence(found) == "2 portfolios would stay where they are."


def test_where_every_node_is_lost_nothing_is_said_of_another_one() -> None:
    snapshot = world([node(1), node(2)], on(1, "a"))
    kept = "No portfolio on another node moves because of it."
    assert kept in notes(asked(snapshot, lose=["node-1"]), 30)
    assert kept not in notes(asked(snapshot, lose=["node-1", "node-2"]), 30)


def test_more_new_nodes_than_anybody_means_are_refused() -> None:
    assert len(Scenario.of([], [], ["1"] * MAX_ADDED).add) == MAX_ADDED
    with pytest.raises(InvalidScenario, match=f"at most {MAX_ADDED} nodes, not {MAX_ADDED + 1}"):
        Scenario.of([], [], ["1"] * (MAX_ADDED + 1))


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_a_new_node_has_the_newest_version_whoever_has_it(order: tuple[int, int]) -> None:
    versions = {1: {"sma": 3}, 2: {"sma": 1}}
    fleet = [node(number, strategies=versions[number]) for number in order]
    wants = portfolio("p", strategy="sma", strategy_version=2)
    (new,) = added_nodes(add(world(fleet, [wants]), [Addition(1)]))
    assert new.strategies == {"sma": 3}


def test_what_is_lost_already_makes_no_storm_and_has_no_budget_left() -> None:
    snapshot = world([node(1), node(2, status="lost"), node(3, status="lost")], on(2, "a"))
    assert not asked(snapshot, lose=["node-2", "node-3"]).storm
    found = asked(snapshot)
    assert (found.failovers, outage_budget(found, 30, 3)) == (1, None)


def test_what_only_waits_is_said_to_wait() -> None:
    frozen = world([node(1), node(2)], on(1, "a"), frozen=True, frozen_failover=True)
    assert sentence(asked(frozen, lose=["node-1"])) == "1 portfolio would wait."


def test_nothing_moves_where_an_empty_node_is_lost() -> None:
    found = asked(world([node(1), node(2)], on(1, "a")), lose=["node-2"])
    assert sentence(found) == "Nothing would move: everything runs as it should."


def test_of_what_is_lost_and_drained_only_the_lost_is_without_an_owner() -> None:
    snapshot = world([node(1), node(2), node(3)], [*on(1, "a"), *on(2, "b")])
    found = asked(snapshot, lose=["node-1"], drain=["node-2"])
    assert (len(found.plan.move), found.failovers) == (2, 1)
    said = " ".join(notes(found, 30))
    assert "No portfolio on another node moves" not in said
    for words in (
        "No event is processed twice",
        "Drained portfolios keep running",
        "the final result",
    ):
        assert words in said
    alone = " ".join(notes(asked(snapshot, lose=["node-1"]), 30))
    assert "No event is processed twice" in alone
    for words in ("Drained portfolios keep running", "the final result"):
        assert words not in alone
    assert "No event" not in " ".join(notes(asked(snapshot, lose=["node-3"]), 30))


def test_what_stays_anyway_is_not_held_against_a_drain() -> None:
    leaving = on(1, "s", selector={"gpu": "yes"})
    snapshot = world([node(1, draining=True), node(2), node(3)], [*leaving, *on(2, "b")])
    found = asked(snapshot, drain=["node-2"])
    assert [entry.portfolio.name for entry in found.plan.stuck] == ["s"]
    assert sentence(found) == "1 portfolio moves."


def test_loads_after_count_a_move_to_where_it_is_pinned_once() -> None:
    found = asked(world([node(1), node(2)], [portfolio("p", node=1, pinned=2)]))
    assert moves(found.plan, "pin") == {"p": "node-2"}
    assert [(load.before, load.after) for load in found.loads] == [(1, 0), (0, 1)]


def test_what_moves_to_a_node_that_is_lost_meanwhile_is_counted_where_it_runs() -> None:
    moving = portfolio("m", node=1, handoff=HandoffView(5, "migrate", source=1, target=2))
    found = asked(world([node(1), node(2)], [moving]), lose=["node-2"])
    assert [(load.before, load.after) for load in found.loads] == [(1, 1), (0, 0)]


def offered(found: Answer, code: str) -> list[str]:
    """The nodes of the helps with this code, in their order."""
    return [one.reason.params["node"] for one in found.remedies if one.reason.code == code]


def test_nodes_to_open_again_come_by_their_room_and_what_moves_there_takes_it() -> None:
    coming = portfolio("m", node=3, handoff=HandoffView(5, "migrate", source=3, target=4))
    snapshot = world(
        [node(1), node(2, cordoned=True, capacity=2), node(3, cordoned=True, capacity=4),
         node(4, cordoned=True, capacity=5)],
        [*on(1, "a"), *on(4, "x", "y"), coming],
    )  # fmt: skip
    found = asked(snapshot, lose=["node-1"])
    assert offered(found, "uncordon") == ["node-3", "node-2", "node-4"]
    assert [one.reason.params.get("free") for one in found.remedies][:3] == [3, 2, 2]


def test_what_is_pending_or_stays_anyway_is_no_part_of_what_helps() -> None:
    apart = [portfolio("gpu", selector={"gpu": "yes"}), *on(4, "s", selector={"gpu": "yes"})]
    snapshot = world(
        [node(1), node(2, cordoned=True), node(4, draining=True, capacity=1)],
        [*on(1, "a"), *apart],
    )
    found = asked(snapshot, lose=["node-1"])
    assert helps(found)["uncordon"] == "Uncordon node-2: 5 free places, then all have a place."


def test_what_would_have_to_stay_on_a_drained_node_is_helped_too() -> None:
    snapshot = world(
        [node(1, labels={"gpu": "yes"}), node(2, cordoned=True)],
        on(1, "a", "b", selector={"gpu": "yes"}),
    )
    found = asked(snapshot, drain=["node-1"])
    assert offered(found, "uncordon") == []  # it lacks the label
    assert helps(found)["more_room"] == (
        "Add one node of capacity 2 with gpu=yes: then all have a place."
    )


def test_a_help_that_does_not_reach_says_how_many_are_left() -> None:
    snapshot = world([node(1), node(2, cordoned=True, capacity=1)], on(1, "a", "b", "c"))
    found = asked(snapshot, lose=["node-1"])
    assert helps(found)["uncordon"] == "Uncordon node-2: 1 free place, then 2 would have none."


def test_a_new_node_is_not_offered_where_its_newest_version_is_not_the_one_that_runs() -> None:
    fleet = [node(1, strategies={"sma": 1}), node(2, strategies={"sma": 2})]
    old = on(1, "a", strategy="sma", strategy_version=1)
    found = asked(world(fleet, old), lose=["node-1"])
    assert len(found.unplaced.no_place) == 1
    assert found.remedies == ()


def test_neither_a_suspect_nor_a_new_node_is_named_to_be_enlarged() -> None:
    suspect = node(2, status="suspect", capacity=1)
    snapshot = world([node(1), suspect], [*on(1, "a"), *on(2, "x")])
    alone = "Add one node of capacity 1: then all have a place."
    assert helps(asked(snapshot, lose=["node-1"]))["more_room"] == alone
    new = world([node(1)], on(1, "a", "b"))
    assert helps(asked(new, lose=["node-1"], add=["1"]))["more_room"] == alone


def test_more_room_than_can_be_asked_for_is_not_offered() -> None:
    fleet = [node(1, capacity=MAX_CAPACITY + 1), node(2)]
    for weight, offers in ((MAX_CAPACITY, 1), (MAX_CAPACITY + 1, 0)):
        found = asked(world(fleet, on(1, "a", weight=weight)), lose=["node-1"])
        assert len(found.unplaced.no_place) == 1
        assert len(found.remedies) == offers
