"""One line of the audit trail, in the transaction of what it tells."""

from __future__ import annotations

from typing import Any

from psycopg.types.json import Jsonb

from scheduling.enact.recipe import Recipe, call

AUDIT = """
INSERT INTO scheduling_event (at, kind, portfolio_id, node_id, actor, reason, data)
VALUES (clock_timestamp(), %(kind)s::text, %(portfolio)s, %(node)s, %(actor)s::text,
        %(reason)s::text, %(data)s)
"""


def audit(
    kind: str,
    /,
    *,
    portfolio: int | None = None,
    node: int | None = None,
    actor: str = "",
    reason: str = "",
    **data: Any,
) -> Recipe[None]:
    """Write one event."""
    yield from call(
        AUDIT,
        kind=kind,
        portfolio=portfolio,
        node=node,
        actor=actor[:150],
        reason=reason,
        data=Jsonb(data),
    )
