"""Render reasons as sentences in English or Chinese.

A sentence states what is needed or what happened, the state found with its numbers, and what would
help. It names nodes and numbers, never ids, and neither begins with a capital nor ends with a full
stop, so that screens can put it after a name.

Rows store the English text and, beside it, the reason as data. The text is authoritative, since
some writers store only a text: the data is used only if it renders to exactly that text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scheduling.decide.reasons import chinese
from scheduling.decide.reasons.english import SENTENCES
from scheduling.decide.reasons.english.parts import count
from scheduling.decide.reasons.figures import number
from scheduling.decide.reasons.plain import in_chinese
from scheduling.decide.types import Reason

__all__ = [
    "SENTENCES",
    "as_data",
    "count",
    "is_chinese",
    "localize",
    "number",
    "reason_document",
    "render",
    "stored_reason",
]  # fmt: skip


def render(reason: Reason, language: str | None = "en") -> str:
    """Return the sentence for `reason`, or its code as text if it has no sentence.

    Chinese for `zh`, `zh-cn` and `zh-hans`; English for every other language, and for None. Never
    raises: the code is also returned if an older version stored other parameters than the sentence
    needs now.
    """
    chosen = chinese.SENTENCES if is_chinese(language) else SENTENCES
    sentence = chosen.get(reason.code) or SENTENCES.get(reason.code)
    try:
        return sentence(reason.params) if sentence else _code_as_text(reason)
    except Exception:
        # A missing or mistyped parameter may raise anything. Showing only the code is better than
        # failing a page, a plan or a pass because of one row.
        return _code_as_text(reason)


def reason_document(reason: Reason, language: str | None = "en") -> dict[str, Any]:
    """Return a reason as the API returns it: `{"code": …, "params": {…}, "reason": …}`.

    `language` is that of the sentence, as for `render`.
    """
    return {**as_data(reason), "reason": render(reason, language)}


def as_data(reason: Reason) -> dict[str, Any]:
    """Return a reason as stored beside its sentence: `{"code": …, "params": {…}}`."""
    return {"code": reason.code, "params": dict(reason.params)}


def stored_reason(text: str, why: Mapping[str, Any] | None) -> Reason | None:
    """Return the reason stored as `why` if it renders to `text`, else None."""
    if not text or why is None:
        return None
    try:
        reason = Reason(str(why["code"]), dict(why["params"]))
    except (KeyError, TypeError, ValueError):
        return None
    return reason if render(reason) == text else None


def localize(text: str, why: Mapping[str, Any] | None, language: str | None) -> str:
    """Return the English text of a row in `language`: translated for Chinese, else as it is.

    For Chinese, the reason stored as `why` is rendered if its English sentence is `text`; else
    `text` is translated as a plain text (`plain.py`).
    """
    if not is_chinese(language):
        return text
    reason = stored_reason(text, why)
    return in_chinese(text) if reason is None else render(reason, language)


def _code_as_text(reason: Reason) -> str:
    return reason.code.replace("_", " ")


def is_chinese(language: str | None) -> bool:
    """Return whether the language is Chinese: `zh`, `zh-cn`, `zh-hans`."""
    return language is not None and language.lower().split("-")[0] == "zh"
