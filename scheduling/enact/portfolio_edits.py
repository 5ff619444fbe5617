"""Store an edit of a portfolio, if nobody else changed it since the editor read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb

from scheduling.db.statements import IdRow, Statement
from scheduling.db.transaction import Transaction, query_one

#: Concurrent writers since the editor read the values: another edit, a reload to another revision,
#: a roll-out. A value that was not seen (null) is not compared.
EDIT_PORTFOLIO = Statement(
    "EDIT_PORTFOLIO",
    """
UPDATE portfolios_portfolio p SET revision = %(revision)s,
    weight = coalesce(%(weight)s::int, p.weight),
    priority = coalesce(%(priority)s::int, p.priority),
    selector = coalesce(%(selector)s::jsonb, p.selector),
    spread_group = coalesce(%(spread_group)s::text, p.spread_group),
    spread_hard = coalesce(%(spread_hard)s::boolean, p.spread_hard),
    catch_up = coalesce(%(catch_up)s::text, p.catch_up)
WHERE p.id = %(portfolio)s AND p.archived_at IS NULL
  AND p.id = coalesce(%(seen_portfolio)s::bigint, p.id)
  AND p.revision = coalesce(%(seen_revision)s::int, p.revision)
  AND p.weight = coalesce(%(seen_weight)s::int, p.weight)
  AND p.priority = coalesce(%(seen_priority)s::int, p.priority)
  AND p.selector = coalesce(%(seen_selector)s::jsonb, p.selector)
  AND p.spread_group = coalesce(%(seen_spread_group)s::text, p.spread_group)
  AND p.spread_hard = coalesce(%(seen_spread_hard)s::boolean, p.spread_hard)
  AND p.catch_up = coalesce(%(seen_catch_up)s::text, p.catch_up)
RETURNING p.id
""",
    row=IdRow,
)

_FIELDS = ("weight", "priority", "selector", "spread_group", "spread_hard", "catch_up")


def edit_portfolio(
    portfolio: int,
    revision: int,
    placement: Mapping[str, Any],
    *,
    seen_portfolio: int | None = None,
    seen_revision: int | None = None,
    seen_placement: Mapping[str, Any] | None = None,
) -> Transaction[bool]:
    """Make `revision` the wanted one and store `placement`; a field that it lacks stays.

    Return False, with nothing written, if the portfolio was deleted or differs from what the editor
    has seen, which the arguments `seen_…` say: None and missing fields are not compared.
    """
    row = yield from query_one(
        EDIT_PORTFOLIO,
        portfolio=portfolio,
        revision=revision,
        **_placement_columns(placement),
        seen_portfolio=seen_portfolio,
        seen_revision=seen_revision,
        **{
            f"seen_{name}": value
            for name, value in _placement_columns(seen_placement or {}).items()
        },
    )
    return row is not None


def _placement_columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return every field of _FIELDS with its parameter; None where `values` lacks it."""
    found = {name: values.get(name) for name in _FIELDS}
    if found["selector"] is not None:
        found["selector"] = Jsonb(found["selector"])
    return found
