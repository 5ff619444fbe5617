"""What-if answers in the API, the command and the page, and the rows that they read."""

from __future__ import annotations

import re
import time
from html import unescape
from typing import Any

import pytest
from django.core.management.base import CommandError
from django.test import Client

from scheduling import operations
from scheduling.models import Event, Handoff
from scheduling.observe import shared_snapshot, snapshot
from scheduling.permissions import Role
from tests.support.api_client import ApiClient, problem
from tests.support.commands import said, told
from tests.support.factories import FakeNode, lose, make_portfolio
from tests.support.pages import signed_in
from tests.support.patches import note_calls

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("crowded")]


@pytest.fixture
def page() -> Client:
    return signed_in(Role.VIEWER, "vic")


def without_time(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "taken_at"}


QUESTIONS = {
    "?lose=node-1": ("--lose", "node-1"),
    "?lose=node-1&lose=node-2": ("--lose", "node-1", "--lose", "node-2"),
    "?lose=node-2,node-1&add=8:gpu=yes,zone=a": (
        "--lose", "node-2,node-1", "--add", "8:gpu=yes,zone=a",
    ),
    "?drain=node-1&add=2&add=1": ("--drain", "node-1", "--add", "2", "--add", "1"),
    "": ("--dry-run",),
}  # fmt: skip


def test_command_and_api_give_the_same_what_if_answer(viewer: ApiClient) -> None:
    for query, arguments in QUESTIONS.items():
        answer = viewer.get(f"schedule/plan/{query}").json()
        assert without_time(told("rebalance", *arguments)) == without_time(answer)


def test_the_answer_names_the_nodes_that_are_lost_drained_and_added(viewer: ApiClient) -> None:
    plan = viewer.get("schedule/plan/?lose=node-1&lose=node-2&add=8:gpu=yes&add=1").json()
    assert (plan["lose"], plan["drain"]) == (["node-1", "node-2"], [])
    assert plan["add"] == [
        {"node": "new-1", "capacity": 8, "labels": {"gpu": "yes"}},
        {"node": "new-2", "capacity": 1, "labels": {}},
    ]
    assert plan["scope"] == "whole_way"
    assert viewer.get("schedule/plan/?lose=node-1").json()["scope"] == "next_pass"


def test_the_verdict_counts_what_moves_what_has_no_place_and_for_how_long(
    viewer: ApiClient,
) -> None:
    plan = viewer.get("schedule/plan/", lose="node-1").json()
    verdict = plan["verdict"]
    assert verdict["sentence"] == "1 portfolio moves, 2 would have no place."
    assert "".join(piece["text"] for piece in verdict["words"]) == verdict["sentence"]
    assert (verdict["move"], verdict["no_place"], verdict["wait"]) == (1, 2, 0)
    # TTL 30 s and 3 s more; after a kill the grace of 3 s and 2 s more.
    assert verdict["without_owner"] == {"portfolios": 1, "by_silence_s": 33.0, "by_kill_s": 5.0}
    (move,) = plan["move"]
    assert (move["portfolio"], move["priority"], move["weight"]) == ("three", 5, 1)
    assert (move["code"], move["params"]["target"]) == ("failover", "node-2")
    assert {entry["code"] for entry in plan["pending"]} == {"no_room"}
    assert plan["pending"][0]["params"]["weight"] == 1


def test_suggested_remedies_have_the_stated_effect_when_applied(viewer: ApiClient) -> None:
    plan = viewer.get("schedule/plan/", lose="node-1").json()
    helps = {one["code"]: one for one in plan["help"]}
    assert helps["uncordon"]["reason"] == ("Uncordon node-3: 3 free places, then all have a place.")
    assert (helps["uncordon"]["no_place"], helps["more_room"]["params"]["add"]) == (0, "2")
    operations.uncordon("node-3", actor="cast")
    again = viewer.get("schedule/plan/", lose="node-1").json()
    assert (again["verdict"]["no_place"], again["help"]) == (0, [])


def test_what_if_request_changes_nothing(viewer: ApiClient) -> None:
    before = (Handoff.objects.count(), Event.objects.count())
    viewer.get("schedule/plan/?lose=node-1&drain=node-2&add=4")
    assert (Handoff.objects.count(), Event.objects.count()) == before


INVALID = (
    ("add=x", "add", "CAPACITY:label=value"),
    ("lose=node-1&drain=node-1", "drain", "node-1 cannot be both lost and drained"),
)


def test_an_invalid_scenario_is_refused_with_its_parameter(viewer: ApiClient) -> None:
    for query, field, words in INVALID:
        (error,) = problem(viewer.get(f"schedule/plan/?{query}"), 400, "invalid")["errors"]
        assert error["field"] == field
        assert words in error["message"]


def test_what_if_command_exits_with_2_for_a_bad_option_and_1_for_an_unknown_node() -> None:
    with pytest.raises(CommandError, match="argument --add: must be CAPACITY") as caught:
        told("rebalance", "--add", "many")
    assert caught.value.returncode == 2
    with pytest.raises(CommandError, match="no node named nix") as unknown:
        told("rebalance", "--lose", "nix")
    assert unknown.value.returncode == 1


def test_the_command_prints_the_verdict_the_plan_and_the_remedies() -> None:
    drawn = said("rebalance", "--lose", "node-1")
    for words in ("2 would have no place", "at most 33 s", "Uncordon node-3", "node-2"):
        assert words in drawn


