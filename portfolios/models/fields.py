"""Model fields of market data."""

from __future__ import annotations

from typing import Any

from django.db import models

from portfolios.runtime.events import MAX_SCALE


class PriceField(models.DecimalField):  # type: ignore[type-arg]
    """A price with as many decimal places as its instrument has.

    The column is numeric without a scale, since PostgreSQL rewrites a table when a scale changes.
    `scheduling/enact/commit_validation.py` limits the decimal places instead.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("max_digits", 20 + MAX_SCALE)
        options.setdefault("decimal_places", MAX_SCALE)
        super().__init__(*args, **options)

    def db_type(self, connection: Any) -> str:
        """Return the type of the column."""
        return "numeric"
