"""Errors as problem documents (RFC 9457).

{"type", "title", "status", "detail", "code", "instance"} and members of the code: `errors` of an
invalid request, `handoff` of a handoff in progress.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.utils.encoders import JSONEncoder

from scheduling.errors import Refused, SnapshotUnavailable

CONTENT_TYPE = "application/problem+json"

#: code → (status, title): every code of every interface. Codes are stable: add, never rename.
CODES: dict[str, tuple[int, str]] = {
    "invalid": (400, "The request has errors"),
    "check_failed": (400, "A check of the strategy failed"),
    "inspection_failed": (400, "The artifact cannot be used"),
    "lock_incomplete": (400, "The lock lacks a package"),
    "lock_needed": (400, "A lock is needed"),
    "no_strategy": (400, "The artifact has no strategy"),
    "not_a_lock": (400, "The lock cannot be used"),
    "not_a_wheel": (400, "The file is not a wheel"),
    "other_python": (400, "Another Python is needed"),
    "unavailable_dependency": (400, "A dependency is not available"),
    "unknown_feed": (400, "There is no such feed"),
    "unauthenticated": (401, "Sign in first"),
    "forbidden": (403, "Not allowed"),
    "not_found": (404, "Not found"),
    "method_not_allowed": (405, "Method not allowed"),
    "not_acceptable": (406, "No such format"),
    "already_acknowledged": (409, "The alert is acknowledged"),
    "already_running": (409, "Already running"),
    "already_stopped": (409, "Already stopped"),
    "answer_not_kept": (409, "The request was carried out; its answer is gone"),
    "artifact_exists": (409, "The version exists with other content"),
    "artifact_gone": (409, "The artifact was deleted"),
    "artifact_in_use": (409, "The artifact is in use"),
    "artifacts_full": (409, "Artifacts take too much room"),
    "cannot_replay": (409, "The range cannot be replayed"),
    "cannot_scaffold": (409, "The package cannot be written"),
    "cannot_verify": (409, "The portfolio cannot be verified"),
    "changed_meanwhile": (409, "The portfolio was changed meanwhile"),
    "code_unavailable": (409, "The code cannot be run"),
    "count_differs": (409, "The number of running portfolios differs"),
    "exists": (409, "It exists already"),
    "feed_busy": (409, "Another source writes the feed"),
    "feed_differs": (409, "The feed differs from the one that was recorded"),
    "feed_in_use": (409, "A portfolio needs the feed"),
    "feed_is_replay": (409, "The feed is packaged and takes no rows"),
    "handoff_in_progress": (409, "Another handoff is under way"),
    "incarnation_in_use": (409, "Another daemon has the name"),
    "instrument_differs": (409, "The instrument has another tick, scale or lot"),
    "lease_valid": (409, "The lease is still valid"),
    "name_in_use": (409, "The name is in use"),
    "name_taken": (409, "The name is taken"),
    "no_key": (409, "Secrets cannot be decrypted"),
    "no_room": (409, "No node has room"),
    "no_writer": (409, "The feed has no recorder"),
    "node_cordoned": (409, "The node is cordoned"),
    "node_full": (409, "The node is full"),
    "node_lacks": (409, "The node lacks something"),
    "node_lost": (409, "The node is lost"),
    "node_owns": (409, "The node owns portfolios"),
    "not_allowed": (409, "Nobody may change their own role or access"),
    "not_open": (409, "The alert is over"),
    "not_recorded": (409, "The feed is not recorded"),
    "nothing_changed": (409, "The roll-out has changed nothing"),
    "nothing_to_roll_out": (409, "Nothing to roll out"),
    "recorded_elsewhere": (409, "A recorder writes the feed"),
    "request_in_progress": (409, "The request is being carried out"),
    "revision_rejected": (409, "The revision was rejected"),
    "roll_out_in_progress": (409, "Another roll-out is under way"),
    "roll_out_over": (409, "The roll-out is over"),
    "same_node": (409, "The portfolio runs there already"),
    "source_conflict": (409, "The source sent other rows under this number"),
    "source_lost": (409, "The source is gone"),
    "storm_hold": (409, "Failover is held"),
    "strategy_failed": (409, "The strategy failed"),
    "superseded": (409, "The portfolio has another owner by now"),
    "symbol_in_use": (409, "The symbol is in use"),
    "too_many": (409, "There are too many"),
    "too_slow": (409, "The dry run takes too long"),
    "unknown_canary": (409, "The canary is not among the portfolios"),
    "unreadable": (409, "A file or a state cannot be read"),
    "verification_in_progress": (409, "A verification is under way"),
    "wait_timeout": (409, "Not done in the given time"),
    "wrong_range": (409, "There is no such range of events"),
    "payload_too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "Unsupported format"),
    "key_reused": (422, "The key belongs to another request"),
    "throttled": (429, "Too many requests"),
    "internal_error": (500, "Internal error"),
    "busy": (503, "Another artifact is being inspected"),
    "feed_unavailable": (503, "The log of the feed does not answer"),
    "unavailable": (503, "The database does not answer"),
}


#: The database is down, restarts, or does not answer in time. Django's statements raise the first
#: two; statements of `scheduling.enact` bypass Django and raise the driver's.
DATABASE_AWAY = (OperationalError, InterfaceError, psycopg.OperationalError, psycopg.InterfaceError)


INTERNAL_ERROR = "Internal error, a defect to report: the log of the web process has the details."


@dataclass(frozen=True, slots=True)
class Problem:
    """One error, ready to be shown."""

    code: str
    detail: str
    status: int
    extra: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def document(self, instance: str) -> dict[str, Any]:
        """Return the members of the problem document."""
        _, title = CODES.get(self.code, (self.status, self.code.replace("_", " ").capitalize()))
        return {
            "type": f"urn:ginkgo:problem:{self.code}",
            "title": title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "instance": instance,
            **self.extra,
        }


def problem(code: str, detail: str, **extra: Any) -> Problem:
    """Return the problem of a known code, with that code's status."""
    status, _title = CODES[code]
    return Problem(code, detail, status, extra)


