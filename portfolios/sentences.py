"""Sentences that keep their template and values, so that a page can show them in Chinese.

A sentence is a text in English: logs, the API and commands use it as it is. Pages translate its
template and fill in its values (`scheduling/observe/localized_reason.py`). Modules import
`sentence` as `_`, by which `bin/messages` finds the templates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class Sentence(str):
    """An English sentence, its template and its values."""

    template: str
    values: Mapping[str, Any]

    def __str__(self) -> str:
        """Return itself, so that `str(error)` is a sentence if the text of the error is one."""
        return self


def sentence(template: str, /, **values: Any) -> Sentence:
    """Return a template such as `{name} is {value}`, filled with `values`; lists get commas.

    An exception is replaced by its text, which may be a sentence. Of a value from a client's JSON,
    pass the `short_repr`: if the value is a list, it must not get commas.
    """
    values = {n: str(v) if isinstance(v, BaseException) else v for n, v in values.items()}
    shown = {n: ", ".join(map(str, v)) if is_list(v) else v for n, v in values.items()}
    made = Sentence(template.format(**shown))
    made.template, made.values = template, values
    return made


def is_list(value: Any) -> bool:
    """Return whether a value of a sentence is a list of texts."""
    return isinstance(value, Sequence) and not isinstance(value, str)


_ = sentence


def short_repr(value: Any, longest: int = 40) -> str:
    """Return a value from a client's JSON for an error message, in at most `longest` characters."""
    text = repr(value)
    return text if len(text) <= longest else text[: longest - 3] + "…"


def abbreviate(names: Sequence[str], most: int = 5) -> Sequence[str] | Sentence:
    """Return the names, or the first ones and how many more there are."""
    if len(names) <= most:
        return names
    return _("{names} and {more:,} more", names=names[:most], more=len(names) - most)
