"""Two people edit one portfolio: the second is told who changed what, and reverts nothing."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from portfolios.models import Portfolio
from scheduling import operations
from scheduling.enact.portfolio_edits import edit_portfolio
from scheduling.errors import Refused
from scheduling.models import Handoff
from scheduling.operations import EditBase, rebase
from tests.support.api_client import ApiClient
from tests.support.commands import told
from tests.support.concurrency import Held, at_once, behind
from tests.support.factories import begin_reload, make_node, make_portfolio, make_running_portfolio
from tests.support.pages import DIALOG

pytestmark = pytest.mark.django_db

PAGE = "/portfolios/ibm-sma/edit/"


@pytest.fixture
def portfolio() -> Portfolio:
    config = {"fast": 3, "slow": 8, "quantity": "100"}
    return make_portfolio("ibm-sma", strategy="sma_cross", symbols=["IBM"], config=config)


def opened(browser: Client) -> dict[str, str]:
    """Return the fields of the edit form, as the browser would send them back."""
    page = browser.get(PAGE, **DIALOG).content.decode()
    fields = dict(re.findall(r'<input type="[a-z]+" name="([\w.]+)"(?: value="([^"]*)")?', page))
    del fields["spread_hard"]  # a box that is not ticked is not sent
    fields |= {"strategy": "sma_cross", "catch_up": "state_only", "note": ""}
    return {name: html.unescape(value) for name, value in fields.items()}


def saved(browser: Client, fields: dict[str, str]) -> Any:
    return browser.post(PAGE, fields, **DIALOG)


def text_of(answer: Any) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html.unescape(answer.content.decode())).split())


def with_quantity(fields: dict[str, str], quantity: str) -> dict[str, str]:
    return {**fields, "config.quantity": quantity}


def config_now() -> Any:
    portfolio = Portfolio.objects.get()
    return portfolio.revisions.get(number=portfolio.revision).config


def test_form_opened_before_another_change_is_refused_and_reverts_nothing(
    portfolio: Portfolio, browser: Client
) -> None:
    first, second = opened(browser), opened(browser)
    assert saved(browser, with_quantity(first, "200")).status_code == 200
    answer = saved(browser, {**second, "priority": "5"})
    assert answer.status_code == 409
    told = r"r2 by dora \d+ s ago changed quantity 100 → 200\. Nothing was saved"
    assert re.search(told, text_of(answer))
    # The form keeps the change of the user beside the current values: a second save stores both.
    page = answer.content.decode()
    assert "keeps your changes and shows the current value of every other field" in text_of(answer)
    assert 'name="priority" value="5"' in page
    assert saved(browser, {**second, "priority": "5", **_rebased_form(page)}).status_code == 200
    now = Portfolio.objects.get()
    assert (now.priority, now.revision, config_now()["quantity"]) == (5, 2, "200")


def _rebased_form(page: str) -> dict[str, str]:
    found = re.findall(r'name="(config\.quantity|base)" value="([^"]+)"', page)
    assert len(found) == 2
    return dict(found)


def test_conflict_over_one_parameter_shows_its_old_its_stored_and_the_typed_value(
    portfolio: Portfolio, browser: Client
) -> None:
    second = opened(browser)
    changed = {"config": {"fast": 3, "slow": 8, "quantity": "200"}}
    operations.revise_portfolio("ibm-sma", changed, actor="ann")
    answer = saved(browser, with_quantity(second, "50"))
    row = re.search(r'data-field="quantity" data-clash>(.*?)</tr>', answer.content.decode(), re.S)
    assert row is not None
    assert re.findall(r"<td>(?:<b>)?([^<]+)", row[1]) == ["quantity", "100", "200", "50"]
    assert _rebased_form(answer.content.decode())["config.quantity"] == "50"


def test_change_that_makes_no_revision_causes_a_conflict_too(
    portfolio: Portfolio, browser: Client
) -> None:
    second = opened(browser)
    operations.revise_portfolio("ibm-sma", {"priority": 7}, actor="ann")
    answer = saved(browser, {**second, "weight": "2"})
    assert answer.status_code == 409
    assert re.search(r"ann \d+ s ago changed priority 0 → 7", text_of(answer))
    headers = {"X-Dashboard": "dialog", "Accept-Language": "zh-hans"}
    answer = browser.post(PAGE, {**second, "weight": "2"}, headers=headers)
    assert re.search(r"\d+ 秒前 ann 修改了 priority 0 → 7", text_of(answer))
    assert Portfolio.objects.get().weight == 1


def test_conflict_with_a_reload_to_an_earlier_revision_names_who_reloaded(browser: Client) -> None:
    daemon = make_node("node-1")
    config = {"fast": 3, "slow": 8, "quantity": "100"}
    make_running_portfolio("ibm-sma", daemon, strategy="sma_cross", symbols=["IBM"], config=config)
    begin_reload("ibm-sma", {"config": {**config, "quantity": "200"}})
    Handoff.objects.update(state="done")
    form = opened(browser)
    operations.reload("ibm-sma", actor="bob", revision=1)
    answer = saved(browser, {**form, "weight": "2"})
    assert answer.status_code == 409
    assert re.search(r"r1 by bob \d+ s ago changed quantity 200 → 100", text_of(answer))


def test_form_opened_before_a_portfolio_was_deleted_and_created_again_is_refused(
    portfolio: Portfolio, browser: Client
) -> None:
    form = opened(browser)
    operations.delete_portfolio("ibm-sma", actor="ann")
    make_portfolio("ibm-sma", strategy="sma_cross", symbols=["IBM"])
    answer = saved(browser, {**form, "priority": "5"})
    assert answer.status_code == 409
    assert "ibm-sma was deleted and created again since" in text_of(answer)
    assert Portfolio.objects.present().get().priority == 0


def test_form_with_an_invalid_base_is_refused_and_keeps_the_input(
    portfolio: Portfolio, browser: Client
) -> None:
    answer = saved(browser, {**opened(browser), "priority": "5", "base": "nonsense"})
    assert answer.status_code == 400
    assert "does not say which values it was opened with" in text_of(answer)
    assert 'name="priority" value="5"' in answer.content.decode()
    assert Portfolio.objects.get().priority == 0


def test_patch_with_an_old_etag_gets_412_with_who_what_and_when(operator: ApiClient) -> None:
    make_portfolio("ibm-sma", strategy="sma_cross", symbols=["IBM"], config={"quantity": "100"})
    etag = operator.get("portfolios/ibm-sma/").headers["ETag"]
    first = operator.patch("portfolios/ibm-sma/", {"config": {"quantity": "200"}}, if_match=etag)
    assert first.status_code == 202
    assert first.headers["ETag"] != etag
    second = operator.patch("portfolios/ibm-sma/", {"priority": 5}, if_match=etag)
    document = second.json()
    assert (second.status_code, document["status"]) == (412, 412)
    assert document["code"] == "changed_meanwhile"
    assert re.search(r"r2 by olive \d+ s ago changed quantity 100 → 200", document["detail"])
    assert document["changes"] == [{"field": "config.quantity", "before": "100", "after": "200"}]
    assert Portfolio.objects.get().priority == 0
    again = operator.patch("portfolios/ibm-sma/", {"priority": 5}, if_match=first.headers["ETag"])
    assert again.status_code == 202
    assert operator.patch("portfolios/ibm-sma/", {"priority": 6}, if_match="*").status_code == 202


def test_etag_that_the_api_never_returned_is_an_invalid_if_match(operator: ApiClient) -> None:
    make_portfolio("ibm-sma")
    for etag in ('"x"', '"r1"', '"WzEsMl0"', "Ünsinn"):
        answer = operator.patch("portfolios/ibm-sma/", {"priority": 5}, if_match=etag)
        assert answer.status_code == 400
        assert [error["field"] for error in answer.json()["errors"]] == ["If-Match"]


def test_command_changes_one_parameter_and_leaves_the_others(portfolio: Portfolio) -> None:
    changes = ("--set", "quantity=200", "--priority", "5", "--if-revision", "1")
    document = told("update_portfolio", "ibm-sma", *changes)
    assert document["portfolio"]["config"] == {"fast": 3, "slow": 8, "quantity": 200}
    assert (document["portfolio"]["revision"], document["portfolio"]["priority"]) == (2, 5)


def test_command_with_an_old_revision_says_who_changed_it(portfolio: Portfolio) -> None:
    told("update_portfolio", "ibm-sma", "--set", "quantity=200")
    with pytest.raises(CommandError, match=r"r2 by .* changed quantity 100 → 200") as caught:
        call_command("update_portfolio", "ibm-sma", "--priority", "5", "--if-revision", "1")
    assert caught.value.returncode == 1
    assert Portfolio.objects.get().priority == 0
    with pytest.raises(CommandError, match="ibm-sma is at r2 and has no r9"):
        call_command("update_portfolio", "ibm-sma", "--priority", "5", "--if-revision", "9")


@pytest.mark.django_db(transaction=True)
def test_of_two_edits_at_once_one_is_stored_and_one_refused() -> None:
    make_portfolio("p")
    for priority in range(1, 4):
        base = EditBase.of(Portfolio.objects.get())

        def edit(base: EditBase = base, priority: int = priority) -> Any:
            return operations.revise_portfolio("p", {"priority": priority}, actor="ann", base=base)

        outcomes = at_once(edit, edit)
        refusals = [o for o in outcomes if isinstance(o, Refused)]
        assert [r.code for r in refusals] == ["changed_meanwhile"], outcomes


@pytest.mark.django_db(transaction=True)
def test_edit_statement_refuses_a_change_made_between_its_read_and_its_write() -> None:
    portfolio = make_portfolio("p")
    base = EditBase.of(portfolio)
    held = Held(edit_portfolio(portfolio.pk, 1, {"priority": 9}))

    change = {"weight": 2}
    refusal = behind(held, lambda: operations.revise_portfolio("p", change, actor="ann", base=base))
    assert isinstance(refusal, Refused) and refusal.code == "changed_meanwhile"
    assert Portfolio.objects.get().weight == 1


def test_rebase_keeps_changes_of_both_sides_and_prefers_the_typed_value() -> None:
    base = {"config": {"a": 1, "b": 2, "c": 3}, "weight": 1, "priority": 0}
    now = {"config": {"a": 9, "b": 2, "c": 3, "d": 4}, "weight": 1, "priority": 8}
    yours = {"config": {"a": 1, "b": 5}, "weight": 2, "priority": 0, "note": "n"}
    assert rebase(base, now, yours) == {
        "config": {"a": 9, "b": 5, "d": 4}, "weight": 2, "priority": 8, "note": "n",
    }  # fmt: skip
