"""JSON of people, files and markets: bounded in depth, refused as a ValueError."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from portfolios.json_text import MAX_DEPTH, read_json


def test_json_text_is_read_with_the_options_of_the_json_module() -> None:
    assert read_json(b'{"a": [1.10]}', parse_float=Decimal) == {"a": [Decimal("1.10")]}


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1, 200_000])
@pytest.mark.parametrize(("opening", "end"), [("[", "]"), ('{"a":', "}")])
def test_a_text_that_is_nested_too_deeply_is_refused(depth: int, opening: str, end: str) -> None:
    text = opening * depth + "1" + end * depth
    if depth == MAX_DEPTH:
        read_json(text)
        return
    with pytest.raises(json.JSONDecodeError, match="Nested deeper than 32 levels"):
        read_json(text)


def test_many_brackets_are_read_if_they_are_not_nested() -> None:
    wide = [{"trades": [[1, 2]] * 40, "text": "[{" * 100}] * 40
    assert read_json(json.dumps(wide)) == wide
    assert read_json(json.dumps(wide, ensure_ascii=False).encode()) == wide
    deep = f"{json.dumps(wide)[:-1]}, {'[' * MAX_DEPTH}{']' * MAX_DEPTH}]"
    with pytest.raises(json.JSONDecodeError, match="Nested deeper"):
        read_json(deep.encode())
