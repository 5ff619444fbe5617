"""Counts, sentences and remedies of what-if answers."""

from __future__ import annotations

import pytest

from scheduling.decide.types import HandoffView
from scheduling.decide.what_if.answer import Answer
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
from tests.support.plan_factories import ask, moves, node, on, portfolio, sentence, world


def remedies(found: Answer) -> dict[str, str]:
    return {one.reason.code: remedy_sentence(one.reason) for one in found.remedies}


def test_labels_may_be_spaced() -> None:
    (found,) = Scenario.of([], [], ["4:gpu=yes, zone=hk"]).add
    assert found.labels == {"gpu": "yes", "zone": "hk"}


def test_portfolio_placed_on_a_new_node_is_not_already_pending() -> None:
    found = ask(world([node(1)], [portfolio("gpu", selector={"gpu": "yes"})]), add=["1:gpu=yes"])
    assert found.already_pending == 0
    assert found.is_complete


def test_summary_counts_portfolios_that_stay() -> None:
    found = ask(world([node(1)], on(1, "a", "b")), drain=["node-1"])
    assert sentence(found) == "2 portfolios would stay where they are."


def test_note_on_other_nodes_needs_another_living_node() -> None:
    snapshot = world([node(1), node(2)], on(1, "a"))
    kept = "No portfolio on another node moves because of it."
    assert kept in notes(ask(snapshot, lose=["node-1"]), 30)
    assert kept not in notes(ask(snapshot, lose=["node-1", "node-2"]), 30)


def test_number_of_added_nodes_is_limited() -> None:
    assert len(Scenario.of([], [], ["1"] * MAX_ADDED).add) == MAX_ADDED
    with pytest.raises(InvalidScenario, match=f"at most {MAX_ADDED} nodes, not {MAX_ADDED + 1}"):
        Scenario.of([], [], ["1"] * (MAX_ADDED + 1))


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_new_node_has_the_newest_strategy_version(order: tuple[int, int]) -> None:
    versions = {1: {"sma": 3}, 2: {"sma": 1}}
    fleet = [node(number, strategies=versions[number]) for number in order]
    wants = portfolio("p", strategy="sma", strategy_version=2)
    (new,) = added_nodes(add(world(fleet, [wants]), [Addition(1)]))
    assert new.strategies == {"sma": 3}


def test_already_lost_nodes_make_no_storm_and_have_no_budget() -> None:
    snapshot = world([node(1), node(2, status="lost"), node(3, status="lost")], on(2, "a"))
    assert not ask(snapshot, lose=["node-2", "node-3"]).storm
    found = ask(snapshot)
    assert (found.failovers, outage_budget(found, 30, 3)) == (1, None)


def test_summary_counts_portfolios_that_wait() -> None:
    frozen = world([node(1), node(2)], on(1, "a"), frozen=True, frozen_failover=True)
    assert sentence(ask(frozen, lose=["node-1"])) == "1 portfolio would wait."


def test_loss_of_an_empty_node_moves_nothing() -> None:
    found = ask(world([node(1), node(2)], on(1, "a")), lose=["node-2"])
    assert sentence(found) == "Nothing would move: everything runs as it should."
    waits = [*on(1, "a"), portfolio("gpu", selector={"gpu": "yes"})]
    found = ask(world([node(1), node(2)], waits), lose=["node-2"])
    assert sentence(found) == "Nothing would move."
    assert [span.text for span in summary(found, "zh")] == ["没有组合会移动。"]


def test_only_lost_portfolios_count_as_failovers() -> None:
    snapshot = world([node(1), node(2), node(3)], [*on(1, "a"), *on(2, "b")])
    found = ask(snapshot, lose=["node-1"], drain=["node-2"])
    assert (len(found.plan.move), found.failovers) == (2, 1)
    text = " ".join(notes(found, 30))
    assert "No portfolio on another node moves" not in text
    for phrase in (
        "No event is processed twice",
        "Drained portfolios keep running",
        "the final result",
    ):
        assert phrase in text
    alone = " ".join(notes(ask(snapshot, lose=["node-1"]), 30))
    assert "No event is processed twice" in alone
    for phrase in ("Drained portfolios keep running", "the final result"):
        assert phrase not in alone
    assert "No event" not in " ".join(notes(ask(snapshot, lose=["node-3"]), 30))


