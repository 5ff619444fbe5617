"""What-if scenarios, hypothetical snapshots, answers and remedies."""

from __future__ import annotations

from typing import Any

import pytest

from scheduling.decide.planner.targets import NotInSnapshot
from scheduling.decide.types import HandoffView, PortfolioView, Snapshot
from scheduling.decide.what_if.answer import Answer
from scheduling.decide.what_if.hypothetical import (
    MAX_ADDED,
    MAX_CAPACITY,
    Addition,
    InvalidScenario,
    Scenario,
    add,
    added_nodes,
    apply_scenario,
    drain,
    enlarge,
    lose,
    reopen,
)
from scheduling.decide.what_if.wording import notes, outage_budget, remedy_sentence, summary
from tests.support.plan_factories import (
    ask,
    moves,
    node,
    on,
    pending,
    places,
    portfolio,
    sentence,
    world,
)


def test_repeated_node_names_count_once() -> None:
    question = Scenario.of(["node-2, node-5", "node-2", ""], ["node-3"], [])
    assert (question.lose, question.drain) == (("node-2", "node-5"), ("node-3",))
    assert not Scenario.of([], [""], [" "])


def test_added_node_is_given_as_a_capacity_and_labels() -> None:
    (plain, labelled) = Scenario.of([], [], ["8", " 4:gpu=yes,zone=hk"]).add
    assert (plain.capacity, plain.labels) == (8, {})
    assert (labelled.capacity, labelled.labels) == (4, {"gpu": "yes", "zone": "hk"})
    assert str(labelled) == "4:gpu=yes,zone=hk"
    assert Scenario.of([], [], ["4:gpu=yes, zone=hk"]).add == (labelled,)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("x", "'x'"),
        ("0", "the capacity is not a whole number of at least 1"),
        ("2.5", "the capacity is not a whole number of at least 1"),
        ("²", "the capacity is not a whole number of at least 1"),
        ("1000001", "the capacity is over 1,000,000"),
        ("9" * 5000, "the capacity is over 1,000,000"),
        ("8:gpu=yes,gpu=no", "label gpu is given twice"),
        ("8:", "'' is not label=value"),
        ("8:gpu", "'gpu' is not label=value"),
        ("8:gpu=", "'gpu=' is not label=value"),
        ("8:=yes", "'=yes' is not label=value"),
    ],
)
def test_refusal_of_an_invalid_added_node_names_the_expected_format(text: str, wrong: str) -> None:
    with pytest.raises(InvalidScenario) as caught:
        Scenario.of([], [], [text])
    assert caught.value.field == "add"
    assert "CAPACITY:label=value" in caught.value.message
    assert wrong in caught.value.message


@pytest.mark.parametrize(
    ("labels", "end"),
    [("L=yes,L=no", ": label L is given twice"), ("L", ": 'L' is not label=value")],
)
def test_refusal_of_an_added_node_quotes_at_most_sixty_characters_of_value_and_label(
    labels: str, end: str
) -> None:
    text = f"8:{labels.replace('L', 'x' * 1000)}"
    with pytest.raises(InvalidScenario) as caught:
        Scenario.of([], [], [text])
    assert caught.value.message.endswith(f"not '8:{'x' * 58}…'{end.replace('L', 'x' * 60)}")


def test_unknown_node_name_is_reported() -> None:
    snapshot = world([node(1)], [])
    for question in (Scenario(lose=("node-7",)), Scenario(drain=("node-7",))):
        with pytest.raises(NotInSnapshot, match="no node named node-7"):
            apply_scenario(snapshot, question)


def test_hypothetical_snapshots_change_only_the_named_nodes() -> None:
    before = world([node(1), node(2, cordoned=True, draining=True)], on(1, "a"))
    assert lose(before, ["node-1"]).nodes == (node(1, status="lost"), before.nodes[1])
    assert drain(before, ["node-1"]).nodes == (node(1, draining=True), before.nodes[1])
    assert reopen(before, ["node-2"]).nodes == (before.nodes[0], node(2))
    assert enlarge(before, "node-1", 3).nodes[0].capacity == 8
    assert lose(before, ["node-1"]).portfolios is before.portfolios
    assert lose(world([node(1, status="left")], []), ["node-1"]).nodes[0].status == "left"


