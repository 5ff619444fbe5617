"""What a sentence must have in common with the same one in another language."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from scheduling.decide.reasons import chinese, english
from scheduling.decide.types import Reason

#: Parameters that choose the words and are not among them.
CHOOSES = frozenset({"how", "state", "cause", "source_status", "remedy"})
#: Words that Chinese writes in Latin letters too, beside the names that parameters give.
STAYS = frozenset({"seq", "run_node", "sha256", "CPU", "Python", "accept_python"})

WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
HALF_WIDTH = re.compile(r"[,:;()](?![A-Za-z0-9])|(?<![A-Za-z0-9])[,:;()]|\. ")


def check_translated(reason: Reason) -> None:
    """Hold the Chinese sentence of `reason` to the English one: the same names and numbers, each as
    often, and no other word in Latin letters. Raises what a parameter too few raises.
    """
    said = english.SENTENCES[reason.code](reason.params)
    translated = chinese.SENTENCES[reason.code](reason.params)
    about = f"{reason.code}: {said!r} is {translated!r}"
    names = sorted(names_in(reason.params), key=len, reverse=True)
    rest, rest_translated = said, translated
    for name in names:
        whole = re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])", re.ASCII)
        rest, times = whole.subn(" ", rest)
        rest_translated, times_translated = whole.subn(" ", rest_translated)
        assert times == times_translated, f"{name} in {about}"
    left = set(WORD.findall(rest_translated)) - STAYS
    assert left == set(), about
    assert Counter(NUMBER.findall(rest)) == Counter(NUMBER.findall(rest_translated)), about
    assert not HALF_WIDTH.search(rest_translated), about
    assert "  " not in translated, about
    assert translated[-1] not in "。；：，、 ", about


def names_in(params: Mapping[str, Any]) -> set[str]:
    """Return every text that the parameters hold, at any depth, but for those that choose words."""
    return {
        text
        for key, value in params.items()
        if key not in CHOOSES or isinstance(value, Mapping)  # `state` may be a node's, whole
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
