"""Acknowledge alerts, and choose where they are sent."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery
from django.utils import timezone

from portfolios.sentences import sentence as _
from portfolios.text import quoted, text_errors
from portfolios.validation import NAME, error
from scheduling.alert_addresses import address_error
from scheduling.alert_queue import wake_delivery
from scheduling.db.transaction import execute
from scheduling.enact import alerts
from scheduling.enact.audit_log import audit
from scheduling.errors import Invalid, NotFound, Refused
from scheduling.models import Alert, AlertChannel, AlertMessage
from scheduling.operations.lookup import existing
from scheduling.operations.secrets import delete_secret, set_secret

MAX_CHANNELS = 20


def acknowledge_alert(alert: int, *, actor: str, reason: str = "") -> Alert:
    """Record that `actor` has seen the alert, with `reason` as the note. Return the alert.

    Raise NotFound, or Refused if the alert is closed or someone acknowledged it before.
    """
    acknowledged = execute(alerts.acknowledge(alert, actor=actor, note=reason))
    row = existing("alert", str(alert), Alert.objects.filter(pk=alert))
    if not acknowledged:
        if row.closed_at is not None:
            message = _(
                "Alert {alert} was closed at {closed_at:%H:%M:%S} UTC.",
                alert=alert,
                closed_at=row.closed_at,
            )
            raise Refused("not_open", message)
        message = _(
            "Alert {alert} was acknowledged by {acknowledged_by} at "
            "{acknowledged_at:%H:%M:%S} UTC.",
            alert=alert,
            acknowledged_by=row.acknowledged_by,
            acknowledged_at=row.acknowledged_at,
        )
        raise Refused("already_acknowledged", message)
    return row


def add_channel(name: str, address: str, *, actor: str) -> AlertChannel:
    """Send alerts to an apprise address from now on. An existing channel gets this address instead.

    The address is stored as a secret. Raise Invalid for a malformed name or address and for the
    name `environment`, or Refused if there are MAX_CHANNELS channels already.
    """
    errors = text_errors("name", name, longest=60)
    if name == "environment":
        message = _("GINKGO_ALERT_URL defines the channel `environment`; choose another name.")
        errors.append(error("name", "invalid", message))
    elif not NAME.fullmatch(name):
        message = _(
            "{name} is not a valid name: use small letters, digits and inner hyphens, such as "
            "on-call.",
            name=quoted(name),
        )
        errors.append(error("name", "invalid", message))
    wrong = address_error(address)
    if wrong:
        errors.append(error("address", "invalid", _("{wrong}.", wrong=wrong)))
    if errors:
        raise Invalid(errors)
    with transaction.atomic():
        # Concurrent writer: a request that adds a channel of the same name. It waits for this row.
        row, created = AlertChannel.objects.get_or_create(
            name=name, defaults={"created_by": actor[:150]}
        )
        if created and AlertChannel.objects.count() > MAX_CHANNELS:
            message = _(
                "There are {max_channels} channels, which is the limit: remove one.",
                max_channels=MAX_CHANNELS,
            )
            raise Refused("too_many", message)
        set_secret(row.secret, address.strip(), actor=actor)
        execute(audit("alert_channel_set", actor=actor, channel=name, replaced=not created))
    return row


def channels_with_newest_message() -> QuerySet[Any]:
    """Return the channels, each with its newest message. One statement."""
    newest = AlertMessage.objects.filter(channel=OuterRef("pk")).order_by("-pk")
    return AlertChannel.objects.annotate(
        last_state=Subquery(newest.values("state")[:1]),
        last_at=Subquery(newest.values("at")[:1]),
        last_error=Subquery(newest.values("error")[:1]),
        last_attempts=Subquery(newest.values("attempts")[:1]),
    )


def test_channel(name: str, *, actor: str) -> None:
    """Queue a test message to the channel, which is sent as alerts are. Raise NotFound."""
    row = _channel(name)
    now = timezone.now()
    with transaction.atomic():
        execute(audit("alert_channel_tested", actor=actor, channel=name))
        AlertMessage.objects.create(
            channel=row,
            what="test",
            title="test",
            body=f"A test message, requested by {actor}.",
            at=now,
            next_try_at=now,
        )
    wake_delivery()


def remove_channel(name: str, *, actor: str, reason: str = "") -> None:
    """Remove the channel with its address: no alert is sent there any more.

    Raise NotFound, or Refused for the channel that GINKGO_ALERT_URL defines.
    """
    row = _channel(name)
    if row.from_environment:
        message = _(
            "The channel `environment` cannot be removed here: GINKGO_ALERT_URL defines it. "
            "Unset it and restart the queue worker."
        )
        raise Refused("invalid", message)
    with transaction.atomic():
        try:
            delete_secret(row.secret, actor=actor, reason=reason)
        except NotFound:
            pass  # someone deleted only the secret; the channel is removed nevertheless
        row.delete()
        execute(audit("alert_channel_removed", actor=actor, reason=reason, channel=name))


def _channel(name: str) -> AlertChannel:
    """Return the channel, or raise NotFound."""
    return existing("channel", name, AlertChannel.objects.filter(name=name))
