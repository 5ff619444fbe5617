"""The form of a portfolio: typed fields of its strategy, dry run, create, clone and delete."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from portfolios.models import Portfolio
from scheduling.operations import EditBase, dry_runs
from scheduling.permissions import Role
from tests.support.artifacts import store_artifact
from tests.support.factories import make_node, make_portfolio
from tests.support.pages import DIALOG, signed_in, text_of

pytestmark = pytest.mark.django_db


def typed(**given: str) -> dict[str, str]:
    """Return what a browser sends for a new portfolio of sma_cross."""
    return {
        "act": "save", "name": "ibm-cross", "strategy": "sma_cross", "feed": "replay",
        "starting_cash": "100000", "desired_state": "running", "symbols": "IBM, XOM",
        "config.fast": "5", "config.slow": "", "config.quantity": "12.5",
        "limits.largest_order": "100", "limits.allow_short": "true",
        "limits.broker.fee_bps": "2", "weight": "2", "priority": "1", "selector": "",
        "catch_up": "state_only", "note": "first", **given,
    }  # fmt: skip


def test_form_has_a_typed_field_for_each_parameter_with_its_default_and_bounds(
    desk: Client,
) -> None:
    page = text_of(desk.get("/new-portfolio/?strategy=sma_cross"))
    assert re.search(r'<input[^>]*name="config.fast"[^>]*placeholder="10"', page)
    assert "whole number, ≥ 1, ≤ 1000" in page
    assert re.search(r'<input[^>]*name="limits.largest_order"', page)
    assert '<option value="IBM"></option>' in page


def test_form_values_become_a_portfolio_with_the_right_types(desk: Client) -> None:
    answer = desk.post("/new-portfolio/", typed())
    assert (answer.status_code, answer["Location"]) == (302, "/portfolios/ibm-cross/")
    made = Portfolio.objects.get(name="ibm-cross")
    revision = made.revisions.get()
    assert (revision.config, revision.symbols) == ({"fast": 5, "quantity": "12.5"}, ["IBM", "XOM"])
    assert revision.limits == {
        "largest_order": "100", "allow_short": True, "broker": {"fee_bps": "2"},
    }  # fmt: skip
    assert (made.weight, made.priority, revision.note) == (2, 1, "first")


REFUSED = (
    ({"config.fast": "ten"}, "config.fast", "give a whole number"),
    ({"config.fast": "40", "config.slow": "30"}, "config.fast", "must be smaller than slow"),
    ({"symbols": "IBM NOSUCH"}, "symbols", "The feed has no NOSUCH"),
    ({"limits.largest_order": "-1"}, "limits.largest_order", "it must be over 0"),
    ({"limits.broker.tick_size": "0"}, "limits.broker.tick_size", "it must be over 0"),
    ({"weight": "0"}, "weight", "it must be 1 to 1,000,000"),
    ({"selector": "gpu"}, "selector", "write NAME=VALUE"),
    ({"name": "No Slug"}, "name", "is not a valid name"),
    ({"note": "a\x07b"}, "note", "U+0007"),
    ({"strategy": ""}, "strategy", "Choose the strategy"),
)


def test_refusal_stands_beside_its_field_and_keeps_all_that_was_typed(desk: Client) -> None:
    for given, field, said in REFUSED:
        answer = desk.post("/new-portfolio/", typed(**given))
        page = text_of(answer)
        assert answer.status_code == 400
        (error,) = re.findall(rf'data-field="{field}">([^<]*)<', page)
        assert said in error.replace("&#x27;", "'")
        kept = {"config.quantity": "12.5", "note": "first", "limits.broker.fee_bps": "2", **given}
        for name, value in kept.items():
            if name not in ("strategy", "note") and (given.get("strategy") is None):
                assert f'name="{name}" value="{value}"' in page
        assert not Portfolio.objects.exists()


def test_choosing_another_strategy_shows_its_fields_and_keeps_what_was_typed(desk: Client) -> None:
    page = text_of(desk.post("/new-portfolio/", typed(act="rebuild", strategy="mean_reversion")))
    assert 'name="config.lookback"' in page
    assert '<input type="hidden" name="config.fast" value="5">' in page
    assert 'name="symbols" value="IBM, XOM"' in page
    assert "field-error" not in page


def test_single_parameter_of_a_strategy_keeps_its_own_label(desk: Client) -> None:
    sent = {"strategy": "buy_and_hold", "act": "rebuild"}
    page = desk.post("/new-portfolio/", sent).content.decode()
    groups = re.findall(r'data-group="(\w+)".*?<div class="(fields.*?)">', page, re.DOTALL)
    assert [key for key, css in groups if "single" in css] == ["symbols"]
    assert re.search(r'<label for="id_config.quantity">\s*quantity', page)


def test_dry_run_says_where_the_portfolio_would_run_and_changes_nothing(desk: Client) -> None:
    answer = desk.post("/new-portfolio/", typed(act="check"))
    assert "ibm-cross would be pending: " in text_of(answer)
    make_node("node-2", capacity=8)
    answer = desk.post("/new-portfolio/", typed(act="check"))
    assert "ibm-cross would be placed on node-2: load 0 → 2 of 8." in text_of(answer)
    assert not Portfolio.objects.exists()


def test_clone_begins_with_the_values_of_the_original(desk: Client) -> None:
    make_portfolio(
        "p", strategy="sma_cross", symbols=["IBM"], config={"fast": 7, "quantity": 3},
        limits={"largest_position": "9"},
    )  # fmt: skip
    assert 'name="config.fast" value="7"' in text_of(desk.get("/portfolios/p/clone/"))
    answer = desk.post(
        "/portfolios/p/clone/",
        typed(**{
            "name": "p2", "config.fast": "7", "config.quantity": "3", "symbols": "IBM",
            "limits.largest_order": "", "limits.largest_position": "9", "limits.allow_short": "",
            "limits.broker.fee_bps": "",
        }),
    )  # fmt: skip
    assert answer.status_code == 302
    revision = Portfolio.objects.get(name="p2").revisions.get()
    # Untouched values keep their type: the quantity was a number, not a text.
    assert revision.config == {"fast": 7, "quantity": 3}
    assert revision.limits == {"largest_position": "9"}


def test_strategy_of_an_artifact_has_its_fields_too(desk: Client) -> None:
    artifact = store_artifact()
    key = f"momentum@{artifact.sha256}"
    page = text_of(desk.get(f"/new-portfolio/?strategy=momentum&artifact={artifact.sha256}"))
    assert f'<option value="{key}" selected>momentum</option>' in page
    assert 'name="config.fast"' in page


def test_chosen_node_pins_the_new_portfolio(desk: Client) -> None:
    make_node("node-2")
    desk.post("/new-portfolio/", typed(pinned_node="node-2"))
    made = Portfolio.objects.select_related("run__pinned_node").get(name="ibm-cross")
    assert str(made.run.pinned_node) == "node-2"


def test_viewer_may_not_create_clone_or_delete_a_portfolio(desk: Client) -> None:
    make_portfolio("p")
    viewer = signed_in(Role.VIEWER)
    for address in ("/new-portfolio/", "/portfolios/p/clone/", "/portfolios/p/delete/"):
        for answer in (viewer.get(address), viewer.post(address, typed())):
            assert answer.status_code == 403
            assert "is a viewer" in text_of(answer)
    assert "new-portfolio" not in text_of(viewer.get("/portfolios/"))
    assert "/delete/" not in text_of(viewer.get("/portfolios/p/"))
    assert Portfolio.objects.count() == 1


def test_backtest_shows_what_the_configuration_would_have_done(desk: Client) -> None:
    page = text_of(desk.post("/new-portfolio/", typed(act="backtest"), **DIALOG))
    (orders,) = re.findall(r'data-orders="(\d+)"', page)
    assert int(orders) > 0
    assert re.search(r"Over the first [\d,]+ events of its symbols \(20\d\d-", page)
    assert "<form" not in page
    assert not Portfolio.objects.exists()


def test_second_dry_run_is_told_to_wait(desk: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_runs, "SLOT_WAIT_S", 0.01)
    with dry_runs._one_at_a_time():
        answer = desk.post("/new-portfolio/", typed(act="backtest"))
    assert answer.status_code == 503
    assert "Another dry run is under way" in text_of(answer)
    assert 'name="config.quantity" value="12.5"' in text_of(answer)


def test_slow_dry_run_is_stopped(desk: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_runs, "LIMIT_S", 0.0)
    answer = desk.post("/new-portfolio/", typed(act="backtest"))
    assert answer.status_code == 409
    assert "The dry run was stopped after 0 s" in text_of(answer)


def opened(desk: Client, **given: str) -> dict[str, str]:
    """Return what a browser sends of the edit form of `p`, with changes."""
    base = EditBase.of(Portfolio.objects.get(name="p")).token
    return {
        "base": base, "strategy": "sma_cross", "config.fast": "5", "config.quantity": "3",
        "symbols": "IBM", "weight": "1", "priority": "0", "catch_up": "state_only", **given,
    }  # fmt: skip


def test_dry_run_of_an_edit_shows_the_difference_and_both_backtests(desk: Client) -> None:
    make_portfolio("p", strategy="sma_cross", symbols=["IBM"], config={"fast": 5, "quantity": 3})
    given = opened(desk, **{"config.fast": "2", "config.slow": "9", "act": "check"})
    page = text_of(desk.post("/portfolios/p/edit/", given))
    assert re.search(r'data-differs="config.fast">.*?<del>5</del>.*?<ins>2</ins>', page)
    assert "Revision 2 would be made, and it starts when it is placed." in page
    given["act"] = "backtest"
    answer = desk.post("/portfolios/p/edit/", given, **DIALOG)
    ((new, old),) = re.findall(r": ([\d,]+) orders instead of ([\d,]+)\.", text_of(answer))
    assert new != old
    assert Portfolio.objects.get().revision == 1


def test_dry_run_of_an_edit_counts_the_events_of_the_new_symbols(desk: Client) -> None:
    make_portfolio("p", strategy="sma_cross", symbols=["IBM", "KO"])

    def events(symbols: str) -> int:
        answer = desk.post("/portfolios/p/edit/", opened(desk, symbols=symbols, act="backtest"))
        (counted,) = re.findall(r"Over the first ([\d,]+) events", text_of(answer))
        return int(counted.replace(",", ""))

    assert events("IBM") < events("IBM, KO")


def test_backtest_that_a_limit_halts_names_the_whole_range_and_the_event_of_the_halt(
    desk: Client,
) -> None:
    make_portfolio("p", strategy="sma_cross", symbols=["IBM"], config={"fast": 5, "quantity": 3})
    given = opened(desk, **{"limits.largest_drawdown_pct": "0.001", "act": "backtest"})
    page = text_of(desk.post("/portfolios/p/edit/", given, **DIALOG))
    ((events, halted_at),) = re.findall(
        r"Over the first ([\d,]+) events .*; a limit would halt it at event (\d+): the equity",
        page,
    )
    assert int(events.replace(",", "")) > int(halted_at)
    desk.cookies["ginkgo-language"] = "zh-hans"
    page = text_of(desk.post("/portfolios/p/edit/", given, **DIALOG))
    assert f"会在第 {halted_at} 个事件处被限额叫停：权益低于峰值" in page
    assert "the equity" not in page


def test_label_with_a_comma_stays_as_it_is_in_an_edit(desk: Client) -> None:
    selector, text = {"rack": "1,2", "zone": "a"}, {"selector": "rack=1,2, zone=a"}
    make_portfolio("p", strategy="sma_cross", symbols=["IBM"], selector=selector)
    assert desk.post("/portfolios/p/edit/", opened(desk, weight="2", **text)).status_code == 302
    made = Portfolio.objects.get()
    assert (made.weight, made.selector) == (2, selector)


def test_values_of_an_installed_strategy_are_edited_as_json(desk: Client) -> None:
    portfolio = make_portfolio("p", strategy="buy_and_hold", symbols=["IBM"])
    portfolio.revisions.update(strategy="only_on_nodes", config={"a": [1, 2]})
    page = text_of(desk.get("/portfolios/p/edit/"))
    assert re.search(r'<textarea name="config"[^>]*> \{ &quot;a&quot;: \[', page)
