"""What Ginkgo says no with.

Refused                     a person or program asked for what cannot be: code, sentence, data
SnapshotUnavailable         the state of the fleet could not be read: nobody may conclude anything
"""

from __future__ import annotations

from typing import Any


class Refused(Exception):
    """A request that was understood and declined; nothing was changed.

    `code` is one of the stable codes of the API, `message` one sentence that names the object, the
    state found, what was wanted and what helps. `status` is the HTTP status. `extra` goes into the
    problem document beside them.
    """

    def __init__(self, code: str, message: str, *, status: int = 409, **extra: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.extra = extra


class NotFound(Refused):
    """There is no such object."""

    def __init__(self, what: str, name: str) -> None:
        super().__init__("not_found", f"There is no {what} named {name}.", status=404)


class Invalid(Refused):
    """Fields of a request are wrong. `errors` is a list of {field, code, message}."""

    def __init__(self, errors: list[dict[str, str]]) -> None:
        said = "; ".join(f"{e['field']}: {e['message']}" for e in errors)
        super().__init__("invalid", said, status=400, errors=errors)


class SnapshotUnavailable(Exception):
    """The fleet could not be read. Not knowing is different from nothing: do not act on it."""
