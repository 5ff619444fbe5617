"""What requests may contain. Types and names are checked here, meaning in `scheduling.enact`."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request

from scheduling.presentation.fields import (
    StrictSerializer,
    TextField,
    WholeNumberField,
    YesNoField,
)


class ReasonBody(StrictSerializer):
    """An act with a reason for the audit trail."""

    reason = TextField(max_length=200, allow_blank=True, required=False, default="")


class NoBody(StrictSerializer):
    """An act that takes nothing."""


class VerificationBody(StrictSerializer):
    """`full`: from the first event, not from the newest anchor."""

    full = YesNoField(required=False, default=False)


class MigrateBody(ReasonBody):
    """Where to; without a target the balancer chooses."""

    target_node = TextField(max_length=80, required=False, allow_null=True, default=None)


class ReloadBody(ReasonBody):
    """Which revision; without one the wanted one."""

    revision = WholeNumberField(min_value=1, required=False, allow_null=True, default=None)


class AcceptPythonBody(ReasonBody):
    """Which minor version it may go on under too, such as 3.13; empty: no other than its own."""

    version = TextField(max_length=16, allow_blank=True)


class ScheduleMigrateBody(MigrateBody):
    """Which portfolio, and where to."""

    portfolio = TextField(max_length=80)


class FreezeBody(ReasonBody):
    """`failover`: hold failover too."""

    failover = YesNoField(required=False, default=False)


def read_body(request: Request, body: type[StrictSerializer]) -> dict[str, Any]:
    """Return the checked fields of the request's body; an absent body is an empty one.

    Raise a ValidationError that names every wrong field.
    """
    serializer = body(data=request.data)
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)
