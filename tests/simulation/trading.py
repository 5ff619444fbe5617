"""A stand-in strategy: a pure function of (revision, state, seq, suppress) that makes orders.

Its open order fills at the next event, across batches and moves. A suppressed event is seen and
decides nothing, so that the state depends on what was suppressed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class State:
    digest: int = 7
    events: int = 0
    orders: int = 0
    open_seq: int = 0  #: of the order that waits for its fill, or 0

    def encode(self) -> bytes:
        return f"{self.digest} {self.events} {self.orders} {self.open_seq}".encode()


def decode(text: bytes | None) -> State:
    """Return the stored state, or the initial one."""
    return State() if text is None else State(*map(int, text.split()))


@dataclass(frozen=True, slots=True)
class Step:
    state: State
    order: int | None = None  #: seq of the order it decided on
    fill: int | None = None  #: seq of the order that filled


def see(state: State, revision: int, seq: int, suppress: bool) -> Step:
    """Return the result of one event."""
    fill = state.open_seq or None
    digest = (state.digest * 31 + seq * (revision + 1)) % 1_000_003
    seen = replace(state, digest=digest, events=state.events + 1, open_seq=0)
    if suppress or digest % 4:
        return Step(seen, None, fill)
    return Step(replace(seen, orders=seen.orders + 1, open_seq=seq), seq, fill)
