"""Fill the fields of a view from the columns of a row that have the same names."""

from __future__ import annotations

from typing import Any


def same_named(view: Any, row: Any) -> dict[str, Any]:
    """Return name → value of the columns of `row` that are fields of the dataclass `view`.

    `row` is a named tuple or a model instance.
    """
    columns = row._asdict() if hasattr(row, "_asdict") else vars(row)
    names = view.__dataclass_fields__
    return {name: value for name, value in columns.items() if name in names}
