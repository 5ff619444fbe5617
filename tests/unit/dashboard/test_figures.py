"""The figures of the board: tables by column, and what changed in them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from scheduling.dashboard.board.page import build_board_page
from scheduling.dashboard.figures import (
    CARD_FIELDS,
    NODE_FIELDS,
    Table,
    board_figures,
    encode_json,
    figures_part,
    plain_rows,
    spark_text,
    table_changes,
)
from tests.support.board_fixture import busy_fleet, canary, fleet_view, node, portfolio, quiet_fleet


def table(**columns: Sequence[Any]) -> Table:
    names = [f"p-{n}" for n in range(len(next(iter(columns.values()))))]
    return Table(names, dict(columns))


def row(figures: Table, name: str) -> dict[str, Any]:
    at = list(figures.names).index(name)
    return {field: values[at] for field, values in figures.columns.items()}


def test_every_portfolio_and_node_has_a_row_with_every_field():
    fleet = busy_fleet()
    figures = board_figures(build_board_page(fleet))
    assert list(figures.portfolios.names) == [p.name for p in fleet.portfolios]
    assert tuple(figures.portfolios.columns) == CARD_FIELDS
    assert list(figures.nodes.names) == [n.name for n in fleet.nodes]
    assert tuple(figures.nodes.columns) == NODE_FIELDS
    for columns in (figures.portfolios, figures.nodes):
        assert {len(values) for values in columns.columns.values()} == {len(columns.names)}


def test_portfolio_that_moves_is_on_its_source_with_a_slot_on_its_target():
    moving = row(board_figures(build_board_page(busy_fleet())).portfolios, "canary-4")
    assert (moving["node"], moving["target"]) == ("node-4", "node-3")
    assert moving["slot"] == "from node-4, preparing"
    assert (moving["moving"], moving["state"]) == (4183, "moving")


def test_portfolio_without_an_owner_is_in_no_column():
    waiting = row(board_figures(build_board_page(busy_fleet())).portfolios, "gpu-arb")
    assert (waiting["node"], waiting["phase"]) == ("", "pending")


def test_lease_is_sent_as_its_end_time_and_so_only_when_it_is_renewed():
    before = quiet_fleet()
    later = dataclasses.replace(
        before,
        nodes=[
            dataclasses.replace(n, lease_left_s=(n.lease_left_s or 0) - 1) for n in before.nodes
        ],
    )
    old, new = (board_figures(build_board_page(fleet)) for fleet in (before, later))
    assert figures_part(new, old) == {"now": new.now}


def test_lease_of_a_lost_node_has_ended():
    lost = row(board_figures(build_board_page(busy_fleet())).nodes, "node-5")
    assert (lost["until"], lost["cpu"]) == (0, None)
    assert "3 were placed elsewhere" in lost["note"]


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], None),
        ([1, 2, 3, 4], [1, 9, 3, 4], {"lag": {"at": [1], "to": [9]}}),
        ([1, 2, 3, 4], [7, 8, 9, 4], {"lag": [7, 8, 9, 4]}),
    ],
)
def test_column_is_sent_as_changes_or_as_a_whole_if_that_is_shorter(before, after, change):
    expected = None if change is None else {"columns": change}
    assert table_changes(table(lag=before), table(lag=after)) == expected


def test_figures_are_sent_as_a_whole_if_the_rows_or_their_order_changed():
    before = Table(["a", "b"], {"lag": [1, 2]})
    for names in (["b", "a"], ["a", "c"]):
        after = Table(names, {"lag": [1, 2]})
        assert table_changes(before, after) == {"names": names, "columns": {"lag": [1, 2]}}
    assert table_changes(None, before) == {"names": ["a", "b"], "columns": {"lag": [1, 2]}}


def test_unknown_figures_of_a_canary_are_not_shown_as_clean_zeros():
    fleet = fleet_view([node("node-1")], [canary("c", "node-1", state={})])
    shown = row(board_figures(build_board_page(fleet)).portfolios, "c")
    assert shown["canary"] == "gaps and duplicates unknown"
    assert shown["events"] is None
    assert shown["clean"] is None


def test_sparkline_text_has_one_character_per_point_by_its_height():
    # 62 levels: the middle of 0 to 61 is 30.5, rounded to even
    assert spark_text([1.0, 2.0, 3.0]) == "0Uz"
    assert spark_text([5.0, 5.0]) == "VV"
    assert spark_text([5.0]) == ""


def test_board_message_is_json_with_amounts_as_text():
    fleet = fleet_view([node("node-1")], [portfolio("a", "node-1", pnl=Decimal("-0.0001"))])
    decoded = json.loads(encode_json(figures_part(board_figures(build_board_page(fleet)))))
    assert decoded["portfolios"]["columns"]["pnl"] == ["-0.0001"]


def test_board_figures_of_an_empty_fleet_have_empty_columns():
    assert board_figures(build_board_page(fleet_view([], []))).nodes.columns["status"] == ()


def test_table_for_browsers_without_scripts_has_every_portfolio_escaped():
    fleet = fleet_view(
        [node("node-1")],
        [portfolio("a", "node-1", strategy="<b>"), portfolio("z", None, phase="pending")],
    )
    html = plain_rows(build_board_page(fleet))
    assert html.count("<tr ") == 2
    assert "&lt;b&gt;" in html
    assert "<b>" not in html
