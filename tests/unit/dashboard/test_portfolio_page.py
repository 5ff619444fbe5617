"""Page of one portfolio: revision labels, and the message of a stopped portfolio."""

from __future__ import annotations

import pytest

from portfolios.models import Revision
from scheduling.dashboard.portfolio_page import (
    revision_row,
    shown_limits,
    shown_parameters,
    stopped_message,
)
from scheduling.dashboard.value_tree import value_tree
from scheduling.models import Event
from scheduling.presentation.configuration_diff import differences
from scheduling.presentation.formatting import value_text
from tests.support.board_fixture import ago, portfolio


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [
        (3, "unproven", "replaced"),  # neither wanted nor running
        (5, "unproven", "not yet good"),  # runs
        (6, "unproven", "not yet good"),  # is wanted
        (2, "good", "good"),
        (4, "rejected", "rejected"),
    ],
)
def test_word_of_a_revision_row_depends_on_its_status_and_use(number, status, word):
    shown = portfolio("p", "node-1", revision=6, running_revision=5)
    assert revision_row(Revision(number=number, status=status), shown)["word"] == word


def test_stopped_message_names_the_actor_and_the_reason():
    shown = portfolio("p", None, phase="stopped", reason="earnings")
    event = Event(kind="portfolio_stopped", at=ago(5), actor="ann", reason="earnings")
    message = stopped_message(shown, event)
    assert message is not None and message.text.endswith(" by ann: earnings")


def test_portfolio_stopped_by_a_halt_has_no_other_stopped_message():
    shown = portfolio("p", None, phase="stopped", reason="halted by bob (halt 3)")
    event = Event(kind="portfolio_stopped", at=ago(5), actor="ann", reason="earnings")
    assert stopped_message(shown, event) is None


def test_configured_text_is_shown_without_quotes():
    assert [value_text(v) for v in ("500", 3, None, ["a"])] == ["500", "3", "null", '["a"]']


def test_parameters_are_shown_with_the_defaults_that_hold():
    schema = {
        "$ref": "#/$defs/P",
        "$defs": {"P": {"properties": {"fast": {"default": 10}, "slow": {"default": 30}}}},
    }
    shown = shown_parameters({"slow": 8, "other": "x"}, schema)
    listed = [(each.name, each.text, each.is_default) for each in shown]
    assert listed == [("fast", "10", True), ("slow", "8", False), ("other", "x", False)]
    assert [each.name for each in shown_parameters({"a": 1}, None)] == ["a"]


def test_limits_of_the_broker_are_shown_one_by_one():
    limits = {"allow_short": True, "broker": {"fee_bps": "2"}}
    assert shown_limits(limits) == [("allow_short", "true"), ("broker fee_bps", "2")]


def test_state_tree_is_bounded_and_counts_what_it_leaves_out():
    tree = value_tree({"closes": {f"S{i}": [1, 2] for i in range(100)}, "text": "x" * 500})
    closes, text = tree.children
    assert (closes.text, len(closes.children), closes.more) == ("100 entries", 60, 40)
    assert closes.children[0].text == "1, 2"
    assert text.text.endswith("… (500 characters)")
    deep: object = 1
    for _ in range(50):
        deep = [deep, [2]]
    found = value_tree({"deep": deep})
    depth = 0
    while found.children:
        found, depth = found.children[0], depth + 1
    assert (depth, found.more) == (6, 2)
    many = value_tree([[[i, [0]] for i in range(60)] for _ in range(60)])
    assert sum(1 for _ in _walk(many)) <= 401


def _walk(branch):
    yield branch
    for child in branch.children:
        yield from _walk(child)


def test_differences_name_each_field_that_differs():
    before = {"config": {"fast": 3, "q": "1"}, "symbols": ["A", "B"], "limits": {}}
    after = {"config": {"fast": 4, "q": "1"}, "symbols": ["B", "C"], "limits": {"x": {"y": True}}}
    found = differences(before, after)
    assert found == [("config.fast", "3", "4"), ("symbols", "A", "C"), ("limits.x.y", "", "true")]
    assert differences(after, after) == []
    reordered = differences({"symbols": ["A", "B"]}, {"symbols": ["B", "A"]})
    assert reordered == [("symbols", "A B", "B A")]
