"""A roll-out that loses its portfolios to another one, which then ends, is refused."""

from __future__ import annotations

from typing import Any

import pytest

from scheduling.db.statements import IdRow, Statement
from scheduling.db.transaction import Transaction
from scheduling.enact.artifacts import HOLD_ARTIFACT, ShaRow
from scheduling.enact.roll_out import create
from scheduling.enact.roll_out.statements import HELD_BY_OTHERS, NEW_ITEMS, NEW_ROLL_OUT
from scheduling.errors import Refused


def run_with(rows: dict[Statement[Any], list[Any]], steps: Transaction[Any]) -> None:
    """Run a transaction whose statements return these rows."""
    asked = next(steps)
    while True:
        asked = steps.send(rows[asked.statement])


def test_a_roll_out_is_refused_if_the_one_that_held_its_portfolio_has_just_ended() -> None:
    steps = create("a" * 64, [(7, 1)], at_a_time=1, canary_s=None, note="", actor="ann")
    # NEW_ITEMS met an open item of another roll-out, which has ended when HELD_BY_OTHERS is read.
    rows: dict[Statement[Any], list[Any]] = {
        HOLD_ARTIFACT: [ShaRow("a" * 64)],
        NEW_ROLL_OUT: [IdRow(2)],
        NEW_ITEMS: [],
        HELD_BY_OTHERS: [],
    }
    with pytest.raises(Refused, match="has just ended: request it again"):
        run_with(rows, steps)