def test_stuck_portfolios_do_not_count_against_a_drain() -> None:
    leaving = on(1, "s", selector={"gpu": "yes"})
    snapshot = world([node(1, draining=True), node(2), node(3)], [*leaving, *on(2, "b")])
    found = ask(snapshot, drain=["node-2"])
    assert [entry.portfolio.name for entry in found.plan.stuck] == ["s"]
    assert sentence(found) == "1 portfolio moves."


def test_loads_after_count_a_pin_move_once() -> None:
    found = ask(world([node(1), node(2)], [portfolio("p", node=1, pinned=2)]))
    assert moves(found.plan, "pin") == {"p": "node-2"}
    assert [(load.before, load.after) for load in found.loads] == [(1, 0), (0, 1)]


def test_loads_after_count_a_move_to_a_lost_node_at_its_source() -> None:
    moving = portfolio("m", node=1, handoff=HandoffView(5, "migrate", source=1, target=2))
    found = ask(world([node(1), node(2)], [moving]), lose=["node-2"])
    assert [(load.before, load.after) for load in found.loads] == [(1, 1), (0, 0)]


def remedy_nodes(found: Answer, code: str) -> list[str]:
    """The nodes of the remedies with this code, in their order."""
    return [str(one.reason.params["node"]) for one in found.remedies if one.reason.code == code]


def test_reopen_remedies_are_sorted_by_free_places() -> None:
    coming = portfolio("m", node=3, handoff=HandoffView(5, "migrate", source=3, target=4))
    snapshot = world(
        [node(1), node(2, cordoned=True, capacity=2), node(3, cordoned=True, capacity=4),
         node(4, cordoned=True, capacity=5)],
        [*on(1, "a"), *on(4, "x", "y"), coming],
    )  # fmt: skip
    found = ask(snapshot, lose=["node-1"])
    assert remedy_nodes(found, "uncordon") == ["node-3", "node-2", "node-4"]
    assert [one.reason.params.get("free") for one in found.remedies][:3] == [3, 2, 2]


def test_remedies_ignore_already_pending_and_stuck_portfolios() -> None:
    apart = [portfolio("gpu", selector={"gpu": "yes"}), *on(4, "s", selector={"gpu": "yes"})]
    snapshot = world(
        [node(1), node(2, cordoned=True), node(4, draining=True, capacity=1)],
        [*on(1, "a"), *apart],
    )
    found = ask(snapshot, lose=["node-1"])
    assert remedies(found)["uncordon"] == "Uncordon node-2: 5 free places, then all have a place."


def test_remedies_cover_portfolios_that_stay() -> None:
    snapshot = world(
        [node(1, labels={"gpu": "yes"}), node(2, cordoned=True)],
        on(1, "a", "b", selector={"gpu": "yes"}),
    )
    found = ask(snapshot, drain=["node-1"])
    assert remedy_nodes(found, "uncordon") == []  # it lacks the label
    assert remedies(found)["more_room"] == (
        "Add one node of capacity 2 with gpu=yes: then all have a place."
    )


def test_partial_remedy_states_how_many_are_left() -> None:
    snapshot = world([node(1), node(2, cordoned=True, capacity=1)], on(1, "a", "b", "c"))
    found = ask(snapshot, lose=["node-1"])
    assert remedies(found)["uncordon"] == "Uncordon node-2: 1 free place, then 2 would have none."


def test_new_node_with_another_version_is_not_offered() -> None:
    fleet = [node(1, strategies={"sma": 1}), node(2, strategies={"sma": 2})]
    old = on(1, "a", strategy="sma", strategy_version=1)
    found = ask(world(fleet, old), lose=["node-1"])
    assert len(found.unplaced.no_place) == 1
    assert found.remedies == ()


def test_suspect_and_new_nodes_are_not_offered_for_more_capacity() -> None:
    suspect = node(2, status="suspect", capacity=1)
    snapshot = world([node(1), suspect], [*on(1, "a"), *on(2, "x")])
    alone = "Add one node of capacity 1: then all have a place."
    assert remedies(ask(snapshot, lose=["node-1"]))["more_room"] == alone
    new = world([node(1)], on(1, "a", "b"))
    assert remedies(ask(new, lose=["node-1"], add=["1"]))["more_room"] == alone


def test_remedy_beyond_max_capacity_is_not_offered() -> None:
    fleet = [node(1, capacity=MAX_CAPACITY + 1), node(2)]
    for weight, offers in ((MAX_CAPACITY, 1), (MAX_CAPACITY + 1, 0)):
        found = ask(world(fleet, on(1, "a", weight=weight)), lose=["node-1"])
        assert len(found.unplaced.no_place) == 1
        assert len(found.remedies) == offers
