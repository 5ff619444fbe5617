"""Store on each run why its portfolio is pending or cannot move."""

from __future__ import annotations

from collections.abc import Mapping

from psycopg.types.json import Jsonb

from scheduling.db.statements import Statement
from scheduling.db.transaction import Transaction, query
from scheduling.decide.reasons import as_data, render
from scheduling.decide.types import Reason
from scheduling.enact.notify import notify_watchers

STORE_REASONS = Statement(
    "STORE_REASONS",
    """
WITH input AS MATERIALIZED (
    SELECT * FROM unnest(%(portfolios)s::bigint[], %(epochs)s::bigint[], %(reasons)s::text[],
                         %(whys)s::jsonb[]) AS i(portfolio, epoch, reason, why)
), free AS MATERIALIZED (
    -- In portfolio order, as in every statement. Rows that a commit or a grant holds now are left
    -- to the next pass.
    SELECT r.portfolio_id FROM scheduling_run r JOIN input i ON i.portfolio = r.portfolio_id
    ORDER BY r.portfolio_id FOR UPDATE OF r SKIP LOCKED
)
UPDATE scheduling_run r SET reason = i.reason, why = i.why
FROM input i JOIN free f ON f.portfolio_id = i.portfolio
-- The concurrent writer: a grant since the snapshot, whose own reason stands.
WHERE r.portfolio_id = i.portfolio AND r.epoch = i.epoch AND r.reason <> i.reason
  -- A pass does not know which symbols a portfolio holds or has ordered, so it must not clear this
  -- reason, which the sweep writes. It stays until the wanted revision runs, is rejected or is no
  -- longer wanted.
  AND NOT (i.reason = '' AND r.why ->> 'code' = 'symbol_in_use' AND EXISTS (
      SELECT FROM portfolios_portfolio p
      JOIN portfolios_revision v ON v.portfolio_id = p.id AND v.number = p.revision
      WHERE p.id = r.portfolio_id AND p.revision <> r.revision AND v.status <> 'rejected'))
RETURNING r.portfolio_id
""",
)


def store_reasons(
    reasons: Mapping[int, Reason | None], epochs: Mapping[int, int]
) -> Transaction[None]:
    """Store the reason of each portfolio (None: no reason) under the epoch it was found for.

    One statement, and a notification if a row changed.
    """
    changed = yield from query(
        STORE_REASONS,
        portfolios=list(reasons),
        epochs=[epochs[portfolio] for portfolio in reasons],
        reasons=["" if each is None else render(each) for each in reasons.values()],
        whys=[None if each is None else Jsonb(as_data(each)) for each in reasons.values()],
    )
    if changed:
        yield from notify_watchers()
