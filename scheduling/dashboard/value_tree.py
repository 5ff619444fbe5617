"""The state of a strategy as a tree for a page, bounded in depth and size. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from scheduling.presentation.formatting import value_text

MAX_ENTRIES = 400  #: of the whole tree
MAX_IN_ONE = 60  #: of one object or list
MAX_DEPTH = 6
MAX_CHARS = 160
OPEN_DEPTH = 1  #: levels that are shown unfolded


@dataclass(frozen=True, slots=True)
class Branch:
    """One value; the entries of an object or of a longer list are its children."""

    key: str
    text: str  #: a plain value or a short list, else the number of entries
    children: tuple[Branch, ...] = ()
    more: int = 0  #: entries that are left out
    is_open: bool = False  #: shown unfolded


def value_tree(value: Any) -> Branch:
    """Return the tree of a JSON value. What is left out is counted."""
    return _Tree().branch("", value, 0)


class _Tree:
    """A tree under construction, which may have MAX_ENTRIES in all."""

    def __init__(self) -> None:
        self._entries_left = MAX_ENTRIES

    def branch(self, key: str, value: Any, depth: int) -> Branch:
        """Return the branch of `value`; a short list of plain values is one text, not children."""
        self._entries_left -= 1
        entries = _entries(value)
        if not entries:
            return Branch(key, _bounded_text(value))
        summary = _size_text(len(entries), isinstance(value, dict))
        if isinstance(value, list) and all(not isinstance(each, dict | list) for each in value):
            shown = ", ".join(_bounded_text(each) for each in value[:MAX_IN_ONE])
            if len(shown) <= MAX_CHARS and len(value) <= MAX_IN_ONE:
                return Branch(key, shown)
        children: list[Branch] = []
        if depth < MAX_DEPTH:
            for name, each in entries[:MAX_IN_ONE]:
                if self._entries_left <= 0:
                    break
                children.append(self.branch(name, each, depth + 1))
        more = len(entries) - len(children)
        return Branch(key, summary, tuple(children), more, depth < OPEN_DEPTH)


def _size_text(number: int, is_object: bool) -> str:
    if is_object:
        text = ngettext("%(number)s entry", "%(number)s entries", number)
    else:
        text = ngettext("%(number)s value", "%(number)s values", number)
    return text % {"number": f"{number:,}"}


def _entries(value: Any) -> list[tuple[str, Any]] | None:
    """Return (key or index, value) of an object or list, None for a plain value."""
    if isinstance(value, dict):
        return [(str(key), each) for key, each in value.items()]
    if isinstance(value, list):
        return [(str(index), each) for index, each in enumerate(value)]
    return None


def _bounded_text(value: Any) -> str:
    """Return the value as text, cut off after MAX_CHARS with the number of its characters."""
    text = value_text(value)
    if len(text) <= MAX_CHARS:
        return text
    return f"{text[:MAX_CHARS]}… " + _("(%(number)s characters)") % {"number": f"{len(text):,}"}
