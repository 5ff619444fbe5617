"""The interface of the sources that a recorder reads, and of their files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from portfolios.feeds.columns import ISO, TimeForm


class Item(NamedTuple):
    """One row of a source."""

    row: Any  #: for `feeds/rows.py` to read, which refuses a wrong one
    origin: str  #: where the row is, for errors: `prices.csv, line 17`
    position: Any  #: where the source is after this row; only the source knows the type


class FileLayout(NamedTuple):
    """How the lines or rows of files are read."""

    columns: Mapping[str, str] = MappingProxyType({})  #: field → header
    symbol: str = ""  #: of every row; "": each row has its own
    times: TimeForm = ISO


class OpenedFile(Protocol):
    """A file of a source, and how far it was read."""

    path: Path
    inode: int
    at: int  #: position after the last row that was read: bytes of a text file, rows of Parquet
    line: int  #: number of the last line, or row, that was read

    def read(self, *, is_complete: bool = False) -> list[Item]:
        """Return the next rows, if any. `is_complete`: nothing more will be written to the file."""
        ...

    def skip_to(self, at: int, line: int, proof: str) -> None:
        """Continue at `at`, after `line`. Raise SourceLost if the file's proof is not `proof`."""
        ...

    def refuse_if_cut(self) -> None:
        """Raise SourceLost if the file has become shorter than what was read of it."""
        ...

    def proof(self, at: int) -> str:
        """Return a hash of the file as read up to `at`: one that replaced it has another."""
        ...


class FilePosition(NamedTuple):
    """A position in a file: see `OpenedFile`."""

    file: OpenedFile
    at: int
    line: int


class SourceLost(Exception):
    """The source cannot go on; its message is a sentence that says what helps."""


class Source(Protocol):
    """What a recorder reads: rows in order, from a cursor on."""

    #: Whether a wrong row ends the recorder: a file can be corrected, a sent message cannot.
    is_strict: bool

    def items(self, cursor: str) -> AsyncIterator[list[Item]]:
        """Yield rows as they come, after `cursor` ("": from the beginning), until cancelled.

        The source reconnects by itself. Raise SourceLost if it cannot go on.
        """
        ...

    def cursor_after(self, items: Sequence[Item]) -> str:
        """Return the cursor to store with `items`, which follow those of the call before."""
        ...
