"""A Parquet file as a source. It is read once it is whole, since its end describes its content.

Values become the texts that a CSV file would have: 1.07083 is the same price in both, even if
Parquet stores it as a float of 32 bits.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from hashlib import sha256
from io import BufferedReader
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from portfolios.feeds.columns import Columns, MissingColumn, find_columns
from scheduling.recorded_feeds.sources.base import FileLayout, FilePosition, Item, SourceLost

AT_ONCE = 2_000  #: rows that are decoded at once
MAGIC = b"PAR1"  #: the last bytes of a whole file
PROOF_BYTES = 4_096  #: at the end, with the numbers of rows and the places of the columns


class ParquetFile:
    """One file, and how many of its rows were read."""

    def __init__(self, path: Path, layout: FileLayout) -> None:
        self.path, self._layout = path, layout
        self._file: BufferedReader | None = None
        self.inode = os.stat(path).st_ino
        #: Rows read so far, under both names of `OpenedFile`: a CSV file has a byte offset in `at`.
        self.at = self.line = 0
        self._batches: Iterator[list[Item]] = iter(())  #: of rows not read yet

    def skip_to(self, at: int, line: int, proof: str) -> None:
        """Continue at `at`, after `line`. Raise SourceLost if the file's proof is not `proof`."""
        if not self._open_if_whole() or self.proof(at) != proof:
            raise SourceLost(
                f"{self.path} is not the file of which {at:,} rows were recorded: it was replaced."
                " Put the old one back, or begin this one at its first row with --from-start."
            )
        self.at = self.line = at
        self._batches = self._read_rows()

    def refuse_if_cut(self) -> None:
        """Do nothing: a whole file is not written to any more, and was opened once."""

    def proof(self, at: int) -> str:
        """Return the hash of the file's size and end, which is the same for every `at`."""
        assert self._file is not None
        size = os.fstat(self._file.fileno()).st_size
        first = max(size - PROOF_BYTES, 0)
        end = os.pread(self._file.fileno(), PROOF_BYTES, first)
        return sha256(size.to_bytes(8) + end).hexdigest()[:32]

    def read(self, *, is_complete: bool = False) -> list[Item]:
        """Return the next rows; none at the end, or while the file is being written.

        `is_complete`: another file follows, so that nobody writes to this one. Raise SourceLost if
        it is not whole then, or cannot be read.
        """
        if self._file is None:
            if not self._open_if_whole():
                if is_complete and self._is_there():
                    raise SourceLost(
                        f"{self.path} is not a whole Parquet file, though a later file exists:"
                        " write it again, or move it away, and start the recorder again."
                    )
                return []
            self._batches = self._read_rows()
        return next(self._batches, [])

    def _is_there(self) -> bool:
        """Return whether the file still has its name: it may be moved away or written again."""
        try:
            return os.stat(self.path).st_ino == self.inode
        except FileNotFoundError:
            return False

    def _open_if_whole(self) -> bool:
        """Open the file if it ends as a whole Parquet file does. Return whether it is open.

        Raise SourceLost if the file exists and cannot be opened.
        """
        if self._file is not None:
            return True
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return False  # moved away since it was found; a whole one may take its place
        except OSError as error:
            raise SourceLost(
                f"{self.path} cannot be opened: {error.strerror}. Put a Parquet file there that the"
                " recorder's user may read, and start the recorder again."
            ) from None
        size = os.fstat(file.fileno()).st_size
        if (
            size <= 2 * len(MAGIC)
            or os.pread(file.fileno(), len(MAGIC), size - len(MAGIC)) != MAGIC
        ):
            file.close()
            return False
        # Closed with its last FilePosition: a cursor may need this file after the next was begun.
        weakref.finalize(self, file.close)
        self._file, self.inode = file, os.fstat(file.fileno()).st_ino
        return True

    def _read_rows(self) -> Iterator[list[Item]]:
        """Yield the rows after those already read.

        Raise SourceLost if the file cannot be read or lacks a column.
        """
        try:
            file = pq.ParquetFile(self._file)
            names = file.schema_arrow.names
            columns = find_columns(self.path.name, names, *self._layout)
            # Whole groups are skipped without being decoded.
            groups, rows_before = list(range(file.num_row_groups)), 0
            while groups and rows_before + file.metadata.row_group(groups[0]).num_rows <= self.at:
                rows_before += file.metadata.row_group(groups.pop(0)).num_rows
            # A batch has only these columns, so the place of a field is its place among them.
            day = [] if columns.day is None else [columns.day]
            wanted = sorted({*columns.places.values(), *day})
            columns_read = columns._replace(
                places={name: wanted.index(place) for name, place in columns.places.items()},
                day=wanted.index(*day) if day else None,
            )
            for batch in file.iter_batches(
                AT_ONCE, row_groups=groups, columns=[names[place] for place in wanted]
            ):
                table = batch.slice(max(self.at - rows_before, 0))
                rows_before += batch.num_rows
                if table.num_rows:
                    yield self._items(table, columns_read)
        except MissingColumn as missing:
            raise SourceLost(str(missing)) from None
        except (pa.ArrowException, OSError) as error:
            why = str(error).partition("\n")[0][:300]
            raise SourceLost(
                f"{self.path} cannot be read as Parquet after row {self.at:,}: {why}. Write it"
                " again, or move it away, and start the recorder again."
            ) from None

    def _items(self, batch: pa.RecordBatch, columns: Columns) -> list[Item]:
        """Return the rows of a batch, and add their number to `at` and `line`."""
        items = []
        for cells in zip(*(_texts(column) for column in batch.columns), strict=True):
            self.at += 1
            self.line = self.at
            position = FilePosition(self, self.at, self.line)
            items.append(Item(columns.row(cells), f"{self.path.name}, row {self.at}", position))
        return items


def _texts(column: pa.Array) -> list[str]:
    """Return the values as texts, "" for a null."""
    if pa.types.is_timestamp(column.type):  # a feed keeps microseconds
        column = pc.cast(column, pa.timestamp("us", column.type.tz), safe=False)
    return [text or "" for text in pc.cast(column, pa.string()).to_pylist()]