# --- what is read --------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)  # what is not committed counts as changed
def test_second_what_if_answer_reads_only_the_rows_that_changed(
    viewer: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer.get("schedule/plan/")
    noted = note_calls(monkeypatch, snapshot.SnapshotCache, "apply_changes")

    def read() -> list[Any]:
        return [(stale, len(list(rows))) for _, _, _, stale, rows, *_ in noted]

    until = time.monotonic() + 60  # what began before another test's transaction ended counts still
    while ([], 0) not in read() and time.monotonic() < until:
        viewer.get("schedule/plan/", lose="node-1")
    assert read()[-1] == ([], 0)
    make_portfolio("new")
    plan = viewer.get("schedule/plan/").json()
    assert [step["portfolio"] for step in plan["place"]] == ["new"]


def test_cached_snapshot_of_another_database_is_read_anew_as_a_whole(
    viewer: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer.get("schedule/plan/")
    monkeypatch.setattr(shared_snapshot._cache, "_numbering", "another, since yesterday")
    asked = note_calls(monkeypatch, shared_snapshot._cache, "ids_to_refresh")
    viewer.get("schedule/plan/")
    viewer.get("schedule/plan/")
    assert [since is not None for since, _ in asked] == [False, True]


# --- the page ------------------------------------------------------------------------------------


def shown(client: Client, query: str, status: int = 200) -> str:
    answer = client.get(f"/what-if/{query}")
    assert answer.status_code == status
    text = re.sub(r"\s+", " ", unescape(answer.content.decode()))
    # Whitespace beside a tag is layout of the template.
    return re.sub(r"(?<=>) (?=<)| (?=</)|(?<=<small>) |(?<=<dd>) ", "", text)


def test_the_what_if_page_shows_the_api_answer(viewer: ApiClient, page: Client) -> None:
    plan = viewer.get("schedule/plan/", lose="node-1").json()
    text = shown(page, "?lose=node-1")
    assert "<h1>If node-1 is lost now</h1>" in text
    (heading,) = re.findall(r"data-verdict><div><h2>(.*?)</h2>", text)
    assert re.sub(r"<[^>]+>| ", "", heading) == plan["verdict"]["sentence"].replace(" ", "")
    for entry in (*plan["move"], *plan["pending"]):
        assert f'data-portfolio="{entry["portfolio"]}"' in text
        assert entry["reason"] in text
    for one in plan["help"]:
        assert one["reason"] in text
    assert "nothing was changed" in text
    assert "GET /api/schedule/plan/?lose=node-1" in text
    assert 'id="permalink">http://testserver/what-if/?lose=node-1<' in text


def test_units_of_times_are_in_the_language_of_the_reader(page: Client) -> None:
    assert "≤ 33 s" in shown(page, "?lose=node-1")
    text = page.get("/what-if/?lose=node-1", headers={"Accept-Language": "zh-CN"}).content.decode()
    assert "≤ 33 秒" in text
    assert not re.search(r"≤ \d+ s\b", text)


def test_page_shows_an_unlimited_time_without_owner_for_portfolios_without_a_place(
    page: Client,
) -> None:
    assert "· 2 until there is room<" in shown(page, "?lose=node-1")
    text = shown(page, "?lose=node-2,node-1")
    found = re.findall(r"<dt>Without an owner</dt><dd>(.*?)</dd>", text)
    assert found == ["4 <small>until there is room</small>"]


def test_load_bars_show_capacity_load_before_and_load_after(page: Client) -> None:
    text = shown(page, "?lose=node-1")
    (row,) = re.findall(r'data-node="node-2"><b>node-2</b>(.*?)</div>', text)
    # The largest node has 5 places and 560 of width: one place is 112, two are 224.
    assert 'class="capacity" x=".5" y=".5" width="224.0"' in row
    assert 'class="before" x="1" y="1" width="111.0"' in row
    assert 'class="full" x="1" y="12" width="223.0"' in row
    assert "1 → <b>2</b> / 2" in row
    (lost,) = re.findall(r'data-node="node-1"><b>node-1</b>(.*?)</div>', text)
    assert 'class="gone"' in lost
    assert "style=" not in text


def test_what_if_page_offers_actions_to_operators_only(page: Client) -> None:
    assert "/nodes/node-3/uncordon/" not in shown(page, "?lose=node-1")
    operator = signed_in(Role.OPERATOR, "mira")
    assert 'href="/nodes/node-3/uncordon/" data-dialog' in shown(operator, "?lose=node-1")


def test_an_invalid_scenario_is_answered_with_a_page_with_the_error(page: Client) -> None:
    assert "There is no node named nix." in shown(page, "?lose=nix", 404)
    assert "'x': the capacity is not a whole number" in shown(page, "?add=x", 400)
    assert "cannot be both lost and drained" in shown(page, "?lose=node-1&drain=node-1", 400)


def test_each_node_links_to_its_own_scenario(page: Client) -> None:
    text = shown(page, "?drain=node-1&add=8:gpu=yes")
    assert "<h1>If node-1 is drained and a node of capacity 8 is added now</h1>" in text
    three = shown(page, "?lose=node-1,node-2&drain=node-3&add=8000&add=2&add=3")
    assert "<h1>If node-1 and node-2 are lost and node-3 is drained and nodes of capacity" in three
    assert "capacity 8,000, 2 and 3 are added now</h1>" in three
    assert 'href="?drain=node-2&add=8:gpu=yes"' in text
    assert 'href="?lose=node-1&add=8:gpu=yes"' in text
    assert 'name="add" value="8:gpu=yes"' in text


def test_without_scenario_a_lost_node_is_shown_lost(page: Client, crowded: list[FakeNode]) -> None:
    lose(crowded[0])
    (row,) = re.findall(r'<tr data-node="node-1"(.*?)</tr>', shown(page, ""))
    assert '<span class="tag tag-bad"> lost</span>' in row
