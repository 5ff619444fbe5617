"""How numbers are written on the desk."""

from __future__ import annotations

from decimal import Decimal

import pytest

from scheduling.presentation import formatting


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        (formatting.whole(9_862_904), "9,862,904"),
        (formatting.whole(None), "–"),
        (formatting.money(Decimal("103981.4700")), "103,981.47"),
        (formatting.signed_money(Decimal("1284.10")), "+1,284.10"),
        (formatting.signed_money("-842.3700"), "−842.37"),
        (formatting.signed_money(Decimal(0)), "0.00"),
        (formatting.signed_money(Decimal("-0.001")), "0.00"),
        (formatting.percent(Decimal("1284.10"), Decimal(100_000)), "+1.28 %"),
        (formatting.percent(None, Decimal(100_000)), ""),
        (formatting.price("68.021"), "68.0210"),
        (formatting.quantity("-80.0000"), "−80"),
        (formatting.quantity("0.25"), "0.2500"),
        (formatting.places(5.0), "5"),
        (formatting.places(10), "10"),
        (formatting.places(2.5), "2.5"),
        (formatting.pause(18.2), "18 ms"),
        (formatting.pause(0), "0 ms"),
        (formatting.pause(0.42), "0.4 ms"),
        (formatting.pause(33_100), "33.1 s"),
        (formatting.pause(None), "–"),
        (formatting.span(0.61), "0.6 s"),
        (formatting.span(42), "42 s"),
        (formatting.span(1380), "23 min"),
        (formatting.of_limit(1.34, 5), "1.3 of 5 s"),
    ],
)
def test_figures_are_written_with_their_unit_and_sign(written, wanted):
    assert written == wanted


def test_gain_and_loss_have_their_own_hues_and_an_even_result_has_none():
    assert [formatting.direction(v) for v in ("1", "-1", "0", None)] == ["gain", "loss", "", ""]
