"""The one place where a reason becomes a sentence, in English or in Chinese.

A sentence says what is needed or what happened, the state found with its numbers, and what would
help. It names nodes and numbers, never ids, and neither begins with a capital nor ends with a full
stop, so that screens can set it behind a name.

Rows keep the English text and beside it the reason as data. The text is what counts: whoever knows
no code writes it alone, so data is read only where it says just that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scheduling.decide.reasons import chinese
from scheduling.decide.reasons.english import SENTENCES, count
from scheduling.decide.reasons.figures import number
from scheduling.decide.types import Reason

__all__ = [
    "SENTENCES",
    "as_data",
    "count",
    "localize",
    "number",
    "reason_document",
    "render",
    "stored_reason",
]  # fmt: skip


def render(reason: Reason, language: str | None = "en") -> str:
    """Return the sentence for `reason`. A code that has none is shown as it is.

    Chinese for `zh`, `zh-cn`, `zh-hans`; English for every other language, and for None. Never
    raises: an older version may have stored other parameters than its sentence now needs, which
    is then shown as its code too.
    """
    chosen = chinese.SENTENCES if _is_chinese(language) else SENTENCES
    sentence = chosen.get(reason.code) or SENTENCES.get(reason.code)
    try:
        return sentence(reason.params) if sentence else _code_as_text(reason)
    except Exception:
        # Whatever a missing or mistyped parameter raises. It is better to show less than to lose a
        # page, a plan or a pass to one row.
        return _code_as_text(reason)


def reason_document(reason: Reason, language: str | None = "en") -> dict[str, Any]:
    """Return a reason as answers of the API give it: `{"code": …, "params": {…}, "reason": …}`."""
    return {**as_data(reason), "reason": render(reason, language)}


def as_data(reason: Reason) -> dict[str, Any]:
    """Return what is stored beside the sentence: `{"code": …, "params": {…}}`."""
    return {"code": reason.code, "params": dict(reason.params)}


def stored_reason(text: str, why: Mapping[str, Any] | None) -> Reason | None:
    """Return the reason that was stored as `why` if it says what `text` says, else None."""
    if not text or why is None:
        return None
    try:
        reason = Reason(str(why["code"]), dict(why["params"]))
    except (KeyError, TypeError, ValueError):
        return None
    return reason if render(reason) == text else None


def localize(text: str, why: Mapping[str, Any] | None, language: str | None) -> str:
    """Return the sentence of a row in this language: of its data if that is still what its text
    says, else the text."""
    if not _is_chinese(language):
        return text
    reason = stored_reason(text, why)
    return text if reason is None else render(reason, language)


def _code_as_text(reason: Reason) -> str:
    return reason.code.replace("_", " ")


def _is_chinese(language: str | None) -> bool:
    return language is not None and language.lower().split("-")[0] == "zh"
