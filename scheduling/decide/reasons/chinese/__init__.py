"""The catalogue of reasons in Chinese, in the terms of a trading desk.

Names of nodes and portfolios, labels, strategies and `seq` are not translated; punctuation is
full-width. A number that English spells out (twice) is spelled out here too.
"""

from __future__ import annotations

from scheduling.decide.reasons.chinese import (
    answers,
    edits,
    lost_nodes,
    moves,
    no_place,
    roll_outs,
    waiting,
)
from scheduling.decide.reasons.figures import Sentence

SENTENCES: dict[str, Sentence] = {
    **moves.SENTENCES,
    **no_place.SENTENCES,
    **waiting.SENTENCES,
    **answers.SENTENCES,
    **lost_nodes.SENTENCES,
    **edits.SENTENCES,
    **roll_outs.SENTENCES,
}
