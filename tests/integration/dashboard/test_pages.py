"""Pages and dialogs of the dashboard, over a handmade fleet."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from ginkgo_site.env import CHECKOUT
from scheduling.dashboard import context
from scheduling.dashboard.actions import NODE_ACTIONS
from scheduling.dashboard.views import actions, feeds, palette, portfolio
from scheduling.decide.planner.targets import NotInSnapshot
from scheduling.decide.types import TargetAnswer
from scheduling.errors import Refused, SnapshotUnavailable
from scheduling.observe.fleet_view.types import FleetView
from scheduling.observe.halts import HaltView
from scheduling.permissions import Role
from tests.support import board_fixture
from tests.support.pages import DIALOG, signed_in, text_of
from tests.support.patches import raising

pytestmark = pytest.mark.django_db

TARGETS = [
    TargetAnswer("node-1", False, "same_node", "aapl-sma runs here", None, 5, 5, 8),
    TargetAnswer("node-2", True, None, "can take it", None, 5, 6, 6),
    TargetAnswer("node-3", True, None, "can take it", "node-3 is suspect", 4, 5, 6),
    TargetAnswer("node-6", False, "node_cordoned", "node-6 is cordoned", None, 4, 4, 8),
]


@pytest.fixture
def fleet(monkeypatch):
    """All pages read the busy fleet; the migrate dialog gets the targets above."""
    for module in (context, portfolio):
        monkeypatch.setattr(module, "read_fleet_view", board_fixture.busy_fleet)
    monkeypatch.setattr(actions, "observe", lambda timing: SimpleNamespace(snapshot=None))
    monkeypatch.setattr(actions, "targets", lambda snapshot, name, language: TARGETS)


@pytest.fixture
def operator(fleet):
    return signed_in(Role.OPERATOR, "mira")


@pytest.fixture
def viewer(fleet):
    return signed_in(Role.VIEWER, "vic")


@pytest.fixture
def calls(monkeypatch):
    """Replace operations by recorders and return the recorded calls."""
    recorded: list[tuple] = []

    def record(verb, *given, **named):
        recorded.append((verb, given, named))

    monkeypatch.setattr(actions.operations, "migrate", partial(record, "migrate"))
    return recorded


def test_palette_offers_actions_to_operators_only(operator, viewer, monkeypatch):
    monkeypatch.setattr(palette, "read_fleet_view", board_fixture.busy_fleet)

    def found(client: Client) -> dict:
        return client.get("/palette.json").json()

    for client, kinds in ((operator, {"page", "action"}), (viewer, {"page"})):
        assert {entry["kind"] for entry in found(client)["entries"]} == kinds
        (portfolios, _nodes) = found(client)["groups"]
        rows = {name: allowed for name, _detail, allowed in portfolios["rows"]}
        assert bool(rows["aapl-sma"]) == (client is operator)
    assert Client().get("/palette.json").status_code == 302


def test_anonymous_user_is_redirected_to_the_login_page(fleet):
    answer = Client().get("/")
    assert (answer.status_code, answer["Location"]) == (302, "/login/?next=/")


def test_login_page_states_that_the_session_has_ended(fleet, operator):
    operator.session.flush()  # as if it had expired: the browser still sends its cookie
    answer = operator.get("/portfolios/?phase=running")
    assert answer.url == "/login/?ended=1&next=/portfolios/%3Fphase%3Drunning"
    assert "Your session has ended" in text_of(Client().get(answer.url))
    assert "Your session has ended" not in text_of(Client().get("/login/?next=/"))


def test_board_has_data_attributes_for_automation(operator):
    page = text_of(operator.get("/"))
    assert re.search(r'data-node="node-5" data-status="lost"', page)
    assert re.search(r'data-portfolio="energy-revert" data-phase="draining"', page)
    assert 'data-handoff="4182"' in page
    assert 'data-portfolio="gpu-arb" data-phase="pending"' in page
    assert "needs gpu=yes: 0 of 6 nodes have it" in page


def test_pages_have_one_heading_and_one_main_and_no_inline_styles_or_handlers(operator):
    portfolios = ("/portfolios/", "/portfolios/aapl-sma/")
    for address in ("/", *portfolios, "/nodes/", "/handoffs/", "/audit/", "/login/"):
        page = text_of(operator.get(address))
        assert page.count("<h1") == 1, address
        assert page.count("<main") == 1, address
        assert not re.search(r"<[^>]+\s(style|on[a-z]+)=", page), address
        assert "<style" not in page
        assert not re.search(r'<script(?![^>]*(\bsrc=|"application/json"))', page), address


def test_page_links_to_the_api_documentation_and_for_staff_to_the_admin(operator):
    assert 'href="/admin/"' in operator.get("/orders/").content.decode()
    User.objects.filter(username="mira").update(is_staff=False)
    page = operator.get("/orders/").content.decode()
    assert 'href="/api/docs/"' in page and 'href="/admin/"' not in page


def test_query_parameters_that_the_database_rejects_cause_no_internal_error(operator):
    for address in (
        *(f"/audit/?{name}=%00" for name in ("kind", "portfolio", "node", "actor")),
        *(f"/handoffs/?{name}=%00" for name in ("portfolio", "node", "kind", "state")),
        f"/audit/?before={10**25}",
        *(f"/portfolios/aapl-sma/?{name}={10**25}" for name in ("orders", "tenures", "revisions")),
    ):
        assert "Internal error" not in text_of(operator.get(address)), address


def test_unknown_action_is_named(operator):
    for address in ("/nodes/node-1/explode/", "/portfolios/aapl-sma/explode/", "/fleet/explode/"):
        answer = operator.get(address)
        assert answer.status_code == 404
        assert "There is no action named explode." in text_of(answer)


def test_viewer_sees_the_fleet_without_actions(viewer):
    page = text_of(viewer.get("/"))
    assert "vic · viewer" in page
    assert "data-dialog" not in page
    assert "Migrate" not in page
    assert "8,658,329 events" in page


def test_viewer_who_asks_for_an_action_gets_403(viewer, calls):
    for address in (
        *(f"/portfolios/aapl-sma/{verb}/" for verb in ("migrate", "stop", "edit")),
        *("/nodes/node-1/drain/", "/fleet/freeze/", "/migrate/?portfolio=aapl-sma"),
    ):
        for answer in (viewer.post(address, {"target_node": "node-2"}), viewer.get(address)):
            assert answer.status_code == 403, address
            assert "vic is a viewer" in text_of(answer)
    assert calls == []


def test_user_without_a_role_sees_nothing_of_the_fleet(fleet):
    answer = signed_in(None, "nob").get("/")
    assert answer.status_code == 403
    assert "neither the group operator nor viewer" in text_of(answer)
    assert "node-1" not in text_of(answer)


def test_post_without_csrf_token_changes_nothing(fleet, calls):
    strict = signed_in(superuser=True, enforce_csrf_checks=True)
    answer = strict.post("/portfolios/aapl-sma/migrate/", {"target_node": "node-2"})
    assert answer.status_code == 403
    dialog = text_of(strict.post("/portfolios/aapl-sma/migrate/", {}, **DIALOG))
    assert "The form has expired" in dialog
    assert "data-cancel" in dialog
    assert "<main" not in dialog  # the dialog shows all of it
    assert calls == []


def test_migrate_dialog_says_for_each_node_whether_it_takes_the_portfolio(operator):
    page = text_of(operator.get("/portfolios/aapl-sma/migrate/", **DIALOG))
    assert page.count('name="target_node"') == 4
    assert 'value="node-6" data-option="--to node-6" disabled' in page
    assert "node-6 is cordoned" in page
    # node-2 without a risk is offered before node-3, which is suspect
    assert 'value="node-2" data-option="--to node-2" checked' in page
    assert "5 → 6" in page
    assert "manage.py migrate_portfolio aapl-sma <span data-chosen-option>--to NODE</span>" in page
    assert "node-1 stops at its next batch boundary" in page
    assert "node-1 takes the portfolio back" in page
    assert "The move pins aapl-sma" in page
    assert "epoch 9 → 10" in page
    assert "<html" not in page


def test_migrate_dialog_of_a_portfolio_that_was_just_deleted_is_a_404(operator, monkeypatch):
    monkeypatch.setattr(actions, "targets", raising(NotInSnapshot("portfolio", "aapl-sma")))
    answer = operator.get("/portfolios/aapl-sma/migrate/", **DIALOG)
    assert (answer.status_code, "named aapl-sma" in text_of(answer)) == (404, True)


def test_action_form_is_a_whole_page_for_a_browser_without_scripts(operator):
    page = text_of(operator.get("/portfolios/aapl-sma/migrate/"))
    assert "<html" in page
    assert 'name="target_node"' in page
    assert page.count("<h1") == 1


def test_migrate_dialog_for_a_node_that_cannot_take_it_says_why(operator):
    page = text_of(operator.get("/portfolios/aapl-sma/migrate/?to=node-6", **DIALOG))
    assert re.search(r'role="alert">.*?node-6 is cordoned\.', page, re.DOTALL)
    assert "checked" not in page
    page = text_of(operator.get("/portfolios/aapl-sma/migrate/?to=node-3", **DIALOG))
    assert 'value="node-3" data-option="--to node-3" checked' in page
    assert 'role="alert"' not in page


@pytest.mark.parametrize("node", ["node-5", None])
def test_migrate_dialog_of_a_portfolio_that_no_node_runs_says_that_nothing_stops(
    operator, monkeypatch, node
):
    fleet = board_fixture.busy_fleet()
    fleet.portfolios.append(board_fixture.portfolio("gone", node, phase="pending"))
    monkeypatch.setattr(context, "read_fleet_view", lambda: fleet)
    page = text_of(operator.get("/portfolios/gone/migrate/", **DIALOG))
    assert "Nothing has to stop: the target goes on from the last commit." in page
    assert "the balancer places the portfolio again" in page
    assert ("node-5, its owner, is lost or has left" in page) == (node is not None)
    assert ("If node-5 is alive again before the grant, it keeps the" in page) == (node is not None)
    for words in ("batch boundary", "takes the portfolio back", "Expected pause", "Load of"):
        assert words not in page


def test_migrate_form_calls_the_operation_once_with_actor_and_reason(operator, calls):
    given = {"target_node": "node-2", "reason": " next to its data "}
    answer = operator.post("/portfolios/aapl-sma/migrate/", given, **DIALOG)
    named = {"actor": "mira", "reason": "next to its data"}
    assert calls == [("migrate", ("aapl-sma", "node-2"), named)]
    assert answer.json() == {"message": "aapl-sma is moving to node-2."}


def test_post_without_scripts_redirects_back_with_a_message_and_to_no_other_site(operator, calls):
    given = {"target_node": "node-2", "next": "/nodes/"}
    answer = operator.post("/portfolios/aapl-sma/migrate/", given, follow=True)
    assert answer.redirect_chain == [("/nodes/", 302)]
    assert "aapl-sma is moving to node-2." in text_of(answer)
    given["next"] = "https://evil.example/"
    assert operator.post("/portfolios/aapl-sma/migrate/", given).url == "/"


def test_refusal_is_shown_in_the_dialog_and_keeps_the_input(operator, monkeypatch):
    full = Refused("node_full", "node-2 is full: load 6 of 6; choose another node.")
    monkeypatch.setattr(actions.operations, "migrate", raising(full))
    given = {"target_node": "node-2", "reason": "because I said"}
    answer = operator.post("/portfolios/aapl-sma/migrate/", given, **DIALOG)
    assert answer.status_code == 409
    page = text_of(answer)
    assert "node-2 is full: load 6 of 6; choose another node." in page
    assert 'value="because I said"' in page
    assert 'value="node-2" data-option="--to node-2" checked' in page


def test_every_action_has_a_dialog_and_a_404_names_the_unknown_object(operator):
    verbs = ("start", "stop", "reload", "unpin", "edit", "migrate")
    for address in (
        *(f"/nodes/node-4/{verb}/" for verb in NODE_ACTIONS.keys() - {"drain"}),
        *(f"/portfolios/vol-revert/{verb}/" for verb in verbs),
    ):
        assert operator.get(address, **DIALOG).status_code == 200, address
    for address in ("/portfolios/no-such/", "/portfolios/no-such/stop/", "/nodes/no-such/drain/"):
        answer = operator.get(address)
        assert answer.status_code == 404
        assert "named no-such" in text_of(answer)


def test_unreadable_fleet_is_not_shown_as_empty(operator, monkeypatch):
    monkeypatch.setattr(context, "read_fleet_view", raising(SnapshotUnavailable("away")))
    answer = operator.get("/")
    assert answer.status_code == 503
    assert "The database does not respond" in text_of(answer)
    assert "No node has registered yet" not in text_of(answer)


def test_freeze_is_shown_as_a_banner_with_a_button_to_end_it(operator, monkeypatch):
    class Frozen:
        at, by, reason, failover = board_fixture.ago(60), "mira", "exchange maintenance", False

    frozen = board_fixture.fleet_view([board_fixture.node("node-1")], [], frozen=Frozen)
    monkeypatch.setattr(context, "read_fleet_view", lambda: frozen)
    page = text_of(operator.get("/"))
    assert "by mira: exchange maintenance." in page
    assert "Failover continues" in page
    assert "/fleet/unfreeze/" in page


def test_portfolio_list_is_filtered_by_the_query(viewer):
    page = text_of(viewer.get("/portfolios/?phase=stopped"))
    assert 'data-portfolio="old-sma"' in page
    assert 'data-portfolio="aapl-sma"' not in page
    assert "Nothing matches" in text_of(viewer.get("/portfolios/?q=zzz"))


def test_halt_banner_comes_before_all_other_banners(operator, viewer, monkeypatch):
    halt = HaltView(4, board_fixture.ago(60), "ginkgo", "wrong prices", 9, 9, 9, None, "")
    halted = board_fixture.fleet_view([board_fixture.node("node-1")], [], halts=[halt])
    monkeypatch.setattr(context, "read_fleet_view", lambda: halted)
    for address in ("/", "/nodes/", "/portfolios/"):
        page = text_of(operator.get(address))
        first = re.search(r'<div class="banner ([\w-]+)[^>]*>(.*?)</div>', page)
        assert first is not None
        assert first[1] == "banner-halt", address
        said = " ".join(re.sub("<[^>]+>", " ", first[2]).split())
        assert re.search(r"Halted .*14:04:12( UTC)? by ginkgo: wrong prices\.", said), said
        assert "9 portfolios do not trade until an operator starts them." in said
        assert 'href="/halts/4/undo/" data-dialog> Start 9 again…' in first[2]
    assert "loss absorbed" not in text_of(operator.get("/"))
    assert "Start 9 again" not in text_of(viewer.get("/"))
    chinese = text_of(operator.get("/", headers={"Accept-Language": "zh-hans"}))
    assert "9 个组合停止交易，直到操作员重新启动。" in chinese


def test_board_of_a_fresh_installation_says_what_to_do_next(operator, viewer, monkeypatch):
    def show(client: Client, *nodes: Any) -> str:
        fleet = board_fixture.fleet_view(list(nodes), [])
        monkeypatch.setattr(context, "read_fleet_view", lambda: fleet)
        return text_of(client.get("/"))

    empty = show(operator)
    assert "No node has registered yet." in empty
    assert 'href="/add-node/" data-dialog' in empty
    assert "An operator adds the first one." in show(viewer)
    with_node = show(operator, board_fixture.node("node-1"))
    assert "No portfolio yet." in with_node and 'href="/new-portfolio/"' in with_node
    assert "No node has registered yet." not in with_node
    assert "new-portfolio" not in show(viewer, board_fixture.node("node-1"))


def test_handoff_page_tells_an_empty_history_from_a_filter_that_matches_nothing(operator):
    assert "No handoff yet" in operator.get("/handoffs/").content.decode()
    for query in ("kind=migrate", "since=2026-01-01T00:00", "before=1"):
        page = operator.get(f"/handoffs/?{query}").content.decode()
        assert "Nothing matches." in page and "No handoff yet" not in page


def test_portfolio_list_of_an_empty_installation_says_what_to_do(operator, viewer, monkeypatch):
    monkeypatch.setattr(context, "read_fleet_view", lambda: board_fixture.fleet_view([], []))
    page = text_of(operator.get("/portfolios/"))
    assert "No portfolio yet." in page
    assert f"{CHECKOUT}/manage.py create_portfolio NAME --strategy canary" in page
    assert "Nothing matches" not in page
    assert "create_portfolio" not in text_of(viewer.get("/portfolios/"))


@pytest.mark.parametrize(
    ("place", "command"),
    [("/feeds/", "feed import NAME FILE.csv"), ("/roll-outs/", "roll_out ARTIFACT")],
)
def test_empty_list_shows_a_command_that_runs_from_any_folder(viewer, monkeypatch, place, command):
    monkeypatch.setattr(feeds, "read_feeds", list)
    page = text_of(viewer.get(place))
    assert re.search(rf'<code id="[a-z-]+-line">.*{CHECKOUT}/manage.py {command}</code>', page)


def test_configuration_section_is_refreshed_with_its_revision_and_parameters(operator):
    page = text_of(operator.get("/portfolios/aapl-sma/"))
    pane = r'<section class="pane" id="configuration" data-refresh.*?</section>'
    (section,) = re.findall(pane, page)
    assert '<span class="count">r12</span>' in section
    assert "slow" in section


def test_pages_are_not_cached(viewer):
    assert "no-store" in viewer.get("/").headers["Cache-Control"]


def account_of(fleet: FleetView, name: str) -> dict[str, Any]:
    """Return the account of a portfolio, to be changed in place."""
    (account,) = (row.account for row in fleet.portfolios if row.name == name)
    assert isinstance(account, dict)
    return account


def test_portfolio_page_shows_how_far_the_equity_is_below_its_peak(fleet, operator, monkeypatch):
    busy = board_fixture.busy_fleet()
    account = account_of(busy, "aapl-sma")
    figures = {"drawdown_pct": Decimal("1.2500"), "largest_drawdown": Decimal(3200)}
    account.update(figures, figures_since=412)
    for module in (context, portfolio):
        monkeypatch.setattr(module, "read_fleet_view", lambda: busy)
    page = text_of(operator.get("/portfolios/aapl-sma/"))
    assert '<dt>Drawdown</dt> <dd> 1.25 % <small class="wide" title="since seq 412">' in page
    assert "largest 3,200.00" in page
    assert "of 5 attempts" not in page  # there was none


def test_portfolio_page_shows_metrics_where_a_strategy_sets_some(fleet, operator, monkeypatch):
    busy = board_fixture.busy_fleet()
    for module in (context, portfolio):
        monkeypatch.setattr(module, "read_fleet_view", lambda: busy)
    pane = r'<section class="pane" id="part-metrics" aria-labelledby="h-metrics" hidden>'
    assert re.search(pane, text_of(operator.get("/portfolios/aapl-sma/")))
    account_of(busy, "aapl-sma").update(metrics={"spread": 0.03141592653, "<b>": 1250.0})
    page = text_of(operator.get("/portfolios/aapl-sma/"))
    assert not re.search(pane, page)
    assert '<dt>spread</dt><dd class="">0.0314159</dd>' in page
    assert "&lt;b&gt;" in page
