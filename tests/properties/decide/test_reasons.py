"""Reasons of arbitrary plans render in every language with the same names and numbers."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.decide.planner.feasibility import node_state, obstacle
from scheduling.decide.planner.fleet_state import FleetState
from scheduling.decide.planner.planner import make_plan
from scheduling.decide.reasons import as_data, localize, render, stored_reason
from scheduling.decide.types import Policy, Reason, Snapshot
from tests.properties.decide.test_planner import POLICIES, reasons_of, snapshots
from tests.support.drawn_examples import examples
from tests.support.translation_check import check_translated

#: States shown to operators that are no obstacles.
BESIDE_OBSTACLES = ("same_node", "suspect", "flapping", "failed_there", "fits", "busy")


@given(snapshots(), POLICIES)
@settings(max_examples=examples(160), deadline=None)
def test_plan_reasons_stored_or_new_have_the_same_names_and_numbers_in_chinese(
    snapshot: Snapshot, policy: Policy
) -> None:
    for reason in reasons_of(make_plan(snapshot, policy)):
        check_translated(reason)
        why = json.loads(json.dumps(as_data(reason)))
        text = render(reason)
        assert localize(text, why, "zh-hans") == render(reason, "zh-hans") != text
        assert stored_reason(text, why) is not None


@given(snapshots(), st.sampled_from(BESIDE_OBSTACLES))
@settings(max_examples=examples(100), deadline=None)
def test_target_answers_have_the_same_names_and_numbers_in_chinese(
    snapshot: Snapshot, beside: str
) -> None:
    fleet = FleetState.of(snapshot)
    for portfolio in snapshot.portfolios:
        for node in range(len(fleet.nodes)):
            for state in (obstacle(fleet, portfolio, node) or "fits", beside):
                check_translated(Reason("on_node", node_state(fleet, portfolio, node, state)))
