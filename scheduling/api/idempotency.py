"""The header Idempotency-Key of requests that act: a repeat gets the first answer."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from contextlib import ExitStack
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.db import DatabaseError
from django.http import HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.utils.crypto import salted_hmac
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from scheduling.errors import Invalid
from scheduling.operations.idempotency import (
    Answer,
    Claim,
    acting_under,
    claim_key,
    keep_answer,
    release,
)
from scheduling.presentation.problems import DATABASE_AWAY

logger = logging.getLogger(__name__)

HEADER = "Idempotency-Key"
#: A key is printable ASCII. An IETF draft puts it in quotes; here these are characters of the key.
LONGEST_KEY = 255
KEY = re.compile(rf"[!-~]{{1,{LONGEST_KEY}}}")
KEPT_HEADERS = ("Content-Type", "Location", "ETag")  #: those that a repeat gets too


class _Repeated(Exception):
    """Ends the handling of a repeated request; `answer` is that of the first request."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


class ActsOncePerKey(APIView):
    """A view whose POST, PATCH and DELETE act once for each Idempotency-Key of a user."""

    #: False: the answer of a success, such as a new token, is never stored, so a repeat gets none.
    keeps_answer = True

    _claim: Claim | None = None

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer the request, and keep the answer under the request's key, if it has one."""
        with ExitStack() as self._until_answered:  # `initial` enters the key there
            response = super().dispatch(request, *args, **kwargs)
        if self._claim is not None:
            is_refusal = response.status_code >= 400
            _keep_or_forget(self._claim, response, self.keeps_answer or is_refusal)
        return response

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Authenticate the user, check the permission, then claim the request's key, if it has one.

        Raise _Repeated for a request that has been answered, Refused for one under way.
        """
        super().initial(request, *args, **kwargs)
        if not request.user.is_authenticated:
            return
        key = _read_key(request)
        if key is None:
            return
        found = claim_key(int(request.user.pk), key, _fingerprint(request))
        if isinstance(found, Answer):
            raise _Repeated(found)
        self._claim = found
        self._until_answered.enter_context(acting_under(found))

    def handle_exception(self, exc: Exception) -> Any:
        """Return the first answer to a repeat, a problem otherwise."""
        if not isinstance(exc, _Repeated):
            return super().handle_exception(exc)
        headers = {**exc.answer.headers, "Idempotent-Replayed": "true"}
        return HttpResponse(exc.answer.body, status=exc.answer.status, headers=headers)


def _read_key(request: Request) -> str | None:
    """Return the Idempotency-Key, None without one or for a read. Raise Invalid if malformed."""
    if request.method in SAFE_METHODS or HEADER not in request.headers:
        return None
    key = request.headers[HEADER].strip()
    if not KEY.fullmatch(key):
        message = "must be 1 to 255 printable ASCII characters without spaces, such as a UUID"
        raise Invalid([{"field": HEADER, "code": "invalid", "message": message}])
    return key


def _fingerprint(request: Request) -> str:
    """Return a digest of the request, the same for a repeat. Keyed: the body may hold secrets."""
    address = [request.method, request.path, sorted(request.query_params.lists())]
    canonical = json.dumps([*address, _comparable(request.data)], sort_keys=True)
    return salted_hmac("idempotency", canonical, algorithm="sha256").hexdigest()


def _comparable(data: Any) -> Any:
    """Return the parsed body in a form that JSON can hold, with files as digests.

    The body is compared as parsed, since a form has another boundary in each repeat.
    """
    if isinstance(data, QueryDict):
        return {name: [_comparable(one) for one in values] for name, values in data.lists()}
    if isinstance(data, UploadedFile):
        digest = hashlib.sha256()
        for chunk in data.chunks():
            digest.update(chunk)
        data.seek(0)
        return [data.name, digest.hexdigest()]
    return hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else data


def _keep_or_forget(claim: Claim, response: HttpResponseBase, repeatable: bool) -> None:
    """Keep the response for repeats, its body only if it is `repeatable`.

    A 5xx frees the key, unless the request had acted before it failed: then repeats are refused.
    """
    try:
        if response.status_code >= 500:
            release(claim)
            return
        if isinstance(response, Response):
            response.render()
        headers = {
            name: response.headers[name] for name in KEPT_HEADERS if name in response.headers
        }
        body = response.content.decode() if isinstance(response, HttpResponse) else ""
        keep_answer(claim, Answer(response.status_code, headers, body), repeatable=repeatable)
    except (DatabaseError, *DATABASE_AWAY):
        # The request itself is answered. A repeat is refused, and told whether the first one acted.
        logger.warning("key row %d: no answer kept, repeats are refused", claim.id, exc_info=True)
