"""What would help a drain, as a sentence."""

from __future__ import annotations

import pytest

from scheduling.decide.types import Reason
from scheduling.decide.what_if.answer import Remedy
from scheduling.presentation.drain_plan import remedy_text


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        (["a"], "The plan uses a, which is suspect: without it 2 would stay."),
        (["a", "b"], "The plan uses a, b, which are suspect: without them 2 would stay."),
    ],
)
def test_sentence_agrees_with_the_number_of_suspect_nodes(nodes: list[str], text: str) -> None:
    reason = Reason("suspects_counted", {"nodes": nodes, "left": 2})
    assert remedy_text(Remedy(reason, no_place=2)) == text
