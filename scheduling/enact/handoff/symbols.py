"""Refuse an operator's change that removes a symbol with a position or an open order.

Checked under the lock of the run: when the change is requested, and again at the grant, since the
source trades in between. Automatic changes after a failure (fall-back, failover) are not checked:
positions beyond the new revision's symbols are still valued and filled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from psycopg.types.json import Jsonb

from portfolios.runtime.errors import StateUnreadable
from portfolios.runtime.spec import symbol_set
from portfolios.runtime.state import Account, decode_outline, decode_state
from portfolios.sentences import sentence as _
from scheduling.db.statements import Statement
from scheduling.db.transaction import Row, Transaction, query, query_one
from scheduling.decide.reasons import as_data, render
from scheduling.decide.types import Reason
from scheduling.errors import Refused


class SymbolsRow(NamedTuple):
    symbols: list[str]


SYMBOLS = Statement(
    "SYMBOLS",
    """
SELECT symbols FROM portfolios_revision
WHERE portfolio_id = %(portfolio)s AND number = %(number)s
""",
    row=SymbolsRow,
)


class StateRow(NamedTuple):
    state: bytes | None


STATE = Statement(
    "STATE",
    "SELECT state FROM portfolios_checkpoint WHERE portfolio_id = %(portfolio)s",
    row=StateRow,
)

NOTE_SYMBOLS_IN_USE = Statement(
    "NOTE_SYMBOLS_IN_USE",
    """
UPDATE scheduling_run SET reason = %(reason)s::text, why = %(why)s::jsonb || jsonb_build_object(
    'checked_at', extract(epoch FROM clock_timestamp())::float8)
WHERE portfolio_id = %(portfolio)s AND epoch = %(epoch)s
""",
)


def symbols_lost(run: Row, wanted: Sequence[str]) -> Transaction[list[str]]:
    """Return the symbols with a position or an open order that `wanted` removes, sorted.

    The run is locked, so no commit comes in between. A symbol that the run's revision lacks
    already is not removed. The state is read only if symbols are removed.
    """
    current = yield from query_one(SYMBOLS, portfolio=run.portfolio_id, number=run.revision)
    after = symbol_set(list(wanted))
    if current is None or after is None:  # a revision that is gone; or every symbol is wanted
        return []
    before = symbol_set(current.symbols)
    if before is not None and before <= after:
        return []
    found = yield from query_one(STATE, portfolio=run.portfolio_id)
    if found is None or found.state is None:
        return []
    try:
        in_use = _decode_account(bytes(found.state)).symbols_in_use()
    except StateUnreadable:
        return []  # no node of this version reads it either; the target reports that in `prepare`
    return sorted(s for s in in_use - after if before is None or s in before)


def _decode_account(state: bytes) -> Account:
    """Return the account of a state. Raise StateUnreadable if no node could read it."""
    try:
        return decode_outline(state).account
    except StateUnreadable:  # perhaps only larger than what pages decode: a node would trade it
        return decode_state(state).account


def symbols_lost_by_reload(run: Row, to_revision: int) -> Transaction[list[str]]:
    """Return the symbols in use that a reload to `to_revision` would remove. The run is locked."""
    if to_revision == run.revision:
        return []
    found = yield from query_one(SYMBOLS, portfolio=run.portfolio_id, number=to_revision)
    return (yield from symbols_lost(run, found.symbols)) if found is not None else []


def symbols_refusal(name: str, symbols: list[str], revision: str) -> Refused:
    """Return the refusal of a change to `revision`, which lacks `symbols`. Pure."""
    return Refused(
        "symbol_in_use",
        _(
            "{name} holds or has ordered {symbols}, which {revision} lacks; keep these "
            "symbols until their positions are closed.",
            name=name,
            symbols=symbols,
            revision=revision,
        ),
        symbols=symbols,
    )


def note_symbols_in_use(run: Row, revision: int, symbols: list[str]) -> Transaction[None]:
    """Store on the run, with the time, that `revision` waits: it lacks `symbols`, still in use."""
    why = Reason(
        "symbol_in_use",
        {"running": f"r{run.revision}", "wanted": f"r{revision}", "symbols": symbols},
    )
    yield from query(
        NOTE_SYMBOLS_IN_USE,
        portfolio=run.portfolio_id,
        epoch=run.epoch,
        reason=render(why),
        why=Jsonb(as_data(why)),
    )
