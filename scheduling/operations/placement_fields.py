"""What is wrong with the fields of a portfolio that say where it may run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portfolios import validation
from portfolios.models import CatchUp
from portfolios.sentences import sentence as _
from portfolios.sentences import short_repr
from portfolios.text import unprintable_errors


def placement_errors(placement: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the errors of the fields of `edits.PLACEMENT`; one that is left out has none."""
    errors: list[dict[str, str]] = []
    for name, lowest in (("weight", 1), ("priority", -1_000_000)):
        value = placement.get(name, lowest)
        if not isinstance(value, int) or isinstance(value, bool):
            message = _(
                "{name} is {value}; it must be a whole number.", name=name, value=short_repr(value)
            )
            errors.append(validation.error(name, "wrong_type", message))
        elif not lowest <= value <= 1_000_000:
            message = _(
                "{name} is {value}; it must be {lowest:,} to 1,000,000.",
                name=name,
                value=value,
                lowest=lowest,
            )
            errors.append(validation.error(name, "out_of_range", message))
    for name in ("selector", "spread_group"):
        errors += unprintable_errors(name, placement.get(name, ""))
    selector = placement.get("selector", {})
    if not isinstance(selector, Mapping) or not all(
        isinstance(k, str) and isinstance(v, str) for k, v in selector.items()
    ):
        errors.append(
            validation.error(
                "selector", "wrong_type", _("selector must be an object of label names and values.")
            )
        )
    group = placement.get("spread_group", "")
    if not isinstance(group, str) or len(group) > 80:
        errors.append(
            validation.error(
                "spread_group",
                "wrong_type",
                _("spread_group must be a text of at most 80 characters."),
            )
        )
    if not isinstance(placement.get("spread_hard", False), bool):
        errors.append(
            validation.error("spread_hard", "wrong_type", _("spread_hard must be true or false."))
        )
    catch_up = placement.get("catch_up", CatchUp.STATE_ONLY)
    if catch_up not in CatchUp.values:
        errors.append(unknown_choice("catch_up", catch_up, CatchUp.values))
    return errors


def unknown_choice(field_name: str, value: Any, choices: list[str]) -> dict[str, str]:
    """Return the error for a value that is none of the choices."""
    message = _(
        "{field_name} is {value}; it must be one of {choices}.",
        field_name=field_name,
        value=short_repr(value),
        choices=choices,
    )
    return validation.error(field_name, "unknown_choice", message)
