"""What an operator can do with an alert and with a channel that alerts are sent to."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

from scheduling.operations import alerts
from scheduling.operations.registry.operation import Operation

ACKNOWLEDGE_ALERT = Operation(
    "acknowledge",
    _("Acknowledge alert {name}"),
    _(
        "The alert no longer counts at the bell. It stays open, with your name and note, until its "
        "cause is gone; if the cause returns, it counts again."
    ),
    alerts.acknowledge_alert,
    _("Alert {name} is acknowledged."),
    "acknowledge_alert {name}",
)
ADD_ALERT_CHANNEL = Operation(
    "set",
    _("Send alerts to {name}"),
    _(
        "Each alert is sent there once when it is opened, and once when it is over. The address is "
        "stored encrypted and is never shown again."
    ),
    alerts.add_channel,
    _("Alerts are sent to {name}."),
    "alert_channel set {name}",
    asks_reason=False,
)
TEST_ALERT_CHANNEL = Operation(
    "test",
    _("Send a test message to {name}"),
    _("The queue worker sends one message, as it sends alerts; its outcome is shown here."),
    alerts.test_channel,
    _("A test message to {name} is on its way."),
    "alert_channel test {name}",
    asks_reason=False,
)
REMOVE_ALERT_CHANNEL = Operation(
    "remove",
    _("Send no alerts to {name}"),
    _("Messages that wait for it are dropped, and its address is deleted."),
    alerts.remove_channel,
    _("No alert is sent to {name} any more."),
    "alert_channel remove {name}",
    danger=True,
)
