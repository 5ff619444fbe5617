"""UUIDs in messages."""

from __future__ import annotations

from uuid import uuid4

import pytest

from scheduling.wire import messages


def test_every_spelling_of_a_uuid_is_read_and_a_long_one_is_not_cached() -> None:
    one = uuid4()
    remembered = messages._uuid.cache_info().currsize
    for text in (f"{{{one}}}", one.hex, f"urn:uuid:{one}", "-" * 100_000 + one.hex):
        assert messages.uuid_from(text) == one
    assert messages._uuid.cache_info().currsize == remembered
    assert messages.uuid_from(str(one)) is messages.uuid_from(str(one))


@pytest.mark.parametrize("text", ["", "x", "g" * 36])
def test_text_that_is_not_a_uuid_raises_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"badly formed|invalid literal"):
        messages.uuid_from(text)
