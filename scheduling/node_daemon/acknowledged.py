"""What the server acknowledged to this daemon, remembered until the database is known to have it.

A promoted standby or a restored backup may lack commits that were acknowledged. The daemon is the
only witness: it remembers how far each portfolio was, with its last order ids, compares each
checkpoint that it reads, and tells the server everything when the server asks.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from scheduling.wire.messages import AcknowledgedCommits, CheckpointAnswer, Commit

#: Portfolios that are remembered, those that committed last; also those that moved away since.
MAX_PORTFOLIOS = 1_000
#: Orders of one portfolio, and of all in one heartbeat, of which the server takes 1 MB.
MAX_ORDERS_PER_PORTFOLIO = 200
MAX_ORDERS_PER_HEARTBEAT = 20_000
PLACED = frozenset({"open", "filled"})


@dataclass(slots=True)
class _Memory:
    epoch: int
    seq: int
    orders: deque[tuple[int, int]] = field(
        default_factory=lambda: deque(maxlen=MAX_ORDERS_PER_PORTFOLIO)
    )


class Acknowledgements:
    """The memory of one daemon, and what it has to tell with the next heartbeat."""

    def __init__(self) -> None:
        """Start with no memory."""
        self._memory: OrderedDict[int, _Memory] = OrderedDict()
        self._missing: list[AcknowledgedCommits] = []
        self._is_recalled = False

    def record(self, commit: Commit) -> None:
        """Remember a commit that was acknowledged."""
        memory = self._memory.pop(commit.portfolio, None) or _Memory(0, 0)
        memory.epoch, memory.seq = commit.epoch, commit.to_seq
        memory.orders.extend((o.seq, o.index) for o in commit.orders if o.status in PLACED)
        self._memory[commit.portfolio] = memory
        if len(self._memory) > MAX_PORTFOLIOS:
            self._memory.popitem(last=False)

    def position(self, portfolio: int) -> tuple[int, int]:
        """Return epoch and seq up to which commits of the portfolio were acknowledged."""
        memory = self._memory.get(portfolio)
        return (0, 0) if memory is None else (memory.epoch, memory.seq)

    def compare(self, portfolio: int, position: tuple[int, int], found: CheckpointAnswer) -> bool:
        """Return whether the database forgot commits of this portfolio; they are told then.

        Neither epoch nor seq of a portfolio ever goes down in a database that keeps what it
        acknowledged. `position` is that from before the checkpoint was asked for: an older process
        of the same portfolio may commit while one is prepared.
        """
        epoch, seq = position
        if epoch <= found.epoch and seq <= found.last_seq:
            return False
        # From here on the other history counts.
        memory = self._memory.pop(portfolio, None) or _Memory(epoch, seq)
        self._missing.append(
            AcknowledgedCommits(
                portfolio=portfolio,
                epoch=epoch,
                seq=seq,
                orders=[order for order in memory.orders if found.last_seq < order[0] <= seq],
                found_epoch=found.epoch,
                found_seq=found.last_seq,
            )
        )
        return True

    @property
    def is_recalled(self) -> bool:
        """Whether the next heartbeat tells everything."""
        return self._is_recalled

    def recall(self) -> None:
        """Tell everything with the next heartbeat: the server asked for it."""
        self._is_recalled = True

    def next_claims(self) -> list[AcknowledgedCommits]:
        """Return what the next heartbeat should carry."""
        claims = self._missing[:MAX_PORTFOLIOS]
        if self._is_recalled:
            claims += [
                AcknowledgedCommits(
                    portfolio=number, epoch=m.epoch, seq=m.seq, orders=list(m.orders)
                )
                for number, m in self._memory.items()
            ]
        share = MAX_ORDERS_PER_HEARTBEAT // max(len(claims), 1)
        return [msgspec.structs.replace(claim, orders=claim.orders[-share:]) for claim in claims]

    def mark_delivered(self, sent: Sequence[AcknowledgedCommits]) -> None:
        """Forget what an answered heartbeat carried. What was checked need not be again."""
        count = sum(claim.found_seq >= 0 for claim in sent)
        self._missing = self._missing[count:]
        for claim in sent:
            memory = self._memory.get(claim.portfolio)
            if claim.found_seq < 0 and memory is not None:
                known = set(claim.orders)
                memory.orders = deque(
                    (order for order in memory.orders if order not in known),
                    MAX_ORDERS_PER_PORTFOLIO,
                )
        self._is_recalled = False
