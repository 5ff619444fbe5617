"""Reasons of arbitrary plans render in every language with the same names and numbers."""

from __future__ import annotations

import json

from hypothesis import given, settings

from scheduling.decide.planner.planner import make_plan
from scheduling.decide.reasons import as_data, localize, render, stored_reason
from scheduling.decide.types import Policy, Snapshot
from tests.properties.decide.test_planner import POLICIES, reasons_of, snapshots
from tests.support.drawn_examples import examples
from tests.support.translation_check import check_translated


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
