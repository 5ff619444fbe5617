"""The canary strategy: handles every event, trades nothing, and keeps a digest of all events."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from portfolios.runtime.events import PRICE_PLACES, Event
from portfolios.strategies.base import Context, Strategy


class Canary(Strategy):
    """Keeps {events, first_seq, last_seq, gaps, duplicates, digest}.

    The digest is 32 zero bytes at first, then sha256(digest + b"SEQ SYMBOL CLOSE") for each event,
    CLOSE with exactly the places of its symbol: anyone who has the feed's data can check it.
    `gaps` counts missing seqs, `duplicates` repeated or late events.
    """

    name = "canary"
    sees_every_symbol = True
    sees_every_event = True

    def initial(self) -> dict[str, Any]:
        return {
            "events": 0, "first_seq": None, "last_seq": None, "gaps": 0, "duplicates": 0,
            "digest": bytes(32),
        }  # fmt: skip

    def on_event(self, ctx: Context, state: dict[str, Any], event: Event) -> None:
        seq, last = event.seq, state["last_seq"]
        if last is None:
            state["first_seq"] = state["last_seq"] = seq
        elif seq > last:
            state["gaps"] += seq - last - 1
            state["last_seq"] = seq
        else:
            state["duplicates"] += 1
        state["events"] += 1
        if event.scale == PRICE_PLACES:  # most events: faster than to format a Decimal
            close = f"{event.close_units // 10_000}.{event.close_units % 10_000:04d}"
        else:
            close = f"{event.close:f}"
        line = f"{seq} {event.symbol} {close}"
        state["digest"] = sha256(state["digest"] + line.encode()).digest()
