"""The catalogue of reasons in English, which is also the text stored on rows."""

from __future__ import annotations

from scheduling.decide.reasons.english import (
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
