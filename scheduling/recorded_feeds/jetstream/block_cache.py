"""Keep messages that were read from streams in memory, up to a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

#: Memory that each entry, and each event of a piece, takes beside the bytes of the message.
ENTRY_BYTES, EVENT_BYTES = 1_000, 50


class BlockCache:
    """Blocks and pieces (`block.py`) of streams. The least recently used are dropped first."""

    def __init__(self, most_bytes: int) -> None:
        """Start empty."""
        self._most_bytes = most_bytes
        #: Key → (block or piece, bytes that it takes), the most recently used last.
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self.bytes = 0

    def get(self, key: Hashable) -> Any:
        """Return the block or piece of a key, or None."""
        kept, _ = self._kept.get(key, (None, 0))
        if kept is not None:
            self._kept.move_to_end(key)
        return kept

    def put(self, key: Hashable, what: Any, size: int) -> None:
        """Keep a block or piece of `size` bytes, however large; drop others for it."""
        size += ENTRY_BYTES
        _, size_before = self._kept.pop(key, (None, 0))
        self.bytes += size - size_before
        self._kept[key] = what, size
        while self.bytes > self._most_bytes and len(self._kept) > 1:
            _, (_, dropped) = self._kept.popitem(last=False)
            self.bytes -= dropped
