"""Lines in the dialog of an action about the present state of its object."""

from __future__ import annotations

from types import SimpleNamespace

from scheduling.dashboard.actions import dialog_lines
from scheduling.operations.registry.roll_out_actions import STOP_ROLL_OUT
from tests.support.board_fixture import fleet_view


def test_stop_of_a_roll_out_counts_every_portfolio_that_it_does_not_interrupt():
    counts = {"waiting": 4, "changing": 1, "proving": 2, "done": 3}
    lines = dict(dialog_lines(STOP_ROLL_OUT, SimpleNamespace(counts=counts), fleet_view([], [])))
    assert lines["Now"] == "4 portfolios are not reached; 3 being changed go on."
