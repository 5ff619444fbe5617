"""The interface of sources."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from portfolios.feeds.columns import ISO, TimeForm


class Item(NamedTuple):
    """One row of a source."""

    row: Any  #: as `feeds/rows.py` reads it, also if it is wrong
    origin: str  #: where it is, for an error: `prices.csv, line 17`
    position: Any  #: of the source, after this row


class FileLayout(NamedTuple):
    """How the lines or rows of files are read."""

    columns: Mapping[str, str] = MappingProxyType({})  #: field → header
    symbol: str = ""  #: of every row
    times: TimeForm = ISO


class OpenedFile(Protocol):
    """A file of a source, and how far it was read."""

    path: Path
    inode: int
    at: int  #: behind the last row that was read, as a cursor has it
    line: int

    def read(self, *, is_complete: bool = False) -> list[Item]:
        """Return the next rows; none if there are none yet. `is_complete`: nothing follows."""
        ...

    def skip_to(self, at: int, line: int, proof: str) -> None:
        """Continue behind what was recorded. Raise SourceLost if the file is another one."""
        ...

    def refuse_if_cut(self) -> None:
        """Raise SourceLost if the file has become shorter than what was read of it."""
        ...

    def proof(self, at: int) -> str:
        """Return a hash that a file which replaced this one, read up to `at`, does not have."""
        ...


class Place(NamedTuple):
    """A position in a file."""

    file: OpenedFile
    at: int
    line: int


class SourceLost(Exception):
    """The source cannot go on; its message is a sentence that says what helps."""


class Source(Protocol):
    """What a recorder reads: rows in order, from a cursor on."""

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
