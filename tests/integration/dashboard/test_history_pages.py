"""Handoffs and the audit log: sentences, filters, ranges of time, order, and files."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from django.utils import timezone, translation

from scheduling import operations
from scheduling.dashboard import history
from scheduling.dashboard.views import history as history_views
from scheduling.models import Event, Handoff
from scheduling.permissions import Role
from tests.support.api_client import make_user
from tests.support.factories import make_node, make_running_portfolio
from tests.support.pages import text_of

pytestmark = pytest.mark.django_db


def make_fleet() -> None:
    make_running_portfolio("p", make_node("node-1"), events=3)
    make_running_portfolio("q", make_node("node-2"))
    operations.cordon("node-2", actor="ann", reason="=1+1")


@pytest.fixture
def fleet() -> None:
    make_fleet()


async def exported(address: str, role: Role = Role.VIEWER, language: str = "en") -> str:
    """Return the file at an address, as a browser gets it from the asynchronous server."""
    name = f"{role.value}-of-files"
    known = await User.objects.filter(username=name).afirst()
    client = AsyncClient()
    await client.aforce_login(known or await sync_to_async(make_user)(name, role))
    answer: Any = await client.get(address, headers={"Accept-Language": language})
    assert answer.status_code == 200
    assert "attachment" in answer["Content-Disposition"]
    with translation.override("en"):  # the language of the request has ended with its page
        return b"".join([part async for part in answer.streaming_content]).decode()


def test_audit_lines_are_sentences_with_links_and_milliseconds(reader: Client, fleet: None) -> None:
    page = text_of(reader.get("/audit/?portfolio=p"))
    granted = Event.objects.get(kind="granted", portfolio__name="p")
    assert "created with r1" in page
    number = granted.data["handoff"]
    assert f'href="/handoffs/{number}/">handoff {number}</a> done: place' in page
    exact = granted.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert f'<time datetime="{exact}" data-shown="ms">' in page
    assert "{&quot;" not in page  # no JSON


def test_history_filters_offer_names_and_take_a_range_of_time(reader: Client, fleet: None) -> None:
    page = text_of(reader.get("/audit/"))
    assert '<datalist id="portfolio-list"> <option value="p">' in page
    assert '<option value="handoff_rolled_back">' in page
    newest = Event.objects.latest("pk")
    Event.objects.exclude(pk=newest.pk).update(at=timezone.now() - timedelta(days=2))
    rows = re.findall(r'data-event="(\d+)"', text_of(reader.get(f"/audit/?since={_day(-1)}")))
    assert rows == [str(newest.pk)]
    page = text_of(reader.get(f"/audit/?until={_day(-1)}"))
    assert f'data-event="{newest.pk}"' not in page
    assert 'data-event="' in page
    assert "Nothing matches" in text_of(reader.get("/handoffs/?until=2001-01-01T10:00:00Z"))


def _day(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).date().isoformat()


def test_page_with_an_invalid_time_filter_names_it_and_shows_no_rows(
    reader: Client, fleet: None
) -> None:
    for page, wrong, label in (
        ("/audit/?since=", "yesterday", "from"), ("/handoffs/?until=", "2026-13-01", "to"),
    ):  # fmt: skip
        answer = reader.get(page + wrong)
        assert answer.status_code == 400
        assert re.search(f"{label} is .{{8,20}}: give a date such as 2026-01-31", text_of(answer))
        assert "data-event=" not in text_of(answer)
        assert f'value="{wrong}"' in text_of(answer)


def test_history_rows_come_oldest_first_or_with_the_longest_pause_first(
    reader: Client, fleet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_views, "PAGE_ROWS", 2)
    keys = sorted(Event.objects.values_list("pk", flat=True))
    found: list[int] = []
    address = "/audit/?order=oldest"
    while address:
        page = text_of(reader.get(address))
        found += map(int, re.findall(r'data-event="(\d+)"', page))
        more = re.search(r'href="(\?[^"]*before=[^"]*)"', page)
        address = f"/audit/{more[1].replace('&amp;', '&')}" if more else ""
    assert found == keys
    slow, fast = Handoff.objects.order_by("pk")
    Handoff.objects.filter(pk=slow.pk).update(pause_ms=900)
    Handoff.objects.filter(pk=fast.pk).update(pause_ms=1)
    page = text_of(reader.get("/handoffs/?order=slowest"))
    assert re.findall(r'data-handoff="(\d+)"', page) == [str(slow.pk), str(fast.pk)]


@pytest.mark.django_db(transaction=True)
async def test_exported_history_has_every_row_of_the_filter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history, "EXPORT_BATCH", 3)  # several parts
    await sync_to_async(make_fleet)()
    rows = list(csv.DictReader(io.StringIO(await exported("/audit/?format=csv"))))
    keys = await sync_to_async(lambda: list(Event.objects.values_list("pk", flat=True)))()
    assert [int(row["id"]) for row in rows if row["kind"] != "logged_in"]
    assert {int(row["id"]) for row in rows} == set(keys)
    (cordoned,) = [row for row in rows if row["kind"] == "node_cordoned"]
    # A spreadsheet must not compute what somebody typed as a reason.
    assert (cordoned["reason"], cordoned["actor"]) == ("'=1+1", "ann")
    document = json.loads(await exported("/handoffs/?format=json&portfolio=p&order=oldest"))
    assert [row["portfolio"] for row in document["rows"]] == ["p"]
    assert document["rows"][0]["requested_at"].endswith("Z")


@pytest.mark.django_db(transaction=True)
async def test_exported_audit_log_is_bounded_and_hides_incarnations_from_viewers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await sync_to_async(make_fleet)()
    monkeypatch.setattr(history, "MAX_EXPORTED", 4)
    monkeypatch.setattr(history, "EXPORT_BATCH", 3)
    assert len(json.loads(await exported("/audit/?format=json"))["rows"]) == 4
    monkeypatch.setattr(history, "MAX_EXPORTED", 1_000)
    granted = "/audit/?format=json&kind=granted"
    hidden = json.loads(await exported(granted))["rows"][0]["data"]["incarnation"]
    shown = json.loads(await exported(granted, Role.OPERATOR))["rows"][0]["data"]["incarnation"]
    assert (len(hidden), len(shown)) == (8, 36)


@pytest.mark.django_db(transaction=True)
async def test_exported_audit_log_leaves_out_the_ids_of_counted_exits() -> None:
    data = {"death": "a", "deaths": ["b"], "times": 2}
    await Event.objects.acreate(at=timezone.now(), kind="process_died", data=data)
    for role in (Role.VIEWER, Role.OPERATOR):
        rows = json.loads(await exported("/audit/?format=json&kind=process_died", role))["rows"]
        assert rows[0]["data"] == {"death": "a", "times": 2}


@pytest.mark.django_db(transaction=True)
async def test_exported_history_is_in_the_language_of_the_page() -> None:
    await sync_to_async(make_fleet)()
    answer = await exported("/audit/?format=json&kind=node_cordoned", language="zh-CN")
    english = await exported("/audit/?format=json&kind=node_cordoned")
    (there,), (here,) = json.loads(answer)["rows"], json.loads(english)["rows"]
    assert re.search(r"[\u4e00-\u9fff]", there["sentence"]), there["sentence"]
    assert (there["reason"], there["kind"]) == (here["reason"], here["kind"])
