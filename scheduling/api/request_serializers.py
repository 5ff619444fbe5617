"""Request bodies. Types and names are checked here, values in `scheduling.operations`."""

from __future__ import annotations

import re
from typing import Any

from django.core.validators import slug_re
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request

from portfolios.validation import NAME
from scheduling.operations.moves import MAX_MOVED_AT_ONCE
from scheduling.operations.nodes import MAX_LABEL, MAX_LABELS
from scheduling.operations.python_versions import MINOR_VERSION
from scheduling.operations.tokens import MAX_DAYS
from scheduling.presentation.fields import (
    LabelsField,
    SecretField,
    StrictSerializer,
    TextField,
    WholeNumberField,
    YesNoField,
)


class ReasonBody(StrictSerializer):
    """An action with a reason for the audit log."""

    reason = TextField(max_length=200, allow_blank=True, required=False, default="")


class DrainBody(ReasonBody):
    """`make_room`: move portfolios of other nodes first where that lets more of this one leave.

    `until_return`: end the drain once the node's daemon has left and registers again.
    """

    make_room = YesNoField(required=False, default=False)
    until_return = YesNoField(required=False, default=False)


@extend_schema_field(
    {
        "type": "object",
        "maxProperties": MAX_LABELS,
        "additionalProperties": {"type": "string", "maxLength": MAX_LABEL},
        "description": f"A name has at most {MAX_LABEL} characters, no `=` and no spaces. "
        "A label that the node has already may stay as it is.",
    }
)
class NodeLabelsField(LabelsField):
    """Labels of a node. `scheduling.operations` checks those that the node does not have yet."""

    child = TextField(max_length=200, described_pattern=re.compile(r"\S+"))


class LabelsBody(ReasonBody):
    """`labels`: all that the node should have; without it, the labels stay as they are."""

    labels = NodeLabelsField(required=False)


class NodeTokenBody(StrictSerializer):
    """A new token of a node; an unknown node is created. `days`: null: valid until revoked."""

    node = TextField(max_length=80, described_pattern=slug_re)
    name = TextField(max_length=80, allow_blank=True, required=False, default="")
    days = WholeNumberField(
        min_value=1, max_value=MAX_DAYS, required=False, allow_null=True, default=None
    )


class NoBody(StrictSerializer):
    """An action without parameters."""


class VerificationBody(StrictSerializer):
    """`full`: verify from the first event instead of the newest verification anchor."""

    full = YesNoField(required=False, default=False)


class MigrateBody(ReasonBody):
    """`target_node`: without it the balancer chooses."""

    # `source`: the argument of the operation is called `target`.
    target_node = TextField(
        max_length=80, required=False, allow_null=True, default=None, source="target"
    )


class ReloadBody(ReasonBody):
    """`revision`: by default the wanted revision."""

    revision = WholeNumberField(min_value=1, required=False, allow_null=True, default=None)


class AcceptPythonBody(ReasonBody):
    """`version`: the minor version to accept, such as 3.13; empty: none."""

    version = TextField(max_length=16, allow_blank=True, described_pattern=MINOR_VERSION)


class ScheduleMigrateBody(MigrateBody):
    """The portfolio and its target."""

    portfolio = TextField(max_length=80)


class MigrateSeveralBody(MigrateBody):
    """The portfolios and their target."""

    portfolios = serializers.ListField(
        child=TextField(max_length=80), min_length=1, max_length=MAX_MOVED_AT_ONCE
    )


class FreezeBody(ReasonBody):
    """`failover`: hold failover too."""

    failover = YesNoField(required=False, default=False)


class AlertChannelBody(StrictSerializer):
    """A channel for alerts, and its address in apprise's form, which no response returns."""

    name = TextField(max_length=60, described_pattern=NAME)
    address = SecretField(max_length=2_000)


class SecretBody(StrictSerializer):
    """A secret and its value, which no response returns."""

    name = TextField(max_length=80, described_pattern=NAME)
    value = SecretField(max_length=8_000)


def read_body(request: Request, body: type[StrictSerializer]) -> dict[str, Any]:
    """Return the checked fields of the request's body; an absent body is an empty one.

    Raise a ValidationError that names every wrong field.
    """
    serializer = body(data=request.data)
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)