def test_a_new_node_has_a_free_name_the_newest_strategies_and_every_feed() -> None:
    fleet = [
        node(1, strategies={"sma": 1, "old": 4}, feeds={"replay": "aa"}),
        node(2, name="new-1", strategies={"sma": 2, "old": 3}),
    ]
    wants = portfolio("p", strategy="sma", strategy_version=3, feed="bars", feed_sha="bb")
    imagined = add(world(fleet, [wants]), [Addition(8, {"gpu": "yes"}), Addition(2)])
    first, second = added_nodes(imagined)
    assert (first.name, second.name) == ("new-2", "new-3")
    assert (first.capacity, first.labels, first.status) == (8, {"gpu": "yes"}, "alive")
    assert (first.strategies, first.feeds) == ({"sma": 3, "old": 4}, {"replay": "aa", "bars": "bb"})
    assert len({each.id for each in imagined.nodes}) == 4


def test_loss_moves_what_fits_and_counts_the_rest() -> None:
    # node-2 has two places, one is free: of the three of node-1 the most important goes there.
    snapshot = world(
        [node(1), node(2, capacity=2)], [*on(1, "a", "b"), *on(1, "first", priority=9), *on(2, "z")]
    )
    found = ask(snapshot, lose=["node-1"])
    assert moves(found.plan) == {"first": "node-2"}
    assert set(pending(found.plan)) == {"a", "b"}
    assert sentence(found) == "1 portfolio moves, 2 would have no place."
    loads = [(load.node.name, load.before, load.after) for load in found.loads]
    assert loads == [("node-1", 3, 0), ("node-2", 1, 2)]
    assert not found.is_complete
    assert outage_budget(found, 30, 3) is not None
    assert "No portfolio on another node moves because of it." in notes(found, 30)


def test_pending_portfolios_do_not_count_against_a_loss() -> None:
    snapshot = world([node(1), node(2)], [*on(1, "a"), portfolio("gpu", selector={"gpu": "yes"})])
    found = ask(snapshot, lose=["node-1"])
    assert sentence(found) == "1 portfolio moves."
    assert (found.already_pending, found.unplaced.no_place) == (1, ())
    assert "1 portfolio is pending anyway and not counted." in notes(found, 30)
    assert sentence(ask(snapshot)) == "1 portfolio would have no place."


def test_answer_to_an_empty_scenario_is_what_the_next_pass_will_do() -> None:
    found = ask(world([node(1)], [portfolio("a")]))
    assert places(found.plan) == {"a": "node-1"}
    assert sentence(found) == "1 portfolio is placed."
    assert outage_budget(found, 30, 3) is None
    calm = ask(world([node(1)], on(1, "a")))
    assert sentence(calm) == "Nothing to do."


def test_storm_adds_one_lease_to_the_outage_budget() -> None:
    # Two of three are at least half; two of five are not.
    found = ask(world([node(n) for n in (1, 2, 3)], on(1, "a")), lose=["node-1,node-2"])
    budget = outage_budget(found, 30, 3)
    assert found.storm and budget is not None
    assert (budget.by_silence_s, budget.by_kill_s) == (63, 35)
    assert any("storm" in note for note in notes(found, 30))
    found = ask(world([node(n) for n in range(1, 6)], on(1, "a")), lose=["node-1", "node-2"])
    budget = outage_budget(found, 30, 3)
    assert not found.storm and budget is not None
    assert (budget.by_silence_s, budget.by_kill_s) == (33, 5)


def test_drain_is_answered_completely_without_an_outage() -> None:
    # One pass would start two: a node has at most two handoffs at a time.
    found = ask(world([node(1), node(2)], on(1, "a", "b", "c", "d", "e")), drain=["node-1"])
    assert set(moves(found.plan, "drain")) == {"a", "b", "c", "d", "e"}
    assert found.is_complete
    assert outage_budget(found, 30, 3) is None
    assert [(load.before, load.after) for load in found.loads] == [(5, 0), (0, 5)]


def test_added_node_takes_pending_portfolios_and_load() -> None:
    waits = portfolio("gpu", selector={"gpu": "yes"})
    snapshot = world([node(1, capacity=4)], [*on(1, "a", "b", "c", "d"), waits])
    found = ask(snapshot, add=["4:gpu=yes"])
    assert places(found.plan) == {"gpu": "new-1"}
    assert (found.already_pending, found.is_complete) == (0, True)
    # Five on two nodes of four: three and two, or two and three.
    assert sorted(load.after for load in found.loads) == [2, 3]
    assert any("newest version of every strategy" in note for note in notes(found, 30))


def test_note_on_the_moves_of_one_pass_is_absent_if_every_move_is_a_failover() -> None:
    def has_note(**parts: Any) -> bool:
        snapshot = world([node(1), node(2)], on(1, "a", "b", "c", "d"))
        return any("one pass starts at most" in note for note in notes(ask(snapshot, **parts), 30))

    assert has_note(drain=["node-1"])
    assert not has_note(lose=["node-1"], add=["8"])
    assert has_note(drain=["node-1"], lose=["node-2"], add=["8"])


