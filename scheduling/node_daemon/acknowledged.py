"""Commits acknowledged to this daemon, remembered to detect a database that lost them.

A promoted standby or a restored backup may lack acknowledged commits. The daemon is the only
witness: it remembers the position of each portfolio, with its last order ids, compares each
checkpoint that it reads, and sends everything to the server on request. A claim is what it sends:
the position up to which commits of one portfolio were acknowledged (`AcknowledgedCommits`).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from scheduling.wire.messages import AcknowledgedCommits, CheckpointAnswer, Commit

#: Portfolios remembered: those that committed last, even if they have moved away since.
MAX_PORTFOLIOS = 1_000
#: Orders remembered of one portfolio, and sent of all in one heartbeat, whose size limit is 1 MB.
MAX_ORDERS_PER_PORTFOLIO = 200
MAX_ORDERS_PER_HEARTBEAT = 20_000
PLACED = frozenset({"open", "filled"})  #: statuses of orders that were not refused or suppressed


@dataclass(slots=True)
class _Remembered:
    """Where the last acknowledged commit of one portfolio ended, and its newest placed orders."""

    epoch: int
    seq: int
    orders: deque[tuple[int, int]] = field(  #: (seq, index) of each
        default_factory=lambda: deque(maxlen=MAX_ORDERS_PER_PORTFOLIO)
    )


class Acknowledgements:
    """Acknowledged commits of one daemon, and the claims for its next heartbeat."""

    def __init__(self) -> None:
        self._remembered: OrderedDict[int, _Remembered] = OrderedDict()
        self._missing: list[AcknowledgedCommits] = []
        self.is_recalled = False  #: the next heartbeat carries all acknowledged commits

    def record(self, commit: Commit) -> None:
        """Remember where an acknowledged commit ended, and the orders that it placed."""
        known = self._remembered.pop(commit.portfolio, None) or _Remembered(0, 0)
        known.epoch, known.seq = commit.epoch, commit.to_seq
        known.orders.extend((o.seq, o.index) for o in commit.orders if o.status in PLACED)
        self._remembered[commit.portfolio] = known
        if len(self._remembered) > MAX_PORTFOLIOS:
            self._remembered.popitem(last=False)

    def position(self, portfolio: int) -> tuple[int, int]:
        """Return (epoch, seq) of the portfolio's last acknowledged commit; (0, 0) without one."""
        known = self._remembered.get(portfolio)
        return (0, 0) if known is None else (known.epoch, known.seq)

    def claim_lost_commits(
        self, portfolio: int, position: tuple[int, int], found: CheckpointAnswer
    ) -> bool:
        """Return whether the checkpoint `found` lacks acknowledged commits; then keep a claim.

        In a database that keeps acknowledged commits, neither epoch nor seq of a portfolio ever
        decreases. `position` is what `self.position` returned before `found` was requested: an
        older process of the portfolio may commit while the checkpoint is on its way, which is no
        loss.
        """
        epoch, seq = position
        if epoch <= found.epoch and seq <= found.last_seq:
            return False
        # The portfolio continues from `found`: of a later checkpoint no claim may be kept.
        known = self._remembered.pop(portfolio, None) or _Remembered(epoch, seq)
        self._missing.append(
            AcknowledgedCommits(
                portfolio=portfolio,
                epoch=epoch,
                seq=seq,
                orders=[order for order in known.orders if found.last_seq < order[0] <= seq],
                found_epoch=found.epoch,
                found_seq=found.last_seq,
            )
        )
        return True

    def recall(self) -> None:
        """Send all acknowledged commits with the next heartbeat, as the server requested."""
        self.is_recalled = True

    def next_claims(self) -> list[AcknowledgedCommits]:
        """Return the claims of the next heartbeat: those about checkpoints that lacked commits and,
        after `recall`, one for each portfolio. Each has its newest orders, as many as fit."""
        claims = self._missing[:MAX_PORTFOLIOS]
        if self.is_recalled:
            claims += [
                AcknowledgedCommits(
                    portfolio=portfolio,
                    epoch=known.epoch,
                    seq=known.seq,
                    orders=list(known.orders),
                )
                for portfolio, known in self._remembered.items()
            ]
        share = MAX_ORDERS_PER_HEARTBEAT // max(len(claims), 1)
        return [msgspec.structs.replace(claim, orders=claim.orders[-share:]) for claim in claims]

    def mark_delivered(self, sent: Sequence[AcknowledgedCommits]) -> None:
        """Forget the claims that were sent, since the server has checked them, and end the recall.

        Of the claims of a recall, only the orders are forgotten: positions stay remembered.
        """
        # `found_seq`: of a claim about a checkpoint the seq found there, of a recall's claim -1.
        count = sum(claim.found_seq >= 0 for claim in sent)
        self._missing = self._missing[count:]
        for claim in sent:
            known = self._remembered.get(claim.portfolio)
            if claim.found_seq < 0 and known is not None:
                checked = set(claim.orders)
                known.orders = deque(
                    (order for order in known.orders if order not in checked),
                    MAX_ORDERS_PER_PORTFOLIO,
                )
        self.is_recalled = False
