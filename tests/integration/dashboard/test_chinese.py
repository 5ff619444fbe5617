"""Every page of the desk in Chinese: what a reader sees is Chinese, names and figures apart."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from functools import cache
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.test import Client
from django.urls import reverse
from django.utils import translation
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from portfolios.models import Order, Portfolio
from scheduling import operations
from scheduling.alert_addresses import SCHEMES
from scheduling.dashboard import context
from scheduling.dashboard.views import portfolio as portfolio_view
from scheduling.dashboard.whatif import scenario_title
from scheduling.db.transaction import execute_autocommit
from scheduling.decide.what_if.hypothetical import Scenario
from scheduling.enact.lease import mark_lost
from scheduling.models import Alert, Event
from scheduling.operations.alerts import acknowledge_alert
from scheduling.operations.users import add_user
from scheduling.permissions import Role
from scheduling.presentation.state_words import STATES
from scheduling.presentation.strategy_list import strategy_lines
from scheduling.timing import timing
from tests.support import board_fixture, roll_outs
from tests.support.api_client import make_user
from tests.support.factories import ago, expire_lease, make_portfolio, make_settled_nodes
from tests.support.pages import signed_in

pytestmark = pytest.mark.django_db

CHINESE = {"Accept-Language": "zh-CN,zh;q=0.9"}
INVISIBLE = re.compile(
    r"<(script|style|code|pre|kbd|noscript|time)\b[^>]*>.*?</\1>|<!--.*?-->|<!DOCTYPE html>",
    re.DOTALL,
)
#: What a strategy says of a parameter, in its own words.
DESCRIPTION = re.compile(r'<small id="id_config\.\w+_helptext">.*?</small>')
READ = re.compile(r'\b(?:aria-label|title|placeholder|alt|data-words)="([^"]*)"')
SUBMIT = re.compile(r'<input[^>]*type="submit"[^>]*value="([^"]*)"')
WORD = re.compile(r"(?<![\w./=&#{-])[A-Za-z][A-Za-z']{2,}(?![\w./=-])")
#: The same in every language: names of products and formats, units, terms of the glossary.
SAME = {
    *("Ginkgo", "Python", "UTC", "CSV", "JSON", "English", "Webhook", "webhook", "JetStream", "KB"),
    *("cpu", "CPU", "pid", "seq", "ioc", "GPU", "API", "wheel", "apprise", "sha256", "VALUE", "MB"),
    *("Ctrl", "Esc", "Enter", "Shift", "KEY", "bps", "halt", "full", "state_only", "catch_up"),
}  # fmt: skip


def seen(page: str) -> str:
    """Return what a reader of the page sees or hears, as one line."""
    page = DESCRIPTION.sub(" ", page)
    page = re.sub(r"https?://[^<\s]*", " ", INVISIBLE.sub(" ", page))
    shown = [*READ.findall(page), *SUBMIT.findall(page), re.sub(r"<[^>]*>", " ", page)]
    return re.sub(r"\s+", " ", unescape(" | ".join(shown)))


def english(page: str, data: set[str]) -> set[str]:
    """Return the English words of a page that are neither data nor the same in Chinese."""
    return set(WORD.findall(any_of(frozenset(data)).sub(" ", seen(page)))) - SAME


@cache
def any_of(texts: frozenset[str]) -> re.Pattern[str]:
    """Return a pattern of these texts, of which it prefers the longer ones."""
    return re.compile("|".join(map(re.escape, sorted(texts - {""}, key=len, reverse=True))) or "$")


def texts_in(value: Any) -> set[str]:
    """Return the texts that a view of the fleet holds: names, and reasons stored in English."""
    if isinstance(value, str):
        return {value, value.capitalize()} if len(value) > 2 else set()
    if is_dataclass(value):
        return set().union(*(texts_in(getattr(value, field.name)) for field in fields(value)))
    if isinstance(value, dict):
        return set().union(set(), *map(texts_in, value), *map(texts_in, value.values()))
    if isinstance(value, list | tuple):
        return set().union(set(), *map(texts_in, value))
    return set()


def assert_chinese(
    client: Client, address: str, data: set[str], sent: dict[str, str] | None = None
) -> None:
    answer = client.get(address) if sent is None else client.post(address, sent)
    page = answer.content.decode()
    assert answer.status_code != 302, f"{address} is shown"
    if "<html" in page:
        assert '<html lang="zh-hans">' in page
    assert english(page, data) == set(), f"{address}, {answer.status_code}"


def test_board_and_portfolio_pages_are_chinese_in_every_condition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = board_fixture.busy_fleet()
    for module in (context, portfolio_view):
        monkeypatch.setattr(module, "read_fleet_view", lambda: fleet)
    client = signed_in(Role.OPERATOR, "mira", headers=CHINESE)
    stored = texts_in(fleet) - set(STATES)
    data = {text for text in stored if " " in text or "-" in text or text[0].isupper()}
    data |= {"mira", *(p.strategy for p in fleet.portfolios), "zone", "gpu", "pool", "jun"}
    data |= {"fast", "slow", "quantity", "lookback", "gaps", "duplicates", "events", "digest"}
    for address in ("/", *(f"/portfolios/{p.name}/" for p in fleet.portfolios)):
        assert_chinese(client, address, data)
    empty = board_fixture.fleet_view([], [])
    monkeypatch.setattr(context, "read_fleet_view", lambda: empty)
    for address in ("/", "/portfolios/", "/nodes/", "/orders/", "/strategies/", "/alerts/"):
        assert_chinese(client, address, data)


def test_pages_and_dialogs_of_a_fleet_in_the_database_are_chinese() -> None:
    node, _first, second = roll_outs.make_fleet("able", "baker")
    make_settled_nodes(2)
    number = roll_outs.begin(second, "able", "baker")
    roll_outs.step()
    able = Portfolio.objects.get(name="able")
    Order.objects.create(
        id=f"{able.uid}-9-0", portfolio=able, seq=9, index=0, decided_at=ago(9),
        committed_at=ago(9), symbol="IBM", side="buy", quantity=10, price="101.5",
        status="suppressed", node=node.row.name, epoch=1, revision=1,
        reason="decided on a stale event",
    )  # fmt: skip
    operations.drain("node-2", actor="mira", reason="kernel")
    expire_lease(node)
    execute_autocommit(mark_lost(timing()))
    loss = Event.objects.filter(kind="node_lost").latest("id").pk
    given = {"node": node.row, "reason": "", "key": "n", "opened_at": ago(9)}
    alert = Alert.objects.create(kind="node_lost", **given)
    halt = operations.halt_all(actor="mira", reason="", expect_running=2).halt
    client = signed_in(Role.OPERATOR, "mira", headers=CHINESE)
    handoff = able.handoffs.latest("id").pk
    data = {"able", "baker", "mira", "cast", "ann", "kernel", "IBM", "buy_and_hold", "momentum"}
    # An actor, and what a strategy says of itself.
    data |= {"artifact", "quantity", "pieces held of each symbol", "test", "replay", "canary"}
    data |= {line.summary.replace("`", "") for line in strategy_lines()}
    pages = [
        "/", "/portfolios/", "/portfolios/?q=zzz", "/portfolios/able/",
        "/orders/", "/orders/?portfolio=zzz", "/orders/?since=never", "/nodes/", "/nodes/node-1/",
        "/nodes/node-2/", "/handoffs/", f"/handoffs/{handoff}/", "/handoffs/?state=failed",
        "/strategies/", f"/strategies/{second.sha256}/", "/roll-outs/", f"/roll-outs/{number}/",
        "/what-if/", "/what-if/?lose=node-2", "/what-if/?drain=node-2", "/what-if/?add=4",
        "/audit/?portfolio=able", "/audit/?node=node-1", "/audit/?kind=zzz", "/incidents/",
        f"/incidents/{loss}/", "/alerts/", "/people/",
        "/feeds/", "/feeds/replay/", f"/halts/{halt}/",
    ]  # fmt: skip
    forms = [
        *(f"/portfolios/able/{verb}/" for verb in
          ("start", "stop", "delete", "reload", "verify", "unpin", "migrate", "edit", "clone")),
        *(f"/nodes/node-2/{verb}/" for verb in
          ("drain", "undrain", "cordon", "uncordon", "forget", "labels", "new-token")),
        *(f"/fleet/{verb}/" for verb in ("freeze", "unfreeze", "hold-storm", "release-storm")),
        f"/roll-outs/{number}/stop/", f"/roll-outs/{number}/back/", f"/halts/{halt}/undo/",
        reverse("acknowledge-alert", args=[alert.pk]), "/halt/", "/new-portfolio/", "/add-node/",
        reverse("add-person"), reverse("set-channel"), reverse("begin-roll-out"),
        "/migrate/?portfolio=able&portfolio=baker", "/migrate/?portfolio=able&to=node-1",
    ]  # fmt: skip
    missing = [
        "/portfolios/zzz/", "/nodes/zzz/", "/handoffs/99999/", "/roll-outs/99999/", "/nowhere/",
        "/halts/99999/", "/incidents/99999/", "/feeds/zzz/", "/what-if/?lose=zzz",
        "/migrate/", "/migrate/?portfolio=zzz",
        "/what-if/?add=zzz", "/what-if/?add=8:zzz", "/what-if/?lose=node-1&drain=node-1",
    ]  # fmt: skip
    for address in (*pages, *forms, *missing):
        assert_chinese(client, address, data | {"zzz", "never"})
    for address in (reverse("add-person"), reverse("set-channel"), "/add-node/", "/halt/"):
        assert_chinese(client, address, data, {"reason": ""})


def test_refusals_of_operations_are_chinese_on_chinese_pages() -> None:
    _node, first, second = roll_outs.make_fleet("able", "baker", "duke")
    make_settled_nodes(3)
    make_portfolio("picky", selector={"gpu": "yes"})
    number = roll_outs.begin(second, "able")
    operations.cordon("node-2", actor="ann")
    operations.stop("duke", actor="ann")
    alert = Alert.objects.create(kind="storm_hold", reason="", key="n", opened_at=ago(9))
    acknowledge_alert(alert.pk, actor="ann")
    add_user("vera", Role.VIEWER, actor="ann")
    client = signed_in(Role.OPERATOR, "mira", headers=CHINESE)
    mira = User.objects.get(username="mira").pk
    new = {"strategy": "sma_cross", "name": "Bad Name", "starting_cash": "-1", "act": "save"}
    new |= {"config.fast": "9", "config.slow": "3", "config.quantity": "x", "symbols": "NONE"}
    new |= {"limits.largest_order": "-1", "limits.orders_per_minute": "0", "weight": "0"}
    new |= {"limits.broker.fee_bps": "-1", "limits.broker.tick_size": "0", "priority": "x"}
    roll_out = {"artifact": second.sha256, "at_a_time": "1", "canary_seconds": "0"}
    refused: list[tuple[str, dict[str, str]]] = [
        ("/portfolios/duke/stop/", {}),
        ("/portfolios/baker/start/", {}),
        ("/portfolios/duke/reload/", {"revision": "1"}),
        ("/portfolios/baker/reload/", {"revision": "7"}),
        ("/portfolios/baker/migrate/", {}),
        *(("/portfolios/baker/migrate/", {"target_node": name})
          for name in ("node-1", "node-2", "zzz")),
        ("/portfolios/picky/migrate/", {"target_node": "node-3"}),
        *(("/migrate/", {"portfolio": "picky", "target_node": name})
          for name in ("node-1", "*", "zzz", "")),
        ("/nodes/node-1/forget/", {}),
        ("/nodes/node-1/labels/", {"labels": "no label"}),
        ("/nodes/node-1/labels/", {"labels": "\n".join(f"k{n}=v" for n in range(99))}),
        ("/nodes/node-1/new-token/", {"token_name": "t", "days": "99999"}),
        ("/add-node/", {"node": "no node", "token_name": "t", "capacity": "5"}),
        (f"/roll-outs/{number}/back/", {}),
        (reverse("acknowledge-alert", args=[alert.pk]), {}),
        *((reverse("set-channel"), {"name": "On Call", "address": address})
          for address in ("http://example.com", "zzz://example.com")),
        (reverse("add-person"), {"name": "vera", "role": "viewer"}),
        (reverse("person-action", args=[mira, "viewer"]), {}),
        *((reverse("begin-roll-out"), roll_out | more) for more in (
            {"artifact": "zzz"}, {"portfolios": "nobody"}, {"portfolios": "able"},
            {"portfolios": "baker", "canary": "duke"}, {"at_a_time": "99999"},
            {"artifact": first.sha256},
        )),
        ("/new-portfolio/", new),
        ("/new-portfolio/", new | {"name": "able", "strategy": "buy_and_hold"}),
        ("/halt/", {"reason": "kernel", "typed": "halt 77"}),
        (f"/strategies/{first.sha256}/delete/", {}),
    ]  # fmt: skip
    data = {"able", "baker", "duke", "picky", "vera", "mira", "nobody", "zzz", "ann", "cast"}
    data |= {"buy_and_hold", "sma_cross", "Bad Name", "On Call", "no label", "no node", "NONE"}
    data |= {"momentum", "gpu=yes", "gpu", "kernel", "quantity", "fast", "slow", "example.com"}
    data |= {"decimal", "weight", "priority", "canary", "artifact", "broker", "operator"}
    data |= {"replay", *SCHEMES}
    data |= {line.summary.replace("`", "") for line in strategy_lines()}
    wrong = []
    for address, sent in refused:
        answer = client.post(address, sent)
        left = english(answer.content.decode(), data)
        if not 400 <= answer.status_code < 500 or left:
            wrong.append((address, sent, answer.status_code, left))
    assert wrong == []
    document = client.post("/api/portfolios/baker/start/", content_type="application/json").json()
    assert document["code"] == "already_running"
    assert document["detail"] == "baker is already starting."


def test_pages_without_a_user_or_without_its_permission_are_chinese() -> None:
    nobody = Client(headers=CHINESE)
    assert_chinese(nobody, "/login/?ended=1", set())
    assert_chinese(nobody, "/login/", set(), {"username": "vera", "password": "wrong"})
    user = make_user("vera", Role.VIEWER)
    digits = urlsafe_base64_encode(force_bytes(user.pk))
    path = reverse("set-password", args=[digits, default_token_generator.make_token(user)])
    address = nobody.get(path).headers["Location"]
    assert_chinese(nobody, address, {"vera"})
    assert_chinese(nobody, address, set(), {"new_password1": "a", "new_password2": "b"})
    assert_chinese(nobody, reverse("set-password", args=[digits, "x-y"]), set())
    viewer = signed_in(Role.VIEWER, "victor", headers=CHINESE)
    assert_chinese(viewer, "/halt/", {"victor", "operator"})


def test_language_cookie_takes_precedence_over_the_language_of_the_browser() -> None:
    client = signed_in(Role.OPERATOR, "mira", headers=CHINESE)
    assert '<html lang="zh-hans">' in client.get("/people/").content.decode()
    headers = {"Referer": "http://testserver/people/?from=1"}
    chosen = client.post("/language/", {"language": "en"}, headers=headers)
    found = (chosen.status_code, chosen.headers["Location"])
    assert found == (302, "http://testserver/people/?from=1")
    cookie = chosen.cookies["ginkgo-language"]
    assert cookie["httponly"] and cookie["samesite"] == "Lax" and cookie["max-age"] > 10**7
    page = client.get("/people/").content.decode()
    assert '<html lang="en">' in page and "words/" not in page
    client.post("/language/", {"language": "zh-hans"})
    assert 'src="/words/zh-hans.js"' in client.get("/people/").content.decode()
    strict = Client(enforce_csrf_checks=True)
    assert strict.post("/language/", {"language": "en"}).status_code == 403


def test_texts_of_scripts_are_served_without_a_login_in_known_languages_only() -> None:
    answer = Client().get("/words/zh-hans.js")
    assert answer.headers["Content-Type"].startswith("text/javascript")
    assert "max-age=60" in answer.headers["Cache-Control"]
    assert '"Copied": "\\u5df2\\u590d\\u5236"' in answer.content.decode()
    assert Client().get("/words/tlh.js").status_code == 404


def test_title_of_a_scenario_joins_names_as_chinese_does() -> None:
    scenario = Scenario(lose=("node-1", "node-2", "node-3"), drain=("node-4",))
    with translation.override("zh-hans"):
        title = scenario_title(scenario)
    assert title == "假设现在：node-1、node-2 和 node-3 失联 和 node-4 被排空"