GPU = {"gpu": "yes"}
NEEDS_GPU = portfolio("gpu", selector=GPU)
MOVING = portfolio("m", node=1, handoff=HandoffView(5, "migrate", source=1, target=2))
TWO = [node(1), node(2)]


@pytest.mark.parametrize(
    ("snapshot", "parts", "said"),
    [
        (world([node(1), node(2, capacity=1)], on(1, "a", "b")), {"drain": ["node-1"]},
         "1 portfolio moves, 1 would stay where it is."),
        (world([node(1)], on(1, "a", "b")), {"drain": ["node-1"]},
         "2 portfolios would stay where they are."),
        (world(TWO, on(1, "a"), frozen=True, frozen_failover=True), {"lose": ["node-1"]},
         "1 portfolio would wait."),
        (world(TWO, on(1, "a")), {"lose": ["node-2"]},
         "Nothing would move."),
        (world(TWO, [*on(1, "a"), NEEDS_GPU]), {"lose": ["node-2"]}, "Nothing would move."),
        # s cannot leave node-1, drained before, and does not count.
        (world([node(1, draining=True), node(2), node(3)],
               [*on(1, "s", selector=GPU), *on(2, "b")]), {"drain": ["node-2"]},
         "1 portfolio moves."),
    ],
)  # fmt: skip
def test_summary_counts_what_happens(snapshot: Snapshot, parts: dict[str, Any], said: str) -> None:
    assert sentence(ask(snapshot, **parts)) == said


def test_summary_is_told_in_chinese() -> None:
    found = ask(world(TWO, [*on(1, "a"), NEEDS_GPU]), lose=["node-2"])
    assert [span.text for span in summary(found, "zh")] == ["没有组合会移动。"]


@pytest.mark.parametrize(
    ("portfolios", "parts", "expected"),
    [
        ([MOVING, *on(1, "a", "b"), portfolio("s", node=1, desired="stopped",
                                              handoff=HandoffView(6, "stop", source=1))],
         {}, [(4, 2), (0, 1)]),
        (on(1, "p", pinned=2), {}, [(1, 0), (0, 1)]),  # a move to its pin counts once
        ([MOVING], {"lose": ["node-2"]}, [(1, 1), (0, 0)]),  # a move to a lost node: at its source
    ],
    ids=["active handoffs", "pin", "to a lost node"],
)  # fmt: skip
def test_load_before_and_after_counts_active_handoffs_and_pins_once(
    portfolios: list[PortfolioView], parts: dict[str, Any], expected: list[tuple[int, int]]
) -> None:
    found = ask(world(TWO, portfolios), **parts)
    assert [(load.before, load.after) for load in found.loads] == expected


def remedies(found: Answer) -> dict[str, str]:
    return {one.reason.code: remedy_sentence(one.reason) for one in found.remedies}


@pytest.mark.parametrize(
    ("snapshot", "parts", "code", "said"),
    [
        (world([node(1), node(2, draining=True)], on(1, "a")), {}, "undrain",
         "End the drain of node-2: then all have a place."),
        (world([node(1), node(2, capacity=2)],
               [*on(1, "a", weight=2), *on(1, "b"), *on(2, "x", "y")]), {}, "more_room",
         "Add 3 of capacity to node-2, or one node of capacity 3: then all have a place."),
        (world([node(1, labels=GPU), node(2)], on(1, "a", selector=GPU)), {}, "more_room",
         "Add one node of capacity 1 with gpu=yes: then all have a place."),
        (world([node(1), node(2, cordoned=True, capacity=1)], on(1, *"abc")), {}, "uncordon",
         "Uncordon node-2: 1 free place, then 2 would have none."),
        # Those that are pending or stuck without the loss do not count.
        (world([node(1), node(2, cordoned=True), node(4, draining=True, capacity=1)],
               [*on(1, "a"), NEEDS_GPU, *on(4, "s", selector=GPU)]), {}, "uncordon",
         "Uncordon node-2: 5 free places, then all have a place."),
        # Neither a suspect nor a new node is offered more capacity.
        (world([node(1), node(2, status="suspect", capacity=1)], [*on(1, "a"), *on(2, "x")]), {},
         "more_room", "Add one node of capacity 1: then all have a place."),
        (world([node(1)], on(1, "a", "b")), {"add": ["1"]}, "more_room",
         "Add one node of capacity 1: then all have a place."),
    ],
)  # fmt: skip
def test_remedy_of_a_loss_is_offered_with_its_effect(
    snapshot: Snapshot, parts: dict[str, Any], code: str, said: str
) -> None:
    assert remedies(ask(snapshot, lose=["node-1"], **parts))[code] == said


