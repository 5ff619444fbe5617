"""Files that are appended to: one file, or the files of a folder in the order of their names.

A line is read once it has ended. CSV files begin with their header; files named `.jsonl` or
`.ndjson` have one row as a JSON object in each line, as `POST /api/feeds/NAME/append/` takes it.
Files named `.parquet` are read once they are whole (`parquet.py`).
"""

from __future__ import annotations

import asyncio
import csv
import json
import logging
import os
import time
import weakref
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import Any

from portfolios.feeds.columns import Columns, MissingColumn, find_columns, object_row, separator_of
from portfolios.json_text import read_json
from scheduling.recorded_feeds.sources.base import (
    FileLayout,
    FilePosition,
    Item,
    OpenedFile,
    SourceLost,
)

logger = logging.getLogger(__name__)

POLL_S = 0.05
LOOK_S = 0.5  #: between two looks at the names of a folder
READ_BYTES = 256 * 1024
MAX_LINE_BYTES = 64 * 1024
PROOF_BYTES = 256  #: those before the cursor, whose hash tells a file from one that replaced it
JSON_LINES = (".jsonl", ".ndjson")
MAX_FILES = 100_000


class _TextFile:
    """One file of lines, and how far it was read."""

    def __init__(self, path: Path, layout: FileLayout) -> None:
        self.path, self._layout = path, layout
        self._fd = os.open(path, os.O_RDONLY)
        # Closed with its last FilePosition: a cursor may need this file after the next was begun.
        weakref.finalize(self, os.close, self._fd)
        self.inode = os.fstat(self._fd).st_ino
        self.at = 0  #: byte after the last line that was read
        self.line = 0
        self._columns: Columns | None = None
        self._separator = ","
        self._is_json = path.suffix in JSON_LINES

    def skip_to(self, at: int, line: int, proof: str) -> None:
        """Continue at `at`, after `line`. Raise SourceLost if the file's proof is not `proof`."""
        if self._size() < at or self.proof(at) != proof:
            raise SourceLost(
                f"{self.path} is not the file that was recorded up to byte {at:,} (line {line:,}):"
                f" it was replaced, cut or changed. If the old file was renamed, record its rest"
                " first, with its new name as --file; begin this one at its first line with"
                " --from-start."
            )
        self.read()  # for the columns in the header; the rows are dropped
        self.at, self.line = at, line

    def refuse_if_cut(self) -> None:
        """Raise SourceLost if the file has become shorter than what was read of it."""
        if self._size() < self.at:
            raise SourceLost(
                f"{self.path} was cut to {self._size():,} bytes after {self.at:,} were read: a"
                " recorded file may grow or be renamed, never be cut. Read it from its first line"
                " with --from-start."
            )

    def _size(self) -> int:
        return os.fstat(self._fd).st_size

    def proof(self, at: int) -> str:
        """Return the hash of the last PROOF_BYTES before `at`."""
        first = max(at - PROOF_BYTES, 0)
        return sha256(os.pread(self._fd, at - first, first)).hexdigest()[:32]

    def read(self, *, is_complete: bool = False) -> list[Item]:
        """Return the rows of the next lines that have ended; if `is_complete`, of the last too."""
        data = os.pread(self._fd, READ_BYTES, self.at)
        *lines, rest = data.split(b"\n")
        if len(rest) > MAX_LINE_BYTES and not lines:
            raise SourceLost(
                f"{self.path}, line {self.line + 1}: over {MAX_LINE_BYTES:,} bytes without an end"
                " of line. Is this a text file?"
            )
        rest_is_line = is_complete and rest and self.at + len(data) == self._size()
        items = []
        for line in [*lines, rest] if rest_is_line else lines:
            self.line += 1
            row = self._row(line)
            self.at = min(self.at + len(line) + 1, self._size())  # the last may lack a line break
            if row is not None:
                position = FilePosition(self, self.at, self.line)
                items.append(Item(row, f"{self.path.name}, line {self.line}", position))
        return items

    def _row(self, line: bytes) -> Any:
        """Return the row of a line; None for the header and empty lines.

        A line that is not a row is returned as it is, for `read_rows` to refuse. Raise SourceLost
        if the header lacks a column, or is not text.
        """
        try:
            text = line.decode("utf-8-sig" if self.line == 1 else "utf-8").rstrip("\r")
            if not text.strip():
                return None
            if self._is_json:
                found = read_json(text, parse_float=Decimal)
                return object_row(found, *self._layout) or line
            if self._columns is None:
                self._separator = separator_of(text)
            cells = next(csv.reader([text], delimiter=self._separator, strict=True), [])
        except (ValueError, csv.Error):
            if self._columns is None and not self._is_json:  # or the first row would be the header
                raise SourceLost(
                    f"{self.path.name}, line {self.line}: the header is not text in UTF-8. Convert"
                    " the file, as with `iconv -f GBK -t UTF-8`, and start the recorder again."
                ) from None
            return line
        if self._columns is None:
            try:
                self._columns = find_columns(self.path.name, cells, *self._layout)
            except MissingColumn as missing:
                raise SourceLost(str(missing)) from None
            return None
        return self._columns.row(cells)


