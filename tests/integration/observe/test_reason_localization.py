"""Reasons are kept as text and as data, and told in the language of whoever reads them."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from scheduling import operations
from scheduling.dashboard.live_views import LiveView, parse_view, render_views
from scheduling.decide.reasons import render
from scheduling.decide.types import Reason
from scheduling.models import Handoff, Node, Run
from scheduling.observe.fleet_view.read import read_fleet_view
from scheduling.permissions import Role
from tests.support.api_client import ApiClient, counted_statements
from tests.support.factories import FakeNode, make_node, make_portfolio, make_trader, tick
from tests.support.pages import signed_in

pytestmark = pytest.mark.django_db

BROWSER = "zh-CN,zh;q=0.9,en;q=0.8"  #: what a browser in Shanghai sends
NEEDS_GPU = "needs gpu=yes: 0 of 1 node has it; add the label to one node or drop the selector"
NEEDS_GPU_ZH = "需要 gpu=yes：1 个节点中 0 个具备；给一个节点加上该标签，或去掉选择器"
ONLY_NODE = "node-1 is the only eligible node: load 0 → 1 of 5"
ONLY_NODE_ZH = "node-1 是唯一可用的节点：负载 0 → 1，共 5"


def run_of(name: str) -> Run:
    return Run.objects.get(portfolio__name=name)


@pytest.fixture
def daemon() -> FakeNode:
    return make_node("node-1")


@pytest.fixture
def pending(daemon: FakeNode) -> Run:
    """The run of a portfolio that has no node with its label, as a pass left it."""
    make_portfolio("p", selector={"gpu": "yes"})
    tick()
    return run_of("p")


def reason_data(row: Run | Handoff) -> dict[str, Any]:
    assert row.why is not None
    return dict(row.why)


def sentence_of(row: Run | Handoff) -> str:
    why = reason_data(row)
    return render(Reason(why["code"], why["params"]))


# --- what is stored ------------------------------------------------------------------------------


def test_a_pass_stores_the_reason_of_a_pending_portfolio_as_data(pending: Run) -> None:
    assert pending.reason == NEEDS_GPU == sentence_of(pending)
    assert reason_data(pending)["code"] == "no_selector"
    assert reason_data(pending)["params"]["nodes"] == 1


def test_a_placement_stores_its_reason_on_its_handoff(daemon: FakeNode) -> None:
    make_portfolio("p")
    tick()
    handoff = Handoff.objects.get()
    assert handoff.reason == ONLY_NODE == sentence_of(handoff)
    assert reason_data(handoff)["code"] == "place"


def test_a_move_stores_its_reason_on_its_handoff(daemon: FakeNode) -> None:
    make_trader("p", daemon)
    make_node("node-2")
    operations.drain("node-1", actor="ann")
    tick()
    handoff = Handoff.objects.get(kind="migrate")
    assert handoff.reason == sentence_of(handoff)
    assert reason_data(handoff)["code"] == "drain"


def test_a_stuck_portfolio_has_its_reason_as_data_until_it_can_move(daemon: FakeNode) -> None:
    make_trader("p", daemon)
    operations.drain("node-1", actor="ann")
    tick()
    assert reason_data(run_of("p"))["code"] == "no_other_node"
    operations.undrain("node-1", actor="ann")
    tick()
    assert (run_of("p").reason, run_of("p").why) == ("", None)


def test_a_start_without_room_stores_the_reason_at_once(pending: Run) -> None:
    operations.stop("p", actor="ann")
    Run.objects.update(why=None)
    assert operations.start("p", actor="ann") is None
    assert reason_data(run_of("p"))["code"] == "no_selector"
    assert sentence_of(run_of("p")) == run_of("p").reason


def test_a_halt_stores_its_reason_on_each_portfolio_as_data(daemon: FakeNode) -> None:
    make_trader("p", daemon)
    operations.halt_all(actor="ann", reason="wrong prices")
    assert reason_data(run_of("p"))["params"]["why"] == "wrong prices"
    assert sentence_of(run_of("p")) == run_of("p").reason


def test_raising_the_epoch_floor_keeps_stored_pending_reasons(pending: Run) -> None:
    operations.raise_epoch_floor(1000, actor="ann", reason="restored")
    assert run_of("p").why == pending.why


def test_a_grant_clears_the_stored_reason(daemon: FakeNode, pending: Run) -> None:
    Node.objects.update(labels={"gpu": "yes"})
    tick()
    daemon.prepare()
    assert (run_of("p").phase, run_of("p").why) == ("starting", None)


def test_a_change_of_reason_data_alone_does_not_mark_the_run_as_changed(pending: Run) -> None:
    Run.objects.update(changed_in=0)
    Run.objects.update(why={"code": "no_selector", "params": {}})
    assert run_of("p").changed_in == 0


def test_a_reason_with_the_same_text_is_not_written_again(pending: Run) -> None:
    why = reason_data(pending)
    Run.objects.update(why={**why, "params": {**why["params"], "weight": 7}})
    tick()
    assert reason_data(run_of("p"))["params"]["weight"] == 7


# --- who reads it --------------------------------------------------------------------------------


def test_a_portfolio_answers_in_the_language_of_the_request(
    viewer: ApiClient, pending: Run
) -> None:
    english = viewer.get("portfolios/p/").json()["run"]
    answer = viewer.preferring(BROWSER).get("portfolios/p/")
    chinese = answer.json()["run"]
    assert (english["reason"], chinese["reason"]) == (NEEDS_GPU, NEEDS_GPU_ZH)
    assert english["why"] == chinese["why"] == pending.why
    assert answer.headers["Content-Language"] == "zh-hans"
    assert "Accept-Language" in answer.headers["Vary"]


@pytest.mark.parametrize(
    ("stored", "told"),
    [("r2 was rejected: boom", "r2 被拒绝：boom"), ("the moon is full", "the moon is full")],
)
def test_a_reason_stored_as_text_only_is_translated_if_its_text_is_known(
    viewer: ApiClient, pending: Run, stored: str, told: str
) -> None:
    Run.objects.update(reason=stored)
    run = viewer.preferring("zh").get("portfolios/p/").json()["run"]
    assert (run["reason"], run["why"]) == (told, None)


def test_handoffs_and_tenures_answer_in_the_language_of_the_request(
    viewer: ApiClient, daemon: FakeNode
) -> None:
    make_portfolio("p")
    tick()
    daemon.prepare()
    for path, statements in (("handoffs/", 1), ("portfolios/p/tenures/", 0)):
        assert viewer.get(path).json()["results"][0]["reason"] == ONLY_NODE
        with counted_statements() as said:
            found = viewer.preferring(BROWSER).get(path).json()["results"][0]
        assert found["reason"] == ONLY_NODE_ZH
        # A tenure's is read with it, not once for each.
        assert sum('FROM "scheduling_handoff"' in one for one in said) == statements
    (number,) = Handoff.objects.values_list("pk", flat=True)
    assert viewer.preferring(BROWSER).get(f"handoffs/{number}/").json()["why"]["code"] == "place"


@pytest.fixture
def desk(db: None) -> Client:
    return signed_in(Role.VIEWER, "vic")


@pytest.mark.parametrize("path", ["/", "/portfolios/", "/portfolios/p/"])
def test_pages_show_pending_reasons_in_the_language_of_the_request(
    desk: Client, pending: Run, path: str
) -> None:
    assert NEEDS_GPU in desk.get(path).content.decode()
    page = desk.get(path, headers={"Accept-Language": BROWSER}).content.decode()
    assert NEEDS_GPU_ZH in page
    assert NEEDS_GPU not in page
    # The socket is asked for the same.
    assert 'data-language="zh-hans"' in page


@pytest.mark.parametrize("path", ["/handoffs/", "/handoffs/{}/"])
def test_pages_of_handoffs_show_reasons_in_the_language_of_the_request(
    desk: Client, daemon: FakeNode, path: str
) -> None:
    make_portfolio("p")
    tick()
    daemon.prepare()
    path = path.format(Handoff.objects.get().pk)
    assert ONLY_NODE in desk.get(path).content.decode()
    assert ONLY_NODE_ZH in desk.get(path, headers={"Accept-Language": "zh"}).content.decode()


def test_each_open_page_is_sent_parts_in_its_own_language(pending: Run) -> None:
    views = [LiveView("board", "", True, language) for language in ("en", "zh-hans")]
    rendered = render_views(read_fleet_view(), views)
    english, chinese = ("".join(rendered[view].parts.values()) for view in views)
    assert NEEDS_GPU in english
    assert NEEDS_GPU_ZH in chinese
    assert NEEDS_GPU not in chinese


@pytest.mark.parametrize(("asked", "given"), [("zh-hans", "zh-hans"), ("", "en"), ("x" * 99, "en")])
def test_unknown_language_of_a_page_falls_back_to_english(asked: str, given: str) -> None:
    assert parse_view("board", True, asked) == LiveView("board", "", True, given)


def test_targets_are_explained_in_the_language_of_the_request(
    viewer: ApiClient, pending: Run
) -> None:
    (english,) = viewer.get("schedule/targets/", portfolio="p").json()["results"]
    (chinese,) = viewer.preferring("zh").get("schedule/targets/?portfolio=p").json()["results"]
    assert english == {**chinese, "sentence": "node-1 lacks gpu=yes"}
    assert chinese["sentence"] == "node-1 缺少 gpu=yes"
