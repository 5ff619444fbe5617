"""Error messages about wrong configurations."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import translation

from portfolios.validation import configuration_errors, limits_errors
from scheduling.observe.localized_reason import localized_text


@pytest.mark.parametrize("value", [["a"], {"a": [1]}])
@pytest.mark.parametrize(
    "path",
    [
        "largest_order", "largest_position", "largest_notional", "largest_drawdown_pct",
        "orders_per_minute", "allow_short", "allow_negative_cash", "broker.fee_bps",
        "broker.tick_size", "broker.slippage_ticks",
    ],
)  # fmt: skip
def test_a_limit_that_is_a_list_or_an_object_is_shown_as_given(path: str, value: Any) -> None:
    group, _, setting = path.partition(".")
    (wrong,) = limits_errors({group: {setting: value} if setting else value})
    assert (wrong["field"], wrong["code"]) == (f"limits.{path}", "wrong_type")
    assert wrong["message"].startswith(f"{setting or group} is {value!r}; give ")
    with translation.override("zh-hans"):
        assert localized_text(wrong["message"]).startswith(f"{setting or group} 为 {value!r}；")


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"config": 7}, "config", "config is 7; give an object."),
        ({"strategy": ["x"]}, "strategy", "strategy is ['x']; give a text."),
        ({"symbols": "IBM"}, "symbols", "symbols is 'IBM'; give a list of texts."),
        ({"symbols": [7]}, "symbols", "symbols is [7]; give a list of texts."),
        ({"limits": "none"}, "limits", "limits is 'none'; give an object."),
        ({"limits": {"broker": 7}}, "limits.broker", "broker is 7; give an object."),
    ],
)
def test_a_part_of_a_configuration_of_the_wrong_type_is_named_with_its_value(
    change: dict[str, Any], field: str, message: str
) -> None:
    given = {"strategy": "sma_cross", "config": {}, "symbols": ["IBM"], "limits": {}} | change
    errors = configuration_errors(**given, check=lambda *_: [])
    assert errors == [{"field": field, "code": "wrong_type", "message": message}]
