"""Exceptions that the interfaces show.

Refused                     the request was understood and declined: code, sentence, data
├── NotFound                no such object
└── Invalid                 fields of the request are wrong
SnapshotUnavailable         the state of the fleet could not be read: draw no conclusions
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from django.utils.translation import gettext_noop

from portfolios.sentences import Sentence
from portfolios.sentences import sentence as _
from scheduling.decide.reasons import render
from scheduling.decide.types import Reason

#: What can be missing, as `NotFound` names it.
NOUNS = (
    gettext_noop("action"),
    gettext_noop("alert"),
    gettext_noop("channel"),
    gettext_noop("feed"),
    gettext_noop("halt"),
    gettext_noop("handoff"),
    gettext_noop("incident"),
    gettext_noop("node"),
    gettext_noop("node token"),
    gettext_noop("portfolio"),
    gettext_noop("roll-out"),
    gettext_noop("secret"),
    gettext_noop("token of a user"),
    gettext_noop("user"),
)


class Refused(Exception):
    """A request that was understood and declined; nothing was changed.

    `code` is one of the stable codes of the API. `message` is one sentence that names the object,
    the state found, what was expected and what helps; a page shows a `Sentence` in its language.
    `status` is the HTTP status. `extra` becomes part of the problem document.
    """

    def __init__(self, code: str, message: str, *, status: int = 409, **extra: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.extra = extra


class NotFound(Refused):
    """The object does not exist. `what`: its kind, which pages translate if it is in NOUNS."""

    def __init__(self, what: str, name: str) -> None:
        self.what = what
        if name.isdecimal():  # such as `handoff 5`
            text = _("There is no {what} {name}.", what=_(what), name=name)
        else:
            text = _("There is no {what} named {name}.", what=_(what), name=name)
        super().__init__("not_found", text, status=404)


#: How many errors a message names; the problem document has all of them.
MAX_IN_MESSAGE = 5


class Invalid(Refused):
    """Fields of a request are invalid. `errors` is a list of {field, code, message}.

    `count`: how many there are, if `errors` has only the first of them.
    """

    def __init__(self, errors: list[dict[str, str]], *, count: int | None = None) -> None:
        shown = errors[:MAX_IN_MESSAGE]
        each = [_("{field}: {message}", field=e["field"], message=e["message"]) for e in shown]
        # Joined two by two, so that a page can translate each part.
        message = reduce(lambda one, other: _("{one}; {other}", one=one, other=other), each)
        unnamed = (count or len(errors)) - len(shown)
        if unnamed:
            message = _("{message} … and {left:,} more.", message=message, left=unnamed)
        super().__init__("invalid", message, status=400, errors=errors)


class ReasonSentence(Sentence):
    """The sentence of a reason, as a value within another sentence."""

    reason: Reason


def reason_sentence(reason: Reason) -> ReasonSentence:
    """Return the sentence of a reason in English, for use within another: no capital, no full stop.

    A page words the reason in its own language.
    """
    sentence = ReasonSentence(render(reason))
    sentence.reason = reason
    return sentence


class SnapshotUnavailable(Exception):
    """The fleet could not be read. Unknown is different from empty: conclude nothing."""
