"""The node's own view of its lease: whether it may feed its portfolios."""

from __future__ import annotations

FEEDING_SHARE = 0.8  #: a node feeds its portfolios for this share of the TTL after a renewal


class Lease:
    """A lease, measured on the boot-time clock from the moment the renewing heartbeat was sent.

    The fence provides safety; the lease only keeps a node that is cut off from useless work.
    """

    def __init__(self) -> None:
        """Start without the right to feed portfolios; the first answered heartbeat gives it."""
        self._feed_until_s = 0.0

    def renew(self, sent_at_s: float, ttl_s: float) -> None:
        """Extend the lease by the answer to a heartbeat that was sent at `sent_at_s`."""
        self._feed_until_s = max(self._feed_until_s, sent_at_s + FEEDING_SHARE * ttl_s)

    def may_feed(self, now_s: float) -> bool:
        """Return whether portfolios may be fed at `now_s`."""
        return now_s < self._feed_until_s