def test_dependence_on_a_suspect_node_is_reported() -> None:
    found = ask(world([node(1), node(2, status="suspect")], on(1, "a", "b")), lose=["node-1"])
    assert found.suspects == ("node-2",)
    assert remedies(found) == {
        "suspects_counted": "The plan uses node-2, which is suspect. "
        "Without it 2 would have no place."
    }


def test_note_that_no_other_portfolio_moves_needs_another_living_node() -> None:
    snapshot = world([node(1), node(2)], on(1, "a"))
    kept = "No portfolio on another node moves because of it."
    assert kept in notes(ask(snapshot, lose=["node-1"]), 30)
    assert kept not in notes(ask(snapshot, lose=["node-1", "node-2"]), 30)


def test_number_of_added_nodes_is_limited() -> None:
    assert len(Scenario.of([], [], ["1"] * MAX_ADDED).add) == MAX_ADDED
    with pytest.raises(
        InvalidScenario, match=f"at most {MAX_ADDED} nodes can be added, not {MAX_ADDED + 1}"
    ):
        Scenario.of([], [], ["1"] * (MAX_ADDED + 1))


def test_already_lost_nodes_make_no_storm_and_have_no_budget() -> None:
    snapshot = world([node(1), node(2, status="lost"), node(3, status="lost")], on(2, "a"))
    assert not ask(snapshot, lose=["node-2", "node-3"]).storm
    found = ask(snapshot)
    assert (found.failovers, outage_budget(found, 30, 3)) == (1, None)


def test_only_lost_portfolios_count_as_failovers() -> None:
    snapshot = world([node(1), node(2), node(3)], [*on(1, "a"), *on(2, "b")])
    found = ask(snapshot, lose=["node-1"], drain=["node-2"])
    assert (len(found.plan.move), found.failovers) == (2, 1)
    text = " ".join(notes(found, 30))
    assert "No portfolio on another node moves" not in text
    alone = " ".join(notes(ask(snapshot, lose=["node-1"]), 30))
    assert "No event is processed twice" in text and "No event is processed twice" in alone
    for phrase in ("Drained portfolios keep running", "the final result"):
        assert phrase in text and phrase not in alone
    assert "No event" not in " ".join(notes(ask(snapshot, lose=["node-3"]), 30))


def remedy_nodes(found: Answer, code: str) -> list[str]:
    """The nodes of the remedies with this code, in their order."""
    return [str(one.reason.params["node"]) for one in found.remedies if one.reason.code == code]


def test_remedies_of_uncordoning_are_sorted_by_free_places_without_full_nodes() -> None:
    coming = portfolio("m", node=3, handoff=HandoffView(5, "migrate", source=3, target=4))
    snapshot = world(
        [node(1), node(2, cordoned=True, capacity=2), node(3, cordoned=True, capacity=4),
         node(4, cordoned=True, capacity=5), node(5, cordoned=True, capacity=1)],
        [*on(1, "a"), *on(4, "x", "y"), *on(5, "z"), coming],
    )  # fmt: skip
    found = ask(snapshot, lose=["node-1"])
    assert remedy_nodes(found, "uncordon") == ["node-3", "node-2", "node-4"]
    assert [one.reason.params.get("free") for one in found.remedies][:3] == [3, 2, 2]


def test_remedies_cover_portfolios_that_stay() -> None:
    snapshot = world([node(1, labels=GPU), node(2, cordoned=True)], on(1, "a", "b", selector=GPU))
    found = ask(snapshot, drain=["node-1"])
    assert remedy_nodes(found, "uncordon") == []  # it lacks the label
    assert remedies(found)["more_room"] == (
        "Add one node of capacity 2 with gpu=yes: then all have a place."
    )


def test_new_node_with_another_strategy_version_is_no_remedy() -> None:
    fleet = [node(1, strategies={"sma": 1}), node(2, strategies={"sma": 2})]
    found = ask(world(fleet, on(1, "a", strategy="sma", strategy_version=1)), lose=["node-1"])
    assert len(found.unplaced.no_place) == 1
    assert found.remedies == ()


def test_remedy_beyond_max_capacity_is_not_offered() -> None:
    fleet = [node(1, capacity=MAX_CAPACITY + 1), node(2)]
    for weight, offers in ((MAX_CAPACITY, 1), (MAX_CAPACITY + 1, 0)):
        found = ask(world(fleet, on(1, "a", weight=weight)), lose=["node-1"])
        assert len(found.unplaced.no_place) == 1
        assert len(found.remedies) == offers
