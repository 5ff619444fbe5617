"""Pages and dialogs of the desk, over a fleet made by hand."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from scheduling.dashboard import context
from scheduling.dashboard.actions import NODE_ACTIONS
from scheduling.dashboard.views import actions, portfolio
from scheduling.decide.types import TargetAnswer
from scheduling.errors import Invalid, Refused, SnapshotUnavailable
from tests.support import board_fixture as world

pytestmark = pytest.mark.django_db

DIALOG = {"headers": {"X-Dashboard": "dialog"}}
TARGETS = [
    TargetAnswer("node-1", False, "same_node", "aapl-sma runs here", None, 5, 5, 8),
    TargetAnswer("node-2", True, None, "can take it", None, 5, 6, 6),
    TargetAnswer("node-3", True, None, "can take it", "node-3 is suspect", 4, 5, 6),
    TargetAnswer("node-6", False, "node_cordoned", "node-6 is cordoned", None, 4, 4, 8),
]


def client_of(name: str, group: str | None) -> Client:
    user = User.objects.create_user(name, password="a-long-password-1")
    if group:
        user.groups.add(Group.objects.get_or_create(name=group)[0])
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def fleet(monkeypatch):
    """Let every page see the busy fleet, and the migrate dialog the answers above."""
    for module in (context, portfolio):
        monkeypatch.setattr(module, "read_board", world.busy_fleet)

    class Seen:
        snapshot = None

    monkeypatch.setattr(actions, "observe", lambda timing: Seen)
    monkeypatch.setattr(actions, "targets", lambda snapshot, name, language: TARGETS)


@pytest.fixture
def asked(monkeypatch):
    """Take the place of what may be asked for; keep what was asked."""
    calls: list[tuple] = []

    def recorder(verb):
        def record(*given, **named):
            calls.append((verb, given, named))

        return record

    for verb in ("migrate", "revise_portfolio"):
        monkeypatch.setattr(actions.operations, verb, recorder(verb))
    return calls


@pytest.fixture
def operator(fleet):
    return client_of("mira", "operator")


@pytest.fixture
def viewer(fleet):
    return client_of("vic", "viewer")


def text_of(answer) -> str:
    """Return the page with every run of whitespace as one space: its line breaks are layout."""
    return re.sub(r"\s+", " ", answer.content.decode())


def test_who_is_not_signed_in_is_led_to_the_login_page(fleet):
    answer = Client().get("/")
    assert answer.status_code == 302
    assert answer.url == "/login/?next=/"


def test_who_was_signed_in_reads_that_the_session_has_ended(fleet, operator):
    operator.session.flush()  # as one that expired: the browser still has its cookie
    answer = operator.get("/portfolios/?phase=running")
    assert answer.url == "/login/?ended=1&next=/portfolios/%3Fphase%3Drunning"
    assert "Your session has ended" in text_of(Client().get(answer.url))
    assert "Your session has ended" not in text_of(Client().get("/login/?next=/"))


def test_the_board_marks_everything_for_automation(operator):
    page = text_of(operator.get("/"))
    assert re.search(r'id="col-node-5" data-node="node-5" data-status="lost"', page)
    assert re.search(r'data-portfolio="energy-revert" data-phase="draining"', page)
    assert 'data-handoff="4182"' in page
    assert 'data-portfolio="gpu-arb" data-phase="pending"' in page
    assert "needs gpu=yes: 0 of 6 nodes have it" in page


def test_no_page_carries_a_style_or_a_handler_inline(operator):
    for address in ("/", "/portfolios/aapl-sma/", "/nodes/", "/handoffs/", "/audit/", "/login/"):
        page = text_of(operator.get(address))
        assert not re.search(r"<[^>]+\s(style|on[a-z]+)=", page), address
        assert "<style" not in page
        assert not re.search(r"<script(?![^>]*\bsrc=)", page), address


def test_each_page_has_one_heading_and_landmarks(operator):
    for address in (
        "/",
        "/portfolios/",
        "/portfolios/aapl-sma/",
        "/nodes/",
        "/handoffs/",
        "/audit/",
    ):
        page = text_of(operator.get(address))
        assert page.count("<h1") == 1, address
        assert page.count("<main") == 1, address


@pytest.mark.parametrize(
    "address",
    [
        *(f"/audit/?{name}=%00" for name in ("kind", "portfolio", "node", "actor")),
        *(f"/handoffs/?{name}=%00" for name in ("portfolio", "node", "kind", "state")),
        f"/audit/?before={10**25}",
        *(f"/portfolios/aapl-sma/?{name}={10**25}" for name in ("orders", "tenures", "revisions")),
    ],
)
def test_what_the_database_cannot_take_finds_nothing(operator, address):
    assert "Something broke" not in text_of(operator.get(address))


def test_an_act_that_is_not_there_is_said_by_its_name(operator):
    for address in ("/nodes/node-1/explode/", "/portfolios/aapl-sma/explode/", "/fleet/explode/"):
        answer = operator.get(address)
        assert answer.status_code == 404
        assert "There is no action named explode." in text_of(answer)


def test_a_viewer_sees_all_and_finds_no_act(viewer):
    page = text_of(viewer.get("/"))
    assert "vic · viewer" in page
    assert "data-dialog" not in page
    assert "Migrate" not in page
    assert "8,658,329 events" in page


@pytest.mark.parametrize(
    "address",
    [
        "/portfolios/aapl-sma/migrate/",
        "/portfolios/aapl-sma/stop/",
        "/portfolios/aapl-sma/edit/",
        "/nodes/node-1/drain/",
        "/fleet/freeze/",
    ],
)
def test_a_viewer_who_posts_by_hand_gets_403_and_a_sentence(viewer, asked, address):
    for answer in (viewer.post(address, {"target_node": "node-2"}), viewer.get(address)):
        assert answer.status_code == 403
        assert "vic is a viewer" in text_of(answer)
    assert asked == []


def test_who_has_no_role_sees_nothing_of_the_fleet(fleet):
    answer = client_of("nob", None).get("/")
    assert answer.status_code == 403
    assert "neither the group operator nor viewer" in text_of(answer)
    assert "node-1" not in text_of(answer)


def test_a_post_without_the_mark_of_the_session_changes_nothing(fleet, asked):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.create_superuser("root-of-tests"))
    assert (
        strict.post("/portfolios/aapl-sma/migrate/", {"target_node": "node-2"}).status_code == 403
    )
    assert asked == []


def test_the_migrate_dialog_lists_every_node_with_its_answer(operator):
    page = text_of(operator.get("/portfolios/aapl-sma/migrate/", **DIALOG))
    assert page.count('name="target_node"') == 4
    assert re.search(r'value="node-6" disabled', page)
    assert "node-6 is cordoned" in page
    # node-2 without a risk is offered before node-3, which is suspect
    assert re.search(r'value="node-2" checked', page)
    assert "5 → 6" in page
    assert "manage.py migrate_portfolio aapl-sma --to" in page
    assert "The move pins aapl-sma" in page
    assert "epoch 9 → 10" in page
    assert "<html" not in page


def test_without_a_script_the_same_form_is_a_page(operator):
    page = text_of(operator.get("/portfolios/aapl-sma/migrate/"))
    assert "<html" in page
    assert 'name="target_node"' in page
    assert page.count("<h1") == 1


def test_a_migrate_is_one_call_with_the_person_and_the_reason(operator, asked):
    given = {"target_node": "node-2", "reason": " next to its data "}
    answer = operator.post("/portfolios/aapl-sma/migrate/", given, **DIALOG)
    assert asked == [
        ("migrate", ("aapl-sma", "node-2"), {"actor": "mira", "reason": "next to its data"})
    ]
    assert answer.json() == {"say": "aapl-sma is moving to node-2."}


def test_a_plain_post_leads_back_and_says_what_was_done(operator, asked):
    answer = operator.post(
        "/portfolios/aapl-sma/migrate/", {"target_node": "node-2", "next": "/nodes/"}, follow=True
    )
    assert answer.redirect_chain == [("/nodes/", 302)]
    assert "aapl-sma is moving to node-2." in text_of(answer)


def test_a_form_never_leads_to_another_site(operator, asked):
    answer = operator.post(
        "/portfolios/aapl-sma/migrate/", {"target_node": "node-2", "next": "https://evil.example/"}
    )
    assert answer.url == "/"


def test_a_refusal_stays_in_the_dialog_with_what_was_typed(operator, monkeypatch):
    def refuse(*given, **named):
        raise Refused("node_full", "node-2 is full: load 6 of 6; choose another node.")

    monkeypatch.setattr(actions.operations, "migrate", refuse)
    given = {"target_node": "node-2", "reason": "because I said"}
    answer = operator.post("/portfolios/aapl-sma/migrate/", given, **DIALOG)
    assert answer.status_code == 409
    page = text_of(answer)
    assert "node-2 is full: load 6 of 6; choose another node." in page
    assert 'value="because I said"' in page
    assert re.search(r'value="node-2" checked', page)


def test_a_drain_says_the_consequence_first_and_names_the_node_on_the_button(operator):
    page = text_of(operator.get("/nodes/node-1/drain/", **DIALOG))
    now = "4 portfolios (canary-1, aapl-sma, tech-hold, bank-revert) are handed off."
    assert page.index(now) < page.index('name="reason"') < page.index("Drain node-1</button>")


@pytest.mark.parametrize("verb", sorted(NODE_ACTIONS))
def test_every_act_on_a_node_has_a_dialog(operator, verb):
    assert operator.get(f"/nodes/node-4/{verb}/", **DIALOG).status_code == 200


@pytest.mark.parametrize("verb", ["start", "stop", "reload", "unpin", "edit", "migrate"])
def test_every_act_on_a_portfolio_has_a_dialog(operator, verb):
    assert operator.get(f"/portfolios/vol-revert/{verb}/", **DIALOG).status_code == 200


@pytest.mark.parametrize(
    "address", ["/portfolios/no-such/", "/portfolios/no-such/stop/", "/nodes/no-such/drain/"]
)
def test_what_is_not_there_answers_404_with_a_sentence(operator, address):
    answer = operator.get(address)
    assert answer.status_code == 404
    assert "named no-such" in text_of(answer)


def test_an_edit_asks_only_for_what_was_changed(operator, asked):
    page = operator.get("/portfolios/aapl-sma/edit/", **DIALOG)
    given = {
        "config": '{"fast": 10, "slow": 50}',
        "symbols": "XOM CVX",
        "limits": '{"largest_position": "300"}',
        "selector": "{}",
        "weight": "1",
        "priority": "0",
        "spread_group": "",
        "catch_up": "state_only",
        "note": "slower",
    }
    assert "Edit aapl-sma" in text_of(page)
    answer = operator.post("/portfolios/aapl-sma/edit/", given, **DIALOG)
    changes = {"config": {"fast": 10, "slow": 50}, "note": "slower"}
    assert asked == [("revise_portfolio", ("aapl-sma", changes), {"actor": "mira"})]
    assert answer.status_code == 200


def test_what_is_no_json_is_said_beside_the_field_and_kept_as_typed(operator, asked):
    given = {"config": '{"fast": 10,}', "weight": "1", "priority": "0", "catch_up": "full"}
    answer = operator.post("/portfolios/aapl-sma/edit/", given, **DIALOG)
    page = text_of(answer)
    assert answer.status_code == 400
    assert re.search(r'data-field="config">not JSON: .* in line 1', page)
    assert "{&quot;fast&quot;: 10,}" in page
    assert asked == []


def test_a_refused_parameter_is_named_beside_its_field(operator, monkeypatch):
    def refuse(*given, **named):
        raise Invalid([{"field": "config.fast", "code": "bad", "message": "must be below slow"}])

    monkeypatch.setattr(actions.operations, "revise_portfolio", refuse)
    given = {
        "config": '{"fast": 90, "slow": 50}',
        "weight": "1",
        "priority": "0",
        "catch_up": "full",
    }
    answer = operator.post("/portfolios/aapl-sma/edit/", given, **DIALOG)
    assert answer.status_code == 400
    assert re.search(r'data-field="config">fast: must be below slow', text_of(answer))


def test_a_fleet_that_cannot_be_read_is_not_shown_as_an_empty_one(operator, monkeypatch):
    def fail():
        raise SnapshotUnavailable("away")

    monkeypatch.setattr(context, "read_fleet_view", fail)
    answer = operator.get("/")
    assert answer.status_code == 503
    assert "The database does not answer" in text_of(answer)
    assert "No node yet" not in text_of(answer)


def test_an_empty_fleet_says_what_to_run(operator, monkeypatch):
    monkeypatch.setattr(context, "read_fleet_view", lambda: world.board([], []))
    assert "bin/node --server http://testserver" in text_of(operator.get("/"))


def test_a_freeze_is_a_banner_with_the_way_out(operator, monkeypatch):
    class Frozen:
        at, by, reason, failover = world.ago(60), "mira", "exchange maintenance", False

    frozen = world.board([world.node("node-1")], [], frozen=Frozen)
    monkeypatch.setattr(context, "read_fleet_view", lambda: frozen)
    page = text_of(operator.get("/"))
    assert "by mira: exchange maintenance." in page
    assert "Failover goes on" in page
    assert "/fleet/unfreeze/" in page


def test_the_list_of_portfolios_is_filtered_by_the_address(viewer):
    page = text_of(viewer.get("/portfolios/?phase=stopped"))
    assert 'data-portfolio="old-sma"' in page
    assert 'data-portfolio="aapl-sma"' not in page
    assert "Nothing matches" in text_of(viewer.get("/portfolios/?q=zzz"))


def test_no_page_may_be_kept_by_a_cache(viewer):
    assert "no-store" in viewer.get("/").headers["Cache-Control"]
