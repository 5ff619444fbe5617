"""What requests may contain. Types and names are checked here, meaning in `scheduling.enact`."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request

from portfolios.models import CatchUp, DesiredState
from scheduling.presentation.fields import (
    LabelsField,
    MoneyField,
    ObjectField,
    PriorityField,
    StrictSerializer,
    TextField,
    WeightField,
    WholeNumberField,
    YesNoField,
)


class PortfolioChanges(StrictSerializer):
    """PATCH of a portfolio: any of these, the rest stays."""

    strategy = TextField(max_length=80, required=False)
    config = ObjectField(required=False)
    symbols = serializers.ListField(
        child=TextField(max_length=24),
        required=False,
        error_messages={"not_a_list": 'must be a list of texts, such as ["IBM", "XOM"]'},
    )
    limits = ObjectField(required=False)
    weight = WeightField(required=False)
    priority = PriorityField(required=False, min_value=-2_147_483_648)
    selector = LabelsField(required=False)
    spread_group = TextField(max_length=80, allow_blank=True, required=False)
    spread_hard = YesNoField(required=False)
    catch_up = serializers.ChoiceField(CatchUp.choices, required=False)
    note = TextField(max_length=200, allow_blank=True, required=False)


class PortfolioBody(PortfolioChanges):
    """POST of a portfolio."""

    name = TextField(max_length=80)
    strategy = TextField(max_length=80)
    starting_cash = MoneyField(required=False)
    desired_state = serializers.ChoiceField(DesiredState.choices, required=False)


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


def read_bodies(data: list[Any], body: type[StrictSerializer]) -> list[dict[str, Any]]:
    """Return the checked fields of each object of a list. Raise a ValidationError that names every
    wrong field by the object's place: `3.name`."""
    serializer = body()
    found: list[dict[str, Any]] = []
    wrong: dict[str, Any] = {}
    for place, one in enumerate(data):
        try:
            found.append(dict(serializer.run_validation(one)))
        except serializers.ValidationError as error:
            wrong[str(place)] = error.detail
            if len(wrong) == MAX_WRONG:
                break
    if wrong:
        raise serializers.ValidationError(wrong)
    return found


#: Objects of a list whose errors are named.
MAX_WRONG = 20


def read_body(request: Request, body: type[StrictSerializer]) -> dict[str, Any]:
    """Return the checked fields of the request's body; an absent body is an empty one.

    Raise a ValidationError that names every wrong field.
    """
    serializer = body(data=request.data)
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)