def describe(error: Exception) -> Problem:
    """Return the problem for `error`; an `internal_error`, which the caller logs, if unexpected."""
    if isinstance(error, Refused):
        wait_s = error.extra.get("retry_after_s")
        headers = {} if wait_s is None else {"Retry-After": str(wait_s)}
        return Problem(error.code, error.message, error.status, dict(error.extra), headers)
    if isinstance(error, exceptions.ValidationError):
        errors = list(field_errors(error.get_full_details()))
        texts = [f"{e['field']}: {e['message']}" if e["field"] else e["message"] for e in errors]
        sentences = "; ".join(text.rstrip(".") for text in texts)
        return problem("invalid", f"{sentences}.", errors=errors)
    if isinstance(error, exceptions.ParseError):
        return malformed(str(error.detail))
    if isinstance(error, exceptions.APIException):
        return _framework_problem(error)
    if isinstance(error, PermissionDenied):
        return problem("forbidden", str(error) or "You are not allowed to do this.")
    if isinstance(error, Http404):
        return problem("not_found", "There is no such object.")
    if isinstance(error, RequestDataTooBig):
        return problem("payload_too_large", str(error))
    if isinstance(error, DATABASE_AWAY):
        return _unavailable(
            "The database does not answer; nothing was changed. Try again in a moment."
        )
    if isinstance(error, SnapshotUnavailable):
        return _unavailable(
            "The state of the fleet cannot be read now; nothing was changed. Try again in a moment."
        )
    return problem("internal_error", INTERNAL_ERROR)


def _framework_problem(error: exceptions.APIException) -> Problem:
    """Return the problem for an error of the REST framework."""
    sentence = str(error.detail)
    if isinstance(error, exceptions.NotAuthenticated | exceptions.AuthenticationFailed):
        header = getattr(error, "auth_header", None) or "Bearer"
        if isinstance(error, exceptions.NotAuthenticated):
            sentence = "Sign in, or send a token: Authorization: Bearer TOKEN."
        return Problem("unauthenticated", sentence, 401, headers={"WWW-Authenticate": header})
    if isinstance(error, exceptions.Throttled):
        wait_s = int(getattr(error, "wait", None) or 1)  # a throttle may not say how long
        sentence = f"Too many requests: try again in {wait_s} s."
        return Problem("throttled", sentence, 429, headers={"Retry-After": str(wait_s)})
    codes = {404: "not_found", 403: "forbidden", 405: "method_not_allowed"}
    codes |= {406: "not_acceptable", 415: "unsupported_media_type"}
    return Problem(codes.get(error.status_code, "internal_error"), sentence, error.status_code)


def malformed(sentence: str) -> Problem:
    """Return the problem for a request that could not be parsed."""
    errors = [{"field": "", "code": "malformed", "message": sentence}]
    return problem("invalid", sentence, errors=errors)


def _unavailable(sentence: str) -> Problem:
    return Problem("unavailable", sentence, 503, headers={"Retry-After": "2"})


def field_errors(details: Any, path: str = "") -> Iterator[dict[str, str]]:
    """Yield {field, code, message} for each leaf of a validation error; nested fields have dots."""
    if isinstance(details, dict) and {"message", "code"} == details.keys():
        yield {"field": path, "code": str(details["code"]), "message": str(details["message"])}
    elif isinstance(details, dict):
        for name, inner in details.items():
            own = "" if name == "non_field_errors" else str(name)
            yield from field_errors(inner, ".".join(part for part in (path, own) if part))
    else:
        for inner in details:
            yield from field_errors(inner, path)


def as_response(found: Problem, request: HttpRequest | Request) -> HttpResponse:
    """Return the document as a plain Django response, for errors outside REST views."""
    body = json.dumps(found.document(request.path), cls=JSONEncoder, ensure_ascii=False)
    return HttpResponse(body, status=found.status, content_type=CONTENT_TYPE, headers=found.headers)
