"""The admin: everything visible, nothing editable, every act confirmed by POST."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse
from django.utils import translation

from portfolios.models import EquityPoint, FeedRow, Fill, Order, Portfolio, Revision
from scheduling import operations
from scheduling.admin.base import FleetAdmin
from scheduling.decide.reasons.plain import in_chinese
from scheduling.models import Alert, ApiToken, Event, Handoff, Lease, Node, NodeToken, Run, Tenure
from scheduling.observe.localized_reason import localized_reason
from scheduling.operations.tokens import issue_node_token
from scheduling.permissions import Role
from tests.support.factories import FakeNode, ago, lose, make_buyer, make_node, make_portfolio
from tests.support.kept_rows import KeptRows
from tests.support.pages import signed_in, text_of

SHOWN = (Portfolio, Revision, Order, Fill, FeedRow, Node, Handoff, Tenure, Event, Alert)


@pytest.fixture
def operator(db: Any) -> Client:
    return signed_in(Role.OPERATOR)


@pytest.fixture
def viewer(db: Any) -> Client:
    return signed_in(Role.VIEWER)


def address(model: Any, page: str = "changelist", *arguments: Any) -> str:
    meta = model._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_{page}", args=arguments)


def chosen(action: str, *rows: Any, **fields: str) -> dict[str, Any]:
    return {"action": action, "_selected_action": [row.pk for row in rows], **fields}


def ask(client: Client, model: Any, action: str, *rows: Any) -> Any:
    """Return the confirmation page of an act on rows."""
    return client.post(address(model), chosen(action, *rows, index="0"))


def confirm(client: Client, model: Any, action: str, *rows: Any, **fields: str) -> list[str]:
    """Confirm the act and return the messages that it left."""
    form = chosen(action, *rows, confirmed="yes", **fields)
    answer = client.post(address(model), form, follow=True)
    assert answer.status_code == 200
    return [str(message) for message in answer.context["messages"]]


@pytest.fixture
def fleet(db: Any) -> Portfolio:
    """Return a portfolio that traded on node-1, beside node-2 and a lost node-3."""
    first, second, portfolio = FLEET.get()
    first.beat()
    second.beat()
    return Portfolio.objects.get(pk=portfolio.pk)


def make_fleet() -> tuple[FakeNode, FakeNode, Portfolio]:
    first, second, gone = (make_node(f"node-{number}") for number in (1, 2, 3))
    lose(gone)
    Alert.objects.create(
        kind="node_lost", key="node:3", node=gone.row, reason="silent", opened_at=ago(1)
    )
    return first, second, make_buyer("tech-hold", first, 1000, "IBM", "HPQ")


FLEET = KeptRows(make_fleet)


@pytest.mark.usefixtures("fleet")
def test_admin_shows_a_viewer_every_row_and_lets_not_even_a_superuser_edit_one(
    viewer: Client,
) -> None:
    root = signed_in(superuser=True)
    for model in SHOWN:
        row = model.objects.latest("pk")
        change = address(model, "change", row.pk)
        assert viewer.get(address(model)).status_code == 200, model
        assert viewer.get(change).status_code == 200, model
        page = root.get(change)
        assert page.status_code == 200, model
        assert b'name="_save"' not in page.content, model
        assert root.post(change, {}).status_code == 403, model
        assert root.get(address(model, "add")).status_code == 403, model
        deletion = address(model, "delete", row.pk)
        assert root.post(deletion, {"post": "yes"}).status_code == 403, model


def test_every_fleet_model_has_read_only_admin_pages() -> None:
    ours = [
        page
        for model, page in admin.site._registry.items()
        if model._meta.app_label in ("portfolios", "scheduling")
    ]
    assert len(ours) >= 11
    assert all(isinstance(page, FleetAdmin) for page in ours)


@pytest.mark.usefixtures("fleet")
def test_user_without_a_role_sees_nothing_in_the_admin(db: Any) -> None:
    client = signed_in()
    assert client.get(address(Portfolio)).status_code == 403
    assert b"Portfolios" not in client.get(reverse("admin:index")).content


@pytest.mark.usefixtures("fleet")
def test_admin_lists_show_the_main_columns(operator: Client) -> None:
    page = operator.get(address(Portfolio)).content.decode()
    equity = f"{EquityPoint.objects.latest('seq').equity:,.2f}"
    for words in ("tech-hold", "running", "node-1", "buy_and_hold", "r1 not yet good", equity):
        assert words in page
    operations.cordon("node-2", actor="cast")
    nodes = operator.get(address(Node)).content.decode()
    for words in ("alive", "lost", "1/5", "rack-1", " s", "cordoned"):
        assert words in nodes


@pytest.mark.usefixtures("fleet")
def test_admin_lists_show_reasons_as_sentences_in_the_language_of_the_reader(
    operator: Client,
) -> None:
    lost = "its process was found ended at 09:30:00 UTC"
    Alert.objects.update(reason=lost)
    operations.cordon("node-2", actor="cast", reason=lost)
    Order.objects.update(reason="decided on a stale event")
    Revision.objects.update(status_reason="roll-out 3")
    handoff = Handoff.objects.latest("id")
    lists = {Alert: lost, Event: lost, Order: "decided on a stale event", Revision: "roll-out 3"}
    for model, reason in {**lists, Handoff: handoff.reason}.items():
        assert reason in operator.get(address(model)).content.decode()
    operator.cookies["ginkgo-language"] = "zh-hans"
    for model, reason in lists.items():
        page = operator.get(address(model)).content.decode()
        assert in_chinese(reason) in page
        assert reason not in page
    page = operator.get(address(Handoff)).content.decode()
    with translation.override("zh-hans"):
        assert localized_reason(handoff) in html.unescape(page)
    assert "params" not in page


@pytest.mark.usefixtures("fleet")
def test_admin_list_of_portfolios_is_filtered_by_phase_and_deletion(operator: Client) -> None:
    make_portfolio("idle", desired_state="stopped")

    def rows(**filters: str) -> str:
        page = operator.get(address(Portfolio), filters).content.decode()
        return page.partition('id="result_list"')[2].partition("</table>")[0]

    stopped = rows(run__phase="stopped")
    assert "idle" in stopped and "tech-hold" not in stopped
    operations.delete_portfolio("idle", actor="cast")
    assert "idle" not in rows()
    assert "idle" in rows(deleted="yes")


# --- acts -----------------------------------------------------------------------------------------


def test_confirmation_page_of_a_move_shows_consequence_and_targets_in_the_language_of_the_reader(
    operator: Client, fleet: Portfolio
) -> None:
    page = ask(operator, Portfolio, "migrate", fleet)
    words = page.content.decode()
    assert page.status_code == 200
    assert "tech-hold" in words
    assert "handed over" in words
    assert "Reason" in words
    # Every node is there, the impossible ones with their sentence and switched off.
    assert words.count('name="target"') == 4
    assert words.count("disabled") == 2
    assert Handoff.objects.count() == 1
    operator.cookies["ginkgo-language"] = "zh-hans"
    with translation.override("en"):  # the request leaves its own language behind
        page = ask(operator, Portfolio, "migrate", fleet)
    sentences = [target.sentence for target in page.context["targets"]]
    assert len(sentences) == 3
    assert all(re.search(r"[\u4e00-\u9fff]", sentence) for sentence in sentences), sentences


def test_admin_migrates_portfolios_to_a_chosen_node(operator: Client, fleet: Portfolio) -> None:
    told = confirm(operator, Portfolio, "migrate", fleet, target="node-2", reason="why not")
    assert "migrate of tech-hold (node-1 → node-2): preparing" in told[0]
    handoff = Handoff.objects.get(kind="migrate")
    assert (handoff.requested_by, handoff.reason) == ("operator", "why not")
    assert Run.objects.filter(portfolio=fleet, pinned_node__name="node-2").exists()


def test_each_row_of_an_admin_action_has_an_outcome_and_one_refusal_stops_no_other(
    operator: Client, fleet: Portfolio
) -> None:
    idle = make_portfolio("idle", desired_state="stopped")
    told = confirm(operator, Portfolio, "stop", idle, fleet)
    assert len(told) == 2
    assert any("idle" in line and "already stopped" in line for line in told)
    assert any("stop of tech-hold" in line for line in told)
    assert Portfolio.objects.get(name="tech-hold").desired_state == "stopped"


def test_admin_starts_unpins_and_deletes_portfolios(operator: Client, fleet: Portfolio) -> None:
    for action, words in (
        ("start", "already running"), ("unpin", "no longer pinned"), ("delete", "is deleted"),
    ):  # fmt: skip
        assert ask(operator, Portfolio, action, fleet).status_code == 200
        (line,) = confirm(operator, Portfolio, action, fleet)
        assert words in line


def test_admin_drains_and_cordons_nodes_and_undoes_both(operator: Client) -> None:
    daemon = make_node("node-1")
    for action, flag, wanted in (
        ("drain", "draining", True), ("undrain", "draining", False),
        ("cordon", "cordoned", True), ("uncordon", "cordoned", False),
    ):  # fmt: skip
        assert ask(operator, Node, action, daemon.row).status_code == 200
        form = chosen(action, daemon.row, confirmed="yes", reason="kernel")
        answer = operator.post(address(Node), form, follow=True)
        assert '<li class="success">node-1 ' in text_of(answer)  # the name is not capitalized
        assert getattr(Node.objects.get(), flag) is wanted
    assert Event.objects.filter(node=daemon.row, actor="operator").count() == 4


def test_admin_forgets_a_lost_node_and_refuses_one_with_a_lease(operator: Client) -> None:
    gone, here = make_node("node-1"), make_node("node-2")
    lose(gone)
    assert ask(operator, Node, "forget", gone.row, here.row).status_code == 200
    lines = confirm(operator, Node, "forget", gone.row, here.row, reason="sold")
    assert "node-1 is forgotten; its tokens are revoked." in lines
    (refused,) = [line for line in lines if "node-1" not in line]
    assert "node-2" in refused and "lease" in refused
    assert not Lease.objects.filter(node=gone.row).exists()
    assert Lease.objects.filter(node=here.row).exists()


def test_admin_revokes_all_tokens_of_a_node_at_once(operator: Client) -> None:
    issue_node_token("node-1", actor="cast")
    node = Node.objects.get()
    assert ask(operator, Node, "revoke_tokens", node).status_code == 200
    lines = confirm(operator, Node, "revoke_tokens", node, reason="leaked")
    assert lines == ["1 token of node-1 is revoked."]
    assert Event.objects.filter(kind="node_token_revoked", reason="leaked").count() == 1


def test_admin_revokes_a_token_and_never_shows_it(operator: Client) -> None:
    token = issue_node_token("node-1", actor="cast")
    row = NodeToken.objects.get()
    for page in (address(NodeToken), address(NodeToken, "change", row.pk)):
        words = operator.get(page).content.decode()
        assert token not in words
        assert row.sha256 not in words
    form = chosen("revoke", row, index="0")
    with translation.override("en"):  # the request leaves its own language behind
        answer = operator.post(address(NodeToken), form, headers={"Accept-Language": "zh-hans"})
    assert answer.context["button"] == "吊销 1 个节点令牌"
    (line,) = confirm(operator, NodeToken, "revoke", row)
    assert line == "The token of node node-1 is revoked."
    assert NodeToken.objects.get().revoked_at is not None


# --- who may --------------------------------------------------------------------------------------


def test_admin_offers_a_viewer_no_action_and_refuses_a_posted_one(
    viewer: Client, fleet: Portfolio
) -> None:
    assert 'name="action"' not in viewer.get(address(Portfolio)).content.decode()
    for fields in ({"index": "0"}, {"confirmed": "yes"}):
        viewer.post(address(Portfolio), chosen("stop", fleet, **fields))
    fleet.refresh_from_db()
    assert fleet.desired_state == "running"
    assert viewer.get(address(ApiToken)).status_code == 403


def test_an_action_on_an_id_that_is_no_number_is_a_bad_request(operator: Client) -> None:
    form = {"action": "pin", "_selected_action": ["one"], "index": "0"}
    assert operator.post(address(Portfolio), form).status_code == 400


def test_get_of_the_admin_performs_no_action(operator: Client, fleet: Portfolio) -> None:
    operator.get(address(Portfolio), chosen("stop", fleet, confirmed="yes"))
    fleet.refresh_from_db()
    assert fleet.desired_state == "running"


def test_post_to_the_admin_without_the_csrf_token_is_refused(fleet: Portfolio) -> None:
    client = signed_in(superuser=True, enforce_csrf_checks=True)
    form = chosen("stop", fleet, confirmed="yes")
    assert client.post(address(Portfolio), form).status_code == 403


def test_superuser_acts_in_the_admin_as_an_operator(fleet: Portfolio) -> None:
    client = signed_in(superuser=True)
    assert "reload of tech-hold" in confirm(client, Portfolio, "reload", fleet)[0]


#: Parts of the page without text to translate: scripts, rows and the values of a row.
NO_TEXT = re.compile(
    r"<(script|style|tbody)\b.*?</\1>|<select[^>]* multiple\b.*?</select>"
    r'|<div class="readonly">.*?</div>|<title>.*?</title>|<(h2|dialog)\b.*?</\2>',
    re.DOTALL,
)
COLOURED = re.compile(r'<span class="gk-[a-z]+">(.*?)</span>')
WORD = re.compile(r"[A-Za-z][A-Za-z_-]+")
#: Names, units and codes, which are the same in every language.
SAME = {
    *("Ginkgo", "API", "Cron", "Django", "Unix", "UTC", "ID", "JSON", "ALERT_URL", "Python"),
    *("seq", "sha", "wheel", "null", "node", "portfolio", "fleet", "code", "params", "reason"),
    *("lost_reason", "market", "limit", "stop", "gtc", "ioc", "module", "tasks", "function"),
    *("result_function", "myapp", "job", "tech-hold", "root", "x", "y", "name", "John"),
    *("node-", "IBM", "HPQ", "buy_and_hold", "viewer", "operator", "administrator", "Seq", "Sha"),
}


def english_words(page: str, *names: str) -> set[str]:
    """Return the words of an admin page that are not Chinese, beside `names`."""
    text = " ".join([*COLOURED.findall(page), NO_TEXT.sub(" ", page)])
    text = html.unescape(re.sub(r"<[^>]*>", " ", text))
    for name in names:
        text = text.replace(name, " ")
    return {word for word in WORD.findall(text) if word not in SAME}


@pytest.mark.usefixtures("fleet")
def test_admin_pages_have_no_text_that_is_not_translated(db: Any) -> None:
    client = signed_in(superuser=True)
    client.cookies["ginkgo-language"] = "zh-hans"
    issue_node_token("node-1", actor="cast")
    index = client.get(reverse("admin:index")).content.decode()
    found = {"index": english_words(index)}
    for model in admin.site._registry:
        name = model._meta.label
        found[name] = english_words(client.get(address(model)).content.decode())
        row = model._default_manager.order_by("-pk").first()
        if row is not None and model._meta.app_label != "auth":  # all of that is Django's own
            page = client.get(address(model, "change", row.pk)).content.decode()
            found[f"{name} row"] = english_words(page, str(row))
    assert {page: words for page, words in found.items() if words} == {}
    assert "交接" in index
    assert len(found) > 25
