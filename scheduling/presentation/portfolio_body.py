"""Request bodies that create or change a portfolio; files of JSON lines have the same fields."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from portfolios.models import CatchUp, DesiredState
from portfolios.validation import NAME
from scheduling.presentation.fields import (
    LabelsField,
    MoneyField,
    ObjectField,
    PriorityField,
    StrictSerializer,
    TextField,
    WeightField,
    YesNoField,
)


class PortfolioChanges(StrictSerializer):
    """Body of a PATCH of a portfolio; a field that is left out keeps its value."""

    strategy = TextField(max_length=80, required=False)
    config = ObjectField(required=False)
    symbols = serializers.ListField(
        child=TextField(max_length=24),
        required=False,
        error_messages={"not_a_list": 'must be a list of texts, such as ["IBM", "XOM"]'},
    )
    limits = ObjectField(required=False)
    artifact = TextField(
        max_length=64,
        required=False,
        allow_null=True,
        help_text="sha256 of the artifact to run, or its first digits; null: one of the release.",
    )
    weight = WeightField(required=False)
    priority = PriorityField(required=False, min_value=-2_147_483_648)
    selector = LabelsField(required=False)
    spread_group = TextField(max_length=80, allow_blank=True, required=False)
    spread_hard = YesNoField(required=False)
    catch_up = serializers.ChoiceField(CatchUp.choices, required=False)
    note = TextField(max_length=200, allow_blank=True, required=False)


class PortfolioBody(PortfolioChanges):
    """Body of a POST that creates a portfolio."""

    name = TextField(max_length=80, described_pattern=NAME)
    strategy = TextField(max_length=80)
    feed = TextField(max_length=60, allow_blank=True, required=False)
    starting_cash = MoneyField(required=False)
    desired_state = serializers.ChoiceField(DesiredState.choices, required=False)
    pinned_node = TextField(
        max_length=80,
        allow_blank=True,
        required=False,
        help_text="Node that runs the portfolio until it is unpinned; empty: the balancer chooses.",
    )


def read_bodies(data: list[Any], body: type[StrictSerializer]) -> list[dict[str, Any]]:
    """Return the checked fields of each object of a list.

    Raise ValidationError, which names a wrong field by the index of its object, such as `3.name`;
    it has all wrong fields of the first MAX_WRONG wrong objects.
    """
    serializer = body()
    checked: list[dict[str, Any]] = []
    wrong: dict[str, Any] = {}
    for index, given in enumerate(data):
        try:
            checked.append(dict(serializer.run_validation(given)))
        except serializers.ValidationError as error:
            wrong[str(index)] = error.detail
            if len(wrong) == MAX_WRONG:
                break
    if wrong:
        raise serializers.ValidationError(wrong)
    return checked


MAX_WRONG = 20  #: objects of a list whose errors are named
