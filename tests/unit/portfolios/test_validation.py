"""What is said of a wrong configuration."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import translation

from portfolios.validation import limits_errors
from scheduling.observe.localized_reason import localized_text


@pytest.mark.parametrize("value", [[1], ["a"], {}, {"a": [1]}])
@pytest.mark.parametrize(
    "path",
    [
        "largest_order",
        "largest_position",
        "largest_notional",
        "largest_drawdown_pct",
        "orders_per_minute",
        "allow_short",
        "allow_negative_cash",
        "broker.fee_bps",
        "broker.tick_size",
        "broker.slippage_ticks",
    ],
)
def test_a_limit_that_is_a_list_or_an_object_is_shown_as_given(path: str, value: Any) -> None:
    group, _, setting = path.partition(".")
    (wrong,) = limits_errors({group: {setting: value} if setting else value})
    assert (wrong["field"], wrong["code"]) == (f"limits.{path}", "wrong_type")
    assert wrong["message"].startswith(f"{setting or group} is {value!r}; give ")
    with translation.override("zh-hans"):
        assert localized_text(wrong["message"]).startswith(f"{setting or group} 为 {value!r}；")
