"""Names and texts: which characters are refused, and how others are escaped."""

from __future__ import annotations

import io
import json
import logging

import pytest

from portfolios.json_log import JsonLines
from portfolios.text import (
    escape_json,
    escape_lines,
    escape_unprintable,
    text_errors,
    unprintable_in,
)
from portfolios.validation import name_errors
from scheduling.management.base import PlainConsole
from scheduling.node_daemon.config import make_config
from scheduling.node_daemon.errors import InvalidArguments
from scheduling.node_daemon.logs import PlainLines

BAD = ["\n", "\x00", "\x1b", "\x7f", "\x9b", "\u202e", "\u2066", "\u2028", "\ufeff", "\udc80"]


@pytest.mark.parametrize("letter", BAD)
def test_every_control_and_bidirectional_character_is_found_wherever_it_stands(letter: str) -> None:
    assert unprintable_in(f"a{letter}b") == letter
    assert unprintable_in({"k": [1, {f"x{letter}": "v"}]}) == letter
    assert letter not in escape_unprintable(f"a{letter}b")
    (wrong,) = text_errors("reason", f"a{letter}", longest=200)
    assert (wrong["code"], wrong["field"]) == ("unprintable", "reason")
    assert f"U+{ord(letter):04X}" in wrong["message"]


def test_ordinary_text_of_any_language_is_not_escaped() -> None:
    for text in ("Umstellung für Q3", "维护窗口", "שבת", "naïve 👩‍👩‍👧 ok", "a\u200cb"):
        assert unprintable_in(text) == ""
        assert escape_unprintable(text) == text


@pytest.mark.parametrize("name", ["bad\n", "\nbad", "bad\r", "b\u202ed", "-bad", "bad-", "Bad", ""])
def test_a_name_that_is_not_a_slug_is_refused(name: str) -> None:
    (wrong,) = name_errors(name)
    assert wrong["code"] == "not_a_slug"
    assert unprintable_in(wrong["message"]) == ""


def test_plain_console_escapes_control_characters() -> None:
    out = io.StringIO()
    PlainConsole(file=out, width=80).print("a\x1b[31mred\u202eb\nnext")
    assert out.getvalue() == "a\\x1b[31mred\\u202eb\nnext\n"
    assert escape_lines("a\tb\nc\x1b") == "a\tb\nc\\x1b"


def test_escaped_json_has_the_same_value_and_no_raw_control_character() -> None:
    document = {"reason": "a\x9b\u202e\nb", "more": ["\x1b"]}
    text = escape_json(json.dumps(document, ensure_ascii=False, indent=2))
    assert json.loads(text) == document
    assert unprintable_in(text.replace("\n", "")) == ""


def test_a_log_line_is_one_line_whatever_a_strategy_says() -> None:
    record = logging.makeLogRecord({"msg": "it said: a\nFAKE line\x1b[2J\u202e", "name": "x"})
    assert "\n" not in PlainLines("%(asctime)s n %(levelname)s %(message)s").format(record)
    line = JsonLines().format(record)
    assert unprintable_in(line) == ""
    assert json.loads(line)["message"] == record.getMessage()


def test_node_label_with_a_bidirectional_character_is_refused() -> None:
    with pytest.raises(InvalidArguments, match="control or bidirectional"):
        make_config(name="n", server="http://h", token="t", labels=["zone=a\u202e"])
