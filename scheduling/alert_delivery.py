"""Deliver messages about alerts through apprise. Run by the queue worker, never by a pass.

Addresses contain passwords and tokens: they are read from secrets here, and enter neither logs nor
errors nor rows. Each try has a deadline of its own, and one run has a budget, below the time limit
of a task.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid

from django.conf import settings
from django.utils.translation import override

from scheduling.alert_addresses import address_error
from scheduling.db.transaction import execute, execute_autocommit
from scheduling.enact.alert_messages import (
    MessageRow,
    claim,
    give_up_late,
    record_failed,
    record_sent,
)
from scheduling.enact.pass_lock import acquire, release
from scheduling.errors import Refused
from scheduling.models import AlertChannel
from scheduling.operations.secrets import read_secret
from scheduling.presentation.sentences import delivered_text

logger = logging.getLogger(__name__)

#: A delivery ends after this time: the queue ends a task after 25 s, and the next one goes on.
BUDGET_S = 12.0
CONNECT_S, READ_S = 3.0, 5.0  #: limits of one try, which apprise keeps
#: The lock of a delivery is a row. It expires after HOLD_S: the queue has ended the task by then. A
#: lock of the session would outlive a host that lost power, until PostgreSQL gave the session up.
#: Two deliveries at once affect only the order of messages, since each message is claimed.
LOCK, HOLD_S = "alert delivery", 30.0


def deliver() -> int:
    """Send the messages that are due until none is left or the budget is spent.

    Return how many were accepted: 0 if another process is delivering.
    """
    holder = f"{os.getpid()}:{uuid.uuid4().hex[:8]}@{socket.gethostname()}"[:80]
    if not execute_autocommit(acquire(holder, LOCK, HOLD_S)):
        return 0
    try:
        return _send_due(time.monotonic() + BUDGET_S)
    finally:
        execute_autocommit(release(holder, LOCK))


def _send_due(until: float) -> int:
    """Send due messages until the monotonic time `until`. Return how many were accepted."""
    sync_environment_channel()
    execute(give_up_late())
    sent = 0
    while time.monotonic() < until:
        message = execute(claim())
        if message is None:
            break
        error = _send(message)
        if error:
            execute(record_failed(message.id, error))
            logger.warning("alert message %d to %s: %s", message.id, message.channel, error)
        else:
            execute(record_sent(message.id))
            sent += 1
    return sent


def _send(message: MessageRow) -> str:
    """Send one message; return why it failed, or ""."""
    try:
        address = _address(message)
    except Refused as refused:
        return refused.message
    if not address:
        return "it has no address: GINKGO_ALERT_URL is not set"
    with override(settings.GINKGO.alert_language):
        title, body = delivered_text(message.title, message.body)
    return send(address, f"[Ginkgo] {title}", body or title, message.what)


def _address(message: MessageRow) -> str:
    """Return the address of the message's channel; "" if that is GINKGO_ALERT_URL, but not set."""
    if message.from_environment:
        return settings.GINKGO.alert_url or ""
    return read_secret(f"alerts-{message.channel}", used_by=f"alerts to {message.channel}")


def send(address: str, title: str, body: str, what: str) -> str:
    """Send a message to an apprise address; return why it failed, or "". Never raises.

    `what`: the alert was `opened` or `closed`, or the message is a `test`.
    """
    # Imported here, since the import takes a second and only processes that send need it.
    import apprise

    wrong = address_error(address)
    if wrong:
        return wrong
    kinds = {"opened": apprise.NotifyType.FAILURE, "closed": apprise.NotifyType.SUCCESS}
    try:
        separator = "&" if "?" in address else "?"
        address_with_limits = f"{address}{separator}cto={CONNECT_S:g}&rto={READ_S:g}"
        service = apprise.Apprise(asset=apprise.AppriseAsset(app_id="Ginkgo", app_url=""))
        # As a list, since a text would be split into several addresses.
        if not service.add([address_with_limits]):
            return "apprise does not understand the address: see its wiki for the form it wants"
        accepted = service.notify(
            title=title, body=body, notify_type=kinds.get(what, apprise.NotifyType.INFO)
        )
    except Exception as error:
        # A library over forty services may raise anything, with the address in its text.
        return f"apprise failed with {type(error).__name__}"
    return "" if accepted else "the service refused it or did not answer in time"


def sync_environment_channel() -> None:
    """Enable the channel `environment` if GINKGO_ALERT_URL is set, else disable it."""
    if settings.GINKGO.alert_url:
        AlertChannel.objects.update_or_create(
            name="environment", defaults={"from_environment": True, "enabled": True}
        )
    else:
        AlertChannel.objects.filter(from_environment=True, enabled=True).update(enabled=False)
