"""The interface of sources."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple, Protocol


class Item(NamedTuple):
    """One row of a source."""

    row: Any  #: as `feeds/rows.py` reads it, also if it is wrong
    origin: str  #: where it is, for an error: `prices.csv, line 17`
    position: Any  #: of the source, after this row


class SourceLost(Exception):
    """The source cannot go on; its message is a sentence that says what helps."""


class Source(Protocol):
    """Yields rows in order, from where its cursor says on."""

    #: Whether a wrong row ends the recorder. A file can be corrected, a message that was sent not.
    is_strict: bool

    def items(self, cursor: str) -> AsyncIterator[list[Item]]:
        """Yield rows as they come, after `cursor` ("": from the beginning). Ends by cancellation.

        Reconnects by itself. Raise SourceLost.
        """
        ...

    def cursor_after(self, items: Sequence[Item]) -> str:
        """Return where to resume once `items`, which continue from the last call, are stored."""
        ...
