"""How numbers are written on the desk."""

from __future__ import annotations

from decimal import Decimal

import pytest

from scheduling.dashboard import figures


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        (figures.whole(9_862_904), "9,862,904"),
        (figures.whole(None), "–"),
        (figures.money(Decimal("103981.4700")), "103,981.47"),
        (figures.signed_money(Decimal("1284.10")), "+1,284.10"),
        (figures.signed_money("-842.3700"), "−842.37"),
        (figures.signed_money(Decimal(0)), "0.00"),
        (figures.signed_money(Decimal("-0.001")), "0.00"),
        (figures.percent(Decimal("1284.10"), Decimal(100_000)), "+1.28 %"),
        (figures.percent(None, Decimal(100_000)), ""),
        (figures.price("68.021"), "68.0210"),
        (figures.quantity("-80.0000"), "−80"),
        (figures.quantity("0.25"), "0.2500"),
        (figures.places(5.0), "5"),
        (figures.places(10), "10"),
        (figures.places(2.5), "2.5"),
        (figures.pause(18.2), "18 ms"),
        (figures.pause(0), "0 ms"),
        (figures.pause(0.42), "0.4 ms"),
        (figures.pause(33_100), "33.1 s"),
        (figures.pause(None), "–"),
        (figures.span(0.61), "0.6 s"),
        (figures.span(42), "42 s"),
        (figures.span(1380), "23 min"),
        (figures.of_limit(1.34, 5), "1.3 of 5 s"),
        (figures.counted(1, "event"), "1 event"),
    ],
)
def test_figures_are_written_with_their_unit_and_sign(written, wanted):
    assert written == wanted


def test_gain_and_loss_have_their_own_hues_and_an_even_result_has_none():
    assert [figures.direction(v) for v in ("1", "-1", "0", None)] == ["gain", "loss", "", ""]
