"""Alerts: bell, page and acknowledgement, and their delivery to a real webhook by the worker."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from unittest import mock

import pytest
from django.core.management import call_command
from django.test import Client

from chaos.harness.installation import SLOW_MACHINE_S
from ginkgo_site.encryption_keys import new_key
from portfolios.models import Secret
from scheduling import alert_delivery
from scheduling.db.transaction import execute, execute_autocommit
from scheduling.dead_mans_switch import look
from scheduling.enact import alert_messages, alerts
from scheduling.enact.pass_lock import acquire
from scheduling.models import Alert, AlertChannel, AlertMessage, Event, Node, PassLock
from scheduling.observe.control_plane import MESSAGES_LIMIT_S
from scheduling.operations.alerts import add_channel
from scheduling.operations.alerts import test_channel as check_channel
from scheduling.permissions import Role
from scheduling.tasks import deliver_alerts
from scheduling.timing import timing
from tests.support.api_client import fields_of, problem
from tests.support.factories import ago, make_settled_nodes
from tests.support.pages import DIALOG, signed_in, text_of

pytestmark = pytest.mark.django_db


class Webhook(HTTPServer):
    """A real HTTP server that keeps what it receives and answers with `status`."""

    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[dict[str, Any]] = []

    @property
    def address(self) -> str:
        return f"json://user:secret-password@127.0.0.1:{self.server_port}/hook"


class _Handler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(json.loads(body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *given: Any) -> None:
        """Keep the output of the tests quiet."""


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def channel(webhook: Webhook) -> Webhook:
    """Return the webhook of a channel, to which alerts of two nodes are sent."""
    make_settled_nodes(2)
    add_channel("on-call", webhook.address, actor="olive")
    return webhook


@pytest.fixture(autouse=True)
def keys(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.GINKGO = replace(settings.GINKGO, encryption_keys=(new_key(),), alert_url=None)
    monkeypatch.setattr(alert_delivery, "CONNECT_S", SLOW_MACHINE_S)
    monkeypatch.setattr(alert_delivery, "READ_S", SLOW_MACHINE_S)


def lose(name: str) -> Alert:
    """Open the alert of a lost node, as the watcher does."""
    Node.objects.filter(name=name).update(status="lost", status_since=ago(60))
    execute_autocommit(alerts.update_alerts(timing()))
    return Alert.objects.get(node__name=name, closed_at=None)


def revive(name: str) -> None:
    Node.objects.filter(name=name).update(status="alive", status_since=ago(0))
    execute_autocommit(alerts.update_alerts(timing()))


def make_due() -> None:
    AlertMessage.objects.filter(state="waiting").update(next_try_at=ago(1))


def test_bell_counts_the_alerts_that_nobody_has_acknowledged(desk: Client) -> None:
    make_settled_nodes(2)
    assert 'data-count="0"' in text_of(desk.get("/nodes/"))
    alert = lose("node-1")
    page = text_of(desk.get("/nodes/"))
    assert 'data-count="1"' in page
    assert "1 open alert that nobody has acknowledged" in page
    answer = desk.post(f"/alerts/{alert.pk}/acknowledge/", {"reason": "power cut in rack 7"})
    assert answer.status_code == 302
    assert 'data-count="0"' in text_of(desk.get("/nodes/"))
    # A page names its reader too.
    page = text_of(signed_in(Role.VIEWER, "vera").get("/alerts/"))
    assert "power cut in rack 7" in page
    assert "mira" in page
    assert Event.objects.get(kind="alert_acknowledged").reason == "power cut in rack 7"


def test_second_acknowledgement_is_refused_and_names_the_person_who_acknowledged(
    desk: Client, operator: Any
) -> None:
    make_settled_nodes(2)
    alert = lose("node-1")
    document = operator.post(f"alerts/{alert.pk}/acknowledge/", {"reason": "seen"}).json()
    assert (document["acknowledged_by"], document["acknowledged_note"]) == ("olive", "seen")
    answer = desk.post(f"/alerts/{alert.pk}/acknowledge/", {"reason": "mine"}, **DIALOG)
    assert answer.status_code == 409
    assert "was acknowledged by olive" in text_of(answer)
    assert "mine" in text_of(answer)
    revive("node-1")
    problem(operator.post(f"alerts/{alert.pk}/acknowledge/"), 409, "not_open")
    problem(operator.post("alerts/999/acknowledge/"), 404, "not_found")


def test_alert_whose_cause_returns_is_no_longer_acknowledged(operator: Any) -> None:
    make_settled_nodes(2)
    alert = lose("node-1")
    operator.post(f"alerts/{alert.pk}/acknowledge/")
    revive("node-1")
    again = lose("node-1")
    assert (again.pk, again.times, again.acknowledged_by) == (alert.pk, 2, "")


def test_alert_page_keeps_closed_alerts_and_hides_channels_from_viewers(desk: Client) -> None:
    make_settled_nodes(2)
    alert = lose("node-1")
    revive("node-1")
    page = text_of(desk.get("/alerts/"))
    assert page.index("No alert is open.") < page.index(f'data-alert="{alert.pk}"')
    assert 'data-alert="' not in text_of(desk.get("/alerts/?kind=stalled"))
    viewer = signed_in(Role.VIEWER)
    page = text_of(viewer.get("/alerts/"))
    assert "Sent to" not in page
    assert viewer.post(f"/alerts/{alert.pk}/acknowledge/").status_code == 403


def test_alert_icon_shows_the_number_in_its_address_and_99_at_most() -> None:
    for count, shown in ((0, 0), (7, 7), (100, 99)):
        answer = Client().get(f"/alerts/icon-{count}.svg")
        assert answer["Content-Type"] == "image/svg+xml"
        assert f">{shown}<" in answer.content.decode()


def test_an_alert_sends_one_message_when_it_opens_and_one_when_it_closes(channel: Webhook) -> None:
    lose("node-1")
    execute_autocommit(alerts.update_alerts(timing()))  # the cause is still there: nothing new
    assert deliver_alerts() == "1 delivered"
    revive("node-1")
    assert deliver_alerts() == "1 delivered"
    assert deliver_alerts() == "0 delivered"
    opened, closed = channel.received
    assert (opened["title"], opened["type"]) == ("[Ginkgo] node lost: node-1", "failure")
    assert "node-1 is lost since" in opened["message"]
    assert (closed["title"], closed["type"]) == ("[Ginkgo] over: node lost: node-1", "success")


def test_a_web_process_sends_the_alert_messages_that_no_worker_sends(channel: Webhook) -> None:
    lose("node-1")
    look()  # a worker may be about to
    assert channel.received == []
    AlertMessage.objects.update(next_try_at=ago(MESSAGES_LIMIT_S + 1))
    look()
    look()
    assert [message["title"] for message in channel.received] == ["[Ginkgo] node lost: node-1"]
    assert AlertMessage.objects.get().state == "sent"


def test_messages_wait_for_the_delivery_lock_of_a_dead_host_until_it_expires(
    channel: Webhook,
) -> None:
    lose("node-1")
    hold_s = alert_delivery.HOLD_S
    assert execute_autocommit(acquire("worker-1, unplugged", alert_delivery.LOCK, hold_s))
    assert deliver_alerts() == "0 delivered"
    held = PassLock.objects.filter(name=alert_delivery.LOCK, until__lte=ago(-hold_s))
    assert held.update(until=ago(0.001)) == 1
    assert deliver_alerts() == "1 delivered"


def test_refused_message_is_tried_again_a_bounded_number_of_times(channel: Webhook) -> None:
    channel.status = 503
    lose("node-1")
    for attempt in range(1, alert_messages.MAX_ATTEMPTS + 1):
        assert deliver_alerts() == "0 delivered"
        assert AlertMessage.objects.get().attempts == attempt
        assert deliver_alerts() == "0 delivered"  # not before its next try is due
        make_due()
    message = AlertMessage.objects.get()
    assert message.state == "failed"
    assert "secret-password" not in message.error
    assert len(channel.received) == alert_messages.MAX_ATTEMPTS
    out = io.StringIO()
    call_command("alert_channel", "list", stdout=out)
    assert out.getvalue().startswith("on-call: newest message failed (")
    assert out.getvalue().endswith(f"): {message.error}\n")


def test_second_address_hidden_in_a_channel_address_is_sent_nothing() -> None:
    """Nothing listens at the first; apprise would send to the second, a scheme that is refused."""
    hidden = "json://localhost:9/?a=b, syslog://?"
    both = mock.Mock(return_value=True)
    with mock.patch("apprise.plugins.syslog.NotifySyslog.send", both):
        alert_delivery.send(hidden, "t", "b", "opened")
    assert both.mock_calls == []


def test_address_that_is_not_understood_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    for address in ("slack://a-secret-token", "pagerduty://a-secret-token"):
        assert "does not understand" in alert_delivery.send(address, "t", "b", "opened")
    assert "a-secret-token" not in caplog.text


def test_message_past_its_deadline_fails_without_being_sent(channel: Webhook) -> None:
    lose("node-1")
    AlertMessage.objects.update(at=ago(alert_messages.DEADLINE_S + 1))
    assert deliver_alerts() == "0 delivered"
    assert AlertMessage.objects.get().state == "failed"
    assert channel.received == []


def test_hanging_alert_service_delays_nothing_but_its_own_message(
    channel: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_delivery, "READ_S", 0.2)
    released = threading.Event()
    monkeypatch.setattr(_Handler, "do_POST", lambda self: released.wait(20))
    lose("node-1")  # the pass that opens the alert does not wait for the service
    assert deliver_alerts() == "0 delivered"
    released.set()
    assert "did not answer in time" in AlertMessage.objects.get().error


def test_channel_address_is_a_secret_that_no_page_shows(desk: Client, webhook: Webhook) -> None:
    answer = desk.post("/alert-channels/", {"name": "on-call", "address": webhook.address})
    assert answer.status_code == 302
    assert "secret-password" not in Secret.objects.get(name="alerts-on-call").ciphertext
    for address in ("/alerts/", "/audit/"):
        assert "secret-password" not in text_of(desk.get(address))
    desk.post("/alert-channels/on-call/test/")
    assert deliver_alerts() == "1 delivered"
    assert webhook.received[0]["title"] == "[Ginkgo] test"
    assert 'data-state="sent"' in text_of(desk.get("/alerts/"))
    desk.post("/alert-channels/on-call/remove/", {"reason": "moved"})
    assert not AlertChannel.objects.exists()
    assert not Secret.objects.exists()
    assert Event.objects.get(kind="alert_channel_removed").reason == "moved"


REFUSED_CHANNELS = (
    ("on-call", "https://example.org/hook", "address", "for a webhook write jsons://"),
    ("on-call", "syslog://", "address", "is not one of json, jsons"),
    ("on-call", "file:///etc/passwd", "address", "is not one of"),
    ("on-call", "tgram://t/1/?a=b&%54emplate=/etc/x", "address", "parameter template would"),
    ("On Call", "json://localhost", "name", "use small letters"),
    ("environment", "json://localhost", "name", "GINKGO_ALERT_URL defines the channel"),
)


def test_refused_channel_names_the_wrong_field(desk: Client, operator: Any) -> None:
    for name, address, field, said in REFUSED_CHANNELS:
        answer = desk.post("/alert-channels/", {"name": name, "address": address}, **DIALOG)
        assert answer.status_code == 400
        assert said in text_of(answer)
        refused = operator.post("alert-channels/", {"name": name, "address": address})
        assert fields_of(problem(refused, 400, "invalid")) == {field: "invalid"}
        assert not AlertChannel.objects.exists()


def test_alert_address_of_the_environment_becomes_a_channel_that_nobody_can_delete(
    webhook: Webhook, settings: Any, operator: Any
) -> None:
    make_settled_nodes(2)
    settings.GINKGO = replace(settings.GINKGO, alert_url=webhook.address)
    deliver_alerts()
    lose("node-1")
    assert deliver_alerts() == "1 delivered"
    problem(operator.delete("alert-channels/environment/", {"reason": ""}), 409, "invalid")
    settings.GINKGO = replace(settings.GINKGO, alert_url=None)
    deliver_alerts()
    assert not AlertChannel.objects.get().enabled


def test_alert_messages_are_in_the_configured_language(channel: Webhook, settings: Any) -> None:
    settings.GINKGO = replace(settings.GINKGO, alert_language="zh-hans")
    check_channel("on-call", actor="olive")
    lose("node-1")
    assert deliver_alerts() == "2 delivered"
    test, lost = channel.received
    assert (test["title"], test["message"]) == ("[Ginkgo] 测试", "测试消息，由 olive 请求。")
    assert lost["title"] == "[Ginkgo] 节点失联：node-1"
    assert re.fullmatch(r"node-1 自 \d\d:\d\d:\d\d UTC 起失联", lost["message"])
    assert Alert.objects.get().reason.startswith("node-1 is lost since ")


def test_channels_are_added_tested_and_deleted_over_the_api(
    operator: Any, viewer: Any, webhook: Webhook
) -> None:
    body = {"name": "on-call", "address": webhook.address}
    assert operator.post("alert-channels/", body).status_code == 200
    (row,) = operator.get("alert-channels/").json()["results"]
    assert row["name"] == "on-call"
    assert "secret-password" not in json.dumps(row)
    problem(viewer.get("alert-channels/"), 403, "forbidden")
    assert operator.post("alert-channels/on-call/test/").status_code == 202
    assert deliver_alerts() == "1 delivered"
    assert operator.delete("alert-channels/on-call/", {"reason": "x"}).status_code == 204
    problem(operator.delete("alert-channels/on-call/", {"reason": "x"}), 404, "not_found")


def test_old_alert_messages_are_deleted(channel: Webhook) -> None:
    lose("node-1")
    deliver_alerts()
    assert execute(alert_messages.prune_alert_messages()) == 0
    AlertMessage.objects.update(at=ago(alert_messages.KEEP_S + 1))
    assert execute(alert_messages.prune_alert_messages()) == 1