class FileSource:
    """The rows of one file, which may be rotated, or of the files of a folder."""

    is_strict = True

    def __init__(
        self, path: Path, layout: FileLayout, *, pattern: str = "*", from_start: bool = False
    ) -> None:
        """Open nothing yet. `from_start`: begin at the first line, whatever the cursor says."""
        self._path, self._layout, self._pattern = path, layout, pattern
        self._from_start = from_start
        self._said_missing = False
        self._next_look = 0.0
        #: Names that were there before a file of a later name was begun. A file that appears
        #: afterwards under an earlier name is not recorded, only warned of.
        self._in_time: set[str] = set()

    async def items(self, cursor: str) -> AsyncIterator[list[Item]]:
        """See `Source.items`."""
        opened = await self._first(cursor)
        while True:
            before = opened.at
            if items := opened.read():
                yield items
            if opened.at > before:
                continue
            opened.refuse_if_cut()
            following = self._following(opened)
            if following is None:
                await asyncio.sleep(POLL_S)
                continue
            # Lines may have come since the read above. The writer has begun the next file, so this
            # one is complete: its last line needs no line break.
            items = opened.read() or opened.read(is_complete=True)
            if items:
                yield items
            if opened.at == before:
                if _is_written_again(opened):
                    following = opened.path
                logger.info("%s has ended, %s follows", opened.path.name, following.name)
                opened = _open(following, self._layout)

    def cursor_after(self, items: Sequence[Item]) -> str:
        """See `Source.cursor_after`."""
        position: FilePosition = items[-1].position
        return json.dumps(
            {
                "file": position.file.path.name,
                "at": position.at,
                "line": position.line,
                "proof": position.file.proof(position.at),
            }
        )

    async def _first(self, cursor: str) -> OpenedFile:
        """Wait for the first file to read. Return it, positioned where the cursor says."""
        recorded = {} if self._from_start else _read_cursor(cursor)
        name = recorded.get("file")
        while (path := self._first_path(name)) is None:
            if not self._said_missing:
                logger.warning("%s: there is no file yet; waiting for it", self._path)
                self._said_missing = True
            await asyncio.sleep(POLL_S)
        opened = _open(path, self._layout)
        if recorded:
            opened.skip_to(recorded["at"], recorded["line"], recorded["proof"])
        return opened

    def _first_path(self, recorded: str | None) -> Path | None:
        """Return the file in which recording ended, else the first; None if there is none yet.

        Raise SourceLost if the folder no longer has the file in which recording ended.
        """
        if not self._path.is_dir():
            return self._path if self._path.exists() else None
        names = self._names()
        if recorded is None:
            return self._path / names[0] if names else None
        if recorded not in names:
            raise SourceLost(
                f"{self._path} no longer has the file {recorded!r}, in which recording ended. Put"
                " it back; or begin with the first file by --from-start --skip-bad, which leaves"
                " out rows that are not newer than those recorded."
            )
        return self._path / recorded

    def _following(self, opened: OpenedFile) -> Path | None:
        """Return the file that follows; None before there is one with content."""
        if not self._path.is_dir():
            try:
                found = os.stat(self._path)
            except OSError:
                return None  # renamed; its successor is not there yet
            return self._path if found.st_ino != opened.inode and found.st_size else None
        if time.monotonic() < self._next_look:
            return None
        self._next_look = time.monotonic() + LOOK_S
        names = self._names()
        for name in names:
            if name < opened.path.name and name not in self._in_time:
                logger.warning(
                    "%s is not recorded: it appeared after %s, whose name is later, had been begun",
                    name, opened.path.name,
                )  # fmt: skip
        self._in_time.update(name for name in names if name <= opened.path.name)
        after = [name for name in names if name > opened.path.name]
        if not after:
            return None
        following = self._path / after[0]
        try:
            return following if following.stat().st_size else None
        except FileNotFoundError:
            return None  # removed since it was listed

    def _names(self) -> list[str]:
        """Return the sorted names of the folder's files that fit the pattern. Raise SourceLost."""
        try:
            names = sorted(
                entry.name
                for entry in os.scandir(self._path)
                if entry.is_file() and fnmatchcase(entry.name, self._pattern)
            )
        except OSError as error:
            raise _unreadable(self._path, error) from None
        if len(names) > MAX_FILES:
            raise SourceLost(
                f"{self._path} has over {MAX_FILES:,} files that match {self._pattern!r}: give a"
                " narrower --pattern, or move those that are recorded elsewhere."
            )
        if not self._in_time:
            self._in_time = set(names)  # files that are there at the start are recorded in order
        return names


def _is_written_again(opened: OpenedFile) -> bool:
    """Return whether no row of the file was read, and another file has its name by now."""
    try:
        return opened.at == 0 and os.stat(opened.path).st_ino != opened.inode
    except FileNotFoundError:
        return False


def _open(path: Path, layout: FileLayout) -> OpenedFile:
    """Open a file as its suffix says. Raise SourceLost."""
    try:
        if path.suffix == ".parquet":
            # Imported here: pyarrow takes a second that recorders of other sources do without.
            from scheduling.recorded_feeds.sources.parquet import ParquetFile

            return ParquetFile(path, layout)
        return _TextFile(path, layout)
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> SourceLost:
    remedy = " Let the recorder's user read it." if isinstance(error, PermissionError) else ""
    return SourceLost(f"{path} cannot be read: {error.strerror}.{remedy}")


def _read_cursor(cursor: str) -> dict[str, Any]:
    """Decode a cursor of `cursor_after`; {} for "". Raise SourceLost if another source wrote it."""
    if not cursor:
        return {}
    try:
        found = json.loads(cursor)
        return {key: found[key] for key in ("file", "at", "line", "proof")}
    except (ValueError, KeyError, TypeError):
        raise SourceLost(
            "The feed was recorded from another source, not from files: begin the files at their"
            " first line with --from-start."
        ) from None
