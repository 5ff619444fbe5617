"""What the page of one portfolio says of its revisions and of who stopped it."""

from __future__ import annotations

import pytest

from portfolios.models import Revision
from scheduling.dashboard.portfolio_page import revision_row, stopped_message
from scheduling.models import Event
from scheduling.templatetags.dashboard import configured
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
def test_a_revision_that_another_one_replaced_is_not_said_to_be_proved(number, status, word):
    line = portfolio("p", "node-1", revision=6, running_revision=5)
    assert revision_row(Revision(number=number, status=status), line)["word"] == word


def test_a_stopped_portfolio_says_who_stopped_it_and_why():
    line = portfolio("p", None, phase="stopped", reason="earnings")
    asked = Event(kind="portfolio_stopped", at=ago(5), actor="ann", reason="earnings")
    assert stopped_message(line, asked).text.endswith(" by ann: earnings")


def test_a_halted_portfolio_keeps_the_sentence_of_its_halt():
    line = portfolio("p", None, phase="stopped", reason="halted by bob (halt 3)")
    asked = Event(kind="portfolio_stopped", at=ago(5), actor="ann", reason="earnings")
    assert stopped_message(line, asked) is None


def test_a_configured_text_is_shown_without_quotes():
    assert [configured(v) for v in ("500", 3, None, ["a"])] == ["500", "3", "null", '["a"]']
