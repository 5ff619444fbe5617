"""Archive a table as one Parquet file, and verify that the file contains its rows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from django.db import connection
from psycopg import sql

from portfolios.retention.kinds import RecordKind

#: Rows in memory at once, and in one row group of the file.
BATCH_ROWS = 50_000
#: Of a numeric column without a scale, as prices have it: each keeps the places of its instrument.
PRICES = pa.decimal128(38, 12)
ALL_ROWS = sql.SQL("true")
#: PostgreSQL types to Arrow types. Any other type is refused, since data might be lost.
TYPES = {
    "int8": pa.int64(),
    "int4": pa.int32(),
    "int2": pa.int16(),
    "float8": pa.float64(),
    "varchar": pa.string(),
    "text": pa.string(),
    "numeric": pa.decimal128(24, 4),
    "timestamptz": pa.timestamp("us", tz="UTC"),
}


class ArchiveDiffers(Exception):
    """The archive read back differs from what was written. The text has both digests."""


@dataclass(frozen=True, slots=True)
class Archive:
    """One verified file, with the number of its rows and their digest."""

    path: Path
    rows: int
    digest: str


class RowDigest:
    """SHA-256 over rows as lines of text: the same for a table and for the file written from it.

    A line has the values in column order, separated by tabs, with `\\N` for NULL.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._hash = hashlib.sha256()

    def add(self, table: pa.Table) -> None:
        """Add the rows of one batch."""
        if table.num_rows == 0:
            return
        texts = [pc.fill_null(pc.cast(column, pa.string()), "\\N") for column in table.columns]
        lines = pc.binary_join_element_wise(*texts, "\t")
        for chunk in lines.chunks if isinstance(lines, pa.ChunkedArray) else [lines]:
            self._hash.update("\n".join(chunk.to_pylist()).encode() + b"\n")
        self.rows += table.num_rows

    @property
    def hex(self) -> str:
        """Return the digest of all rows so far."""
        return self._hash.hexdigest()


def archive(
    kind: RecordKind, table: str, folder: Path, where: sql.Composable = ALL_ROWS, name: str = ""
) -> Archive:
    """Write the rows of `table` that match `where` to a file in `folder`, and read it back.

    The file is named `name`, or after the table. It appears by rename, complete or not at all.
    Raise ArchiveDiffers, or OSError if the disk is full. Rows are read in batches, each with its
    own statement, so that no snapshot is held.
    """
    folder = folder / kind.table
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f".{table}.{os.getpid()}"
    try:
        written = _write(kind, table, draft, where)
        read = digest_of(draft)
        if (read.rows, read.hex) != (written.rows, written.hex):
            raise ArchiveDiffers(
                f"The archive of {table} holds {read.rows} rows with digest {read.hex[:12]}…, but "
                f"{written.rows} rows with digest {written.hex[:12]}… were written: the table was "
                f"kept. Check the disk of {folder}."
            )
        path = _free_path(folder, name or table, written)
        draft.replace(path)
        _sync(folder)
    finally:
        draft.unlink(missing_ok=True)
    return Archive(path, written.rows, written.hex)


def _write(kind: RecordKind, table: str, draft: Path, where: sql.Composable) -> RowDigest:
    """Write the rows that match `where` to the file `draft`; return their digest."""
    schema = _arrow_schema(table)
    digest = RowDigest()
    with (
        open(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file,
        pq.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for piece in _batches(kind, table, schema, where):
            digest.add(piece)
            writer.write_table(piece)
        writer.add_key_value_metadata(
            {"ginkgo.table": kind.table, "ginkgo.partition": table,
             "ginkgo.rows": str(digest.rows), "ginkgo.sha256": digest.hex}
        )  # fmt: skip
    _sync(draft)
    return digest


def digest_of(path: Path) -> RowDigest:
    """Return the number of rows in an archive and their digest, computed from its content."""
    digest = RowDigest()
    with pq.ParquetFile(path) as file:
        for piece in range(file.num_row_groups):
            digest.add(file.read_row_group(piece))
    return digest


def _arrow_schema(table: str) -> pa.Schema:
    """Return the Arrow schema of a table. Raise KeyError for a type that is not in TYPES."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT a.attname, t.typname, a.atttypmod FROM pg_attribute a "
            "JOIN pg_type t ON t.oid = a.atttypid "
            "WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped "
            "ORDER BY a.attnum",
            [table],
        )
        return pa.schema(
            [  # the modifier is -1 if a numeric column has no scale
                (name, PRICES if kind == "numeric" and modifier == -1 else TYPES[kind])
                for name, kind, modifier in cursor.fetchall()
            ]
        )


def _batches(
    kind: RecordKind, table: str, schema: pa.Schema, where: sql.Composable
) -> Iterator[pa.Table]:
    """Yield the rows in batches, in the order of the kind's key."""
    key = [name.strip() for name in kind.order_by.split(",")]
    columns = [schema.get_field_index(name) for name in key]
    names = sql.SQL(", ").join(map(sql.Identifier, schema.names))
    order = sql.SQL(", ").join(map(sql.Identifier, key))
    last_key: tuple[Any, ...] | None = None  # of the batches so far
    connection.ensure_connection()
    while True:
        after_last: sql.Composable = sql.SQL("")
        if last_key is not None:
            values = sql.SQL(", ").join(map(sql.Literal, last_key))
            after_last = sql.SQL("AND ({}) > ({})").format(order, values)
        statement = sql.SQL("SELECT {} FROM {} t WHERE {} {} ORDER BY {} LIMIT {}").format(
            names, sql.Identifier(table), where, after_last, order, sql.Literal(BATCH_ROWS)
        )
        # Django's cursors would convert values that psycopg reads exactly.
        with psycopg.Cursor(connection.connection) as cursor:
            rows = cursor.execute(statement).fetchall()
        if not rows:
            return
        arrays = zip(*rows, strict=True)
        yield pa.Table.from_arrays(
            [pa.array(column, field.type) for column, field in zip(arrays, schema, strict=True)],
            schema=schema,
        )
        last_key = tuple(rows[-1][column] for column in columns)


def _free_path(folder: Path, name: str, written: RowDigest) -> Path:
    """Return the path for an archive called `name`, with a number if others have taken the name.

    An archive with other content, such as one from before a restore of the database, is not
    replaced.
    """
    number = 1
    while True:
        path = folder / (f"{name}.parquet" if number == 1 else f"{name}-{number}.parquet")
        if not path.exists() or digest_of(path).hex == written.hex:
            return path
        number += 1


def _sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
