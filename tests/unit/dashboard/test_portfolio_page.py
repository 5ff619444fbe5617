"""Page of one portfolio: revision labels, and the message of a stopped portfolio."""

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
def test_revision_row_labels_a_replaced_revision(number, status, word):
    shown = portfolio("p", "node-1", revision=6, running_revision=5)
    assert revision_row(Revision(number=number, status=status), shown)["word"] == word


def test_stopped_message_names_the_actor_and_the_reason():
    shown = portfolio("p", None, phase="stopped", reason="earnings")
    event = Event(kind="portfolio_stopped", at=ago(5), actor="ann", reason="earnings")
    assert stopped_message(shown, event).text.endswith(" by ann: earnings")


def test_stopped_message_gives_way_to_the_reason_of_a_halt():
    shown = portfolio("p", None, phase="stopped", reason="halted by bob (halt 3)")
    event = Event(kind="portfolio_stopped", at=ago(5), actor="ann", reason="earnings")
    assert stopped_message(shown, event) is None


def test_configured_shows_text_without_quotes():
    assert [configured(v) for v in ("500", 3, None, ["a"])] == ["500", "3", "null", '["a"]']
