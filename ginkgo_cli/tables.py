"""Texts for a terminal: tables with a line of titles, and no character that it would obey."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable, Sequence

#: Control and bidirectional characters: a name or a log line must not move the cursor.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def plain(text: object) -> str:
    """Return a text without characters that a terminal would obey; "–" for None or ""."""
    shown = "–" if text is None or text == "" else str(text)
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", shown)


def printable(text: str) -> str:
    """Return a text of several lines without characters that a terminal would obey.

    These are escaped as in JSON, so that a JSON document stays valid.
    """
    return _UNPRINTABLE.sub(
        lambda found: found[0] if found[0] in "\n\t" else f"\\u{ord(found[0]):04x}", text
    )


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return the lines of a table. On a terminal, each line is cut to its width.

    A title that ends in > aligns its column right and is shown without the >.
    """
    cells = [[plain(cell) for cell in row] for row in rows]
    names = [title.rstrip(">") for title in titles]
    widths = [
        max([len(name), *(len(row[column]) for row in cells)]) for column, name in enumerate(names)
    ]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000

    def line(row: Sequence[str]) -> str:
        parts = [
            cell.rjust(column_width) if title.endswith(">") else cell.ljust(column_width)
            for cell, title, column_width in zip(row, titles, widths, strict=True)
        ]
        text = "  ".join(parts).rstrip()
        return text if len(text) <= width else f"{text[: width - 1]}…"

    return "\n".join([line(names), *(line(row) for row in cells)])
