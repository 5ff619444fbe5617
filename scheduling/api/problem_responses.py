"""The problem responses of each operation in the OpenAPI description, made from `CODES`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scheduling.api.idempotency import HEADER, LONGEST_KEY
from scheduling.presentation.problems import CODES, CONTENT_TYPE, problem

_WAIT = {
    "description": "Repeat the request after so many seconds.",
    "schema": {"type": "integer", "minimum": 1},
}
_HEADERS = {
    401: {
        "WWW-Authenticate": {
            "description": "How to authenticate: with a bearer token.",
            "schema": {"type": "string"},
        }
    },
    409: {"Retry-After": {**_WAIT, "description": "With the code `request_in_progress`."}},
    429: {"Retry-After": _WAIT},
    503: {"Retry-After": {**_WAIT, "description": "Nothing was changed; repeat after it."}},
}
_SENTENCES = {
    400: "A field of the body or a query parameter is wrong; `errors` names each.",
    401: "There is no token, or it is unknown, expired or revoked.",
    403: "The user or the token may not do this: viewers only read, and so do tokens of the scope "
    "`read`.",
    404: "There is no such object.",
    406: "Answers are JSON; the Accept header excludes it.",
    409: "The state of the fleet does not allow it; nothing was changed. Members of some codes: "
    "`handoff`, `changes`, `names`.",
    412: "The object is not as the If-Match header says; nothing was changed.",
    413: "The body is larger than 1 MB, or than the limit of artifacts.",
    415: "The body is in another format than this operation takes.",
    422: f"The {HEADER} was used for another request; nothing was done.",
    429: "A user may read 6,000 times and act 600 times a minute, in each web process.",
    500: "A defect. The log of the web process has the details.",
    503: "The database does not answer; nothing was changed.",
}
#: Status → codes that some operations answer with it, although CODES has another status for them.
_FURTHER_CODES = {409: ("invalid",), 412: ("changed_meanwhile",)}
#: Operations that read, and answer 409 (`unreadable` or `feed_is_replay`) for some states.
_READS_WITH_CONFLICTS = {"portfolios_checkpoint_retrieve", "feed_retrieve"}
PROBLEM = {
    "type": "object",
    "description": "A problem as of RFC 9457. Some codes have further members.",
    "properties": {
        "type": {"type": "string", "description": "`urn:ginkgo:problem:` and the code."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {
            "type": "string",
            "description": "The object, the state found, what was expected and what helps.",
        },
        "code": {"type": "string", "description": "Never renamed; codes may be added."},
        "instance": {"type": "string", "description": "The address of the request."},
        "errors": {
            "type": "array",
            "description": "With the code `invalid`: what is wrong with each field.",
            "items": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("field", "code", "message")},
                "required": ["field", "code", "message"],
            },
        },
    },
    "required": ["type", "title", "status", "detail", "code", "instance"],
}
ACTING = ("post", "patch", "delete")

IDEMPOTENCY_KEY = {
    "name": HEADER,
    "in": "header",
    "description": "One for each new request, such as a UUID. A repeat with the same key and body "
    "within 24 hours gets the first answer, with `Idempotent-Replayed: true`, and does not act "
    "again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": "^[!-~]+$"},
}


def describe_problems(result: dict[str, Any]) -> None:
    """Add its problems to each operation of the OpenAPI description `result`.

    Operations that act also get the header Idempotency-Key.
    """
    result["components"]["schemas"]["ProblemDocument"] = PROBLEM
    responses = result["components"].setdefault("responses", {})
    responses.update({_component_name(status): _component(status) for status in _SENTENCES})
    result["components"].setdefault("parameters", {})[HEADER] = IDEMPOTENCY_KEY
    for methods in result["paths"].values():
        for method, operation in methods.items():
            for status in _statuses(method, operation):
                reference = {"$ref": f"#/components/responses/{_component_name(status)}"}
                operation["responses"].setdefault(str(status), reference)
            if method in ACTING:
                reference = {"$ref": f"#/components/parameters/{HEADER}"}
                operation.setdefault("parameters", []).append(reference)


def _statuses(method: str, operation: dict[str, Any]) -> Iterator[int]:
    """Yield the statuses of problems that the operation may answer with."""
    yield from (400, 401, 403, 404, 406, 429, 500, 503)
    if method in ACTING:
        yield from (409, 413, 415, 422)
    elif operation["operationId"] in _READS_WITH_CONFLICTS:
        yield 409
    if any(parameter["name"] == "If-Match" for parameter in operation.get("parameters", ())):
        yield 412


def _component_name(status: int) -> str:
    return f"Problem{status}"


def _component(status: int) -> dict[str, Any]:
    """Return the description of a response with this status and any of its codes."""
    codes = sorted(
        {code for code, (usual_status, _) in CODES.items() if usual_status == status}
        | set(_FURTHER_CODES.get(status, ()))
    )
    listed = "\n".join(f"- `{code}`: {CODES[code][1]}." for code in codes)
    schema = {
        "allOf": [
            {"$ref": "#/components/schemas/ProblemDocument"},
            {
                "type": "object",
                "properties": {
                    "status": {"type": "integer", "enum": [status]},
                    "code": {"type": "string", "enum": codes},
                },
            },
        ]
    }
    example = problem(codes[0], _SENTENCES[status]).document("/api/portfolios/ibm-sma/")
    content = {"schema": schema, "example": {**example, "status": status}}
    return {
        "description": f"{_SENTENCES[status]}\n\n{listed}",
        **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
        "content": {CONTENT_TYPE: content},
    }
