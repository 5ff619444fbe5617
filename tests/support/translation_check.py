"""Check that a Chinese sentence matches the English one in names, numbers and punctuation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from scheduling.decide.reasons import chinese, english
from scheduling.decide.types import Reason

#: Parameters that select a wording and do not appear in the sentence, unless they are mappings.
SELECTS_WORDING = frozenset({"how", "state", "cause", "source_status", "remedy"})
#: Words that stay in Latin letters in Chinese, in addition to names from parameters.
KEPT_WORDS = frozenset({"UTC", "seq", "run_node", "sha256", "CPU", "Python", "accept_python"})

WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
HALF_WIDTH = re.compile(r"[,:;()](?![A-Za-z0-9])|(?<![A-Za-z0-9])[,:;()]|\. ")


def check_translated(reason: Reason) -> None:
    """Assert that the Chinese and English sentences of `reason` have the same names and numbers.

    Each occurs equally often, and the Chinese one has no other word in Latin letters. Raise
    KeyError for a missing parameter.
    """
    sentence = english.SENTENCES[reason.code](reason.params)
    translated = chinese.SENTENCES[reason.code](reason.params)
    about = f"{reason.code}: {sentence!r} is {translated!r}"
    names = sorted(names_in(reason.params), key=len, reverse=True)
    rest, rest_translated = sentence, translated
    for name in names:
        whole = re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])", re.ASCII)
        rest, times = whole.subn(" ", rest)
        rest_translated, times_translated = whole.subn(" ", rest_translated)
        assert times == times_translated, f"{name} in {about}"
    left = set(WORD.findall(rest_translated)) - KEPT_WORDS
    assert left == set(), about
    assert Counter(NUMBER.findall(rest)) == Counter(NUMBER.findall(rest_translated)), about
    assert not HALF_WIDTH.search(rest_translated), about
    assert "  " not in translated, about
    assert translated[-1] not in "。；：，、 ", about


def names_in(params: Mapping[str, Any]) -> set[str]:
    """Return every text in the parameters, at any depth, except those that select a wording."""
    return {
        text
        for key, value in params.items()
        if key not in SELECTS_WORDING or isinstance(value, Mapping)
        for text in _texts(value)
    }


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, Mapping):
        yield from names_in(value)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
