"""The form that moves several portfolios at once, and the result it shows for each."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.utils import translation

from scheduling import operations
from scheduling.dashboard.views.moves import _none_can_move
from scheduling.decide.planner.group_targets import GroupTarget, NoMove
from scheduling.decide.types import Reason
from scheduling.models import Handoff
from scheduling.presentation.group_moves import group_target_lines
from tests.support.factories import make_node, make_trader
from tests.support.pages import DIALOG, text_of

pytestmark = pytest.mark.django_db

FORM = "/migrate/?portfolio=able&portfolio=baker&portfolio=charlie"


@pytest.fixture(autouse=True)
def fleet(db: None) -> None:
    """Three portfolios on node-1; node-2 has room for two, node-3 is cordoned."""
    node = make_node("node-1")
    for name in ("able", "baker", "charlie"):
        make_trader(name, node)
    make_node("node-2", capacity=2)
    make_node("node-3")
    operations.cordon("node-3", actor="ann")


def target(page: str, node: str) -> str:
    """Return the words of one target of the form."""
    (label,) = re.findall(rf'<label [^>]*data-target="{re.escape(node)}".*?</label>', page)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", label)).strip()


def test_migrate_several_form_says_how_many_can_go_to_each_target_and_why_others_cannot(
    desk: Client,
) -> None:
    page = text_of(desk.get(FORM, **DIALOG))
    assert "Migrate 3 portfolios" in page
    assert target(page, "node-2") == (
        "node-2 0 → 2 / 2 2 of 3 can go charlie: node-2 is full: load 2 of 2, the portfolio needs 1"
    )
    assert target(page, "node-1") == (
        "node-1 3 / 5 none of 3 can go able, baker, charlie: it already runs on node-1"
    )
    assert "node-3 is cordoned" in target(page, "node-3")
    chosen = "wherever the balancer wants 2 of 3 can go: 2 to node-2 charlie: "
    assert target(page, "*").startswith(chosen)
    assert len(re.findall(r'name="target_node"[^>]*disabled', page)) == 2
    assert 'value="*" data-option="" checked' in page
    assert "manage.py migrate_portfolio able baker charlie" in page
    assert "<html" not in page


def test_migrate_several_form_for_a_target_that_takes_none_says_why(desk: Client) -> None:
    page = text_of(desk.get(f"{FORM}&to=node-3", **DIALOG))
    (said,) = re.findall(r'role="alert">(.*?)</p>', page)
    sentence = re.sub(r" ?<[^>]+> ?", "", said).strip()
    why = "able, baker, charlie: node-3 is cordoned: it takes no new portfolios."
    assert sentence == f"none of 3 can go; {why}"


def test_refusals_of_several_portfolios_are_joined_with_chinese_punctuation() -> None:
    busy = tuple(NoMove(name, "x", Reason("in_handoff")) for name in ("a", "b"))
    answer = GroupTarget("node-1", (), (*busy, NoMove("c", "x", Reason("needs_start"))), ())
    with translation.override("zh-hans"):
        (lines,) = group_target_lines([answer], 3)
        assert _none_can_move(lines) == (
            "不能迁移（共 3 个）；a、b：已在交接中；请等待交接结束；"
            "c：未在运行：已停止、已叫停或已隔离；请先启动。"
        )


def test_migrate_several_shows_the_result_of_each_portfolio(desk: Client) -> None:
    given = {"portfolio": ["able", "baker", "charlie"], "target_node": "node-2", "reason": "rack"}
    page = text_of(desk.post("/migrate/", given, **DIALOG))
    assert "2 of 3 portfolios are moving" in page
    found = re.findall(r'data-portfolio="(\w+)" data-outcome="(\w+)"', page)
    assert found == [("able", "moving"), ("baker", "moving"), ("charlie", "refused")]
    refusal = "charlie cannot move to node-2: node-2 is full: load 2 of 2, the portfolio needs 1."
    assert refusal in page
    begun = Handoff.objects.filter(kind="migrate")
    told = {(h.requested_by, h.reason, str(h.target_node)) for h in begun}
    assert told == {("mira", "rack", "node-2")}


def test_a_group_of_which_none_moves_is_refused_and_stays_selected(desk: Client) -> None:
    given = {"portfolio": ["able", "baker"], "target_node": "node-3"}
    answer = desk.post("/migrate/", given, **DIALOG)
    page = text_of(answer)
    assert (answer.status_code, "0 of 2 portfolios are moving" in page) == (409, True)
    assert 'data-outcome="moving"' not in page and "node-3 is cordoned" in page


def test_several_portfolios_moved_to_any_node_are_not_pinned(desk: Client) -> None:
    given = {"portfolio": ["able", "baker"], "target_node": "*"}
    assert "2 of 2 portfolios are moving" in text_of(desk.post("/migrate/", given))
    assert not Handoff.objects.filter(portfolio__run__pinned_node__isnull=False).exists()


def test_bad_request_to_migrate_several_says_what_is_wrong_and_moves_nothing(desk: Client) -> None:
    many = "&".join(f"portfolio=p{i}" for i in range(101))
    none, too_many = "No portfolios to move", "Too many portfolios to move"
    for address, status, title, words in (
        ("/migrate/", 400, none, "Choose 1 to 100 portfolios on the board; these are 0."),
        (f"/migrate/?{many}", 400, too_many, "these are 101."),
        ("/migrate/?portfolio=able&portfolio=nix", 404, "No such portfolio", "named nix."),
    ):
        answer = desk.get(address, **DIALOG)
        assert answer.status_code == status
        assert title in text_of(answer) and words in text_of(answer)
    answer = desk.post("/migrate/", {"portfolio": ["able"]}, **DIALOG)
    assert (answer.status_code, "or the balancer." in text_of(answer)) == (400, True)
    answer = desk.post("/migrate/", {"portfolio": ["able"], "target_node": "zzz"}, **DIALOG)
    assert (answer.status_code, "no node named zzz" in text_of(answer)) == (404, True)
    assert not Handoff.objects.filter(kind="migrate").exists()
