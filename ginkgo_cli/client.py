"""Make requests to the API, and turn their failures into sentences."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin

from ginkgo_cli.tables import printable

if TYPE_CHECKING:
    from ginkgo_cli.access import Access

LIMIT_S = 20.0  #: without a byte of the answer, after which the request has failed
REDIRECTS = range(300, 400)
#: The most rows that the API returns at once.
PAGE = 1_000
#: How long a request is repeated after its first failure. If the process of the server ended in the
#: middle of a request, its repeats are refused for 30 s; the next one acts.
REPEAT_FOR_S = 45.0
#: The wait before a repeat, if the server does not say how long. It doubles with each repeat.
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 5.0


class Failed(Exception):
    """The command failed; the text tells the user why. `problem`: the API's document, or {}."""

    def __init__(self, sentence: str, problem: dict[str, Any] | None = None) -> None:
        super().__init__(sentence)
        self.problem = problem or {}

    @property
    def code(self) -> str:
        """Return the code of the problem document; "" without one."""
        return str(self.problem.get("code", ""))


class _FollowNone(urllib.request.HTTPRedirectHandler):
    """Follow no redirect: an action would become a GET, and the token go to another server."""

    def redirect_request(self, *_: Any) -> None:
        """Return None, which makes the answer an HTTPError."""


class Client:
    """The API of one server, as one user."""

    def __init__(self, access: Access) -> None:
        self.access = access
        handlers: list[urllib.request.BaseHandler] = [_FollowNone()]
        if access.server.lower().startswith("https:"):
            try:
                context = ssl.create_default_context(cafile=access.ca or None)
            except (OSError, ssl.SSLError) as error:
                raise Failed(
                    f"The certificates in {access.ca!r} cannot be read: {error}. Name a file in "
                    "PEM form with --ca or GINKGO_CA."
                ) from None
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, path: str, **query: Any) -> Any:
        """Return the document at /api/PATH. Parameters that are None or empty are left out."""
        given = {name: value for name, value in query.items() if value not in (None, "")}
        return self._request("GET", f"{path}?{urlencode(given)}" if given else path)

    def post(self, path: str, **body: Any) -> Any:
        """Send a POST and return the answer. Parameters that are None are left out."""
        given = {name: value for name, value in body.items() if value is not None}
        return self._request("POST", path, given)

    def rows(self, path: str, limit: int = 100_000, **query: Any) -> Iterator[dict[str, Any]]:
        """Yield the rows of a list, at most `limit`. One request for each page."""
        page = self.get(path, limit=min(limit, PAGE), **query)
        while True:
            if not page or "results" not in page:
                raise Failed(self._not_ginkgo())
            for row in page["results"]:
                if limit <= 0:
                    return
                limit -= 1
                yield row
            if not page.get("next") or limit <= 0:
                return
            page = self._request("GET", page["next"])

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return the document at /api/PATH, or at a whole address such as that of the next page.

        A POST without an answer is repeated under the same Idempotency-Key, so that it acts once.
        If the server cannot be reached at the first try, nothing is repeated: nothing was sent, and
        the address may be wrong.
        """
        request = urllib.request.Request(
            urljoin(f"{self.access.server}/api/", path),
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self.access.token}",
                "Accept": "application/json",
                "Content-Type": "application/json",
            },
        )
        if not request.full_url.startswith(f"{self.access.server}/"):
            raise Failed(
                f"{self.access.server} names {request.full_url} as the next page. It is at another "
                "address and was not requested. If that address is right, give it as the server; "
                "else have the proxy pass on Host and X-Forwarded-Proto, and set GINKGO_HTTPS=1 on "
                "the web processes if it speaks TLS."
            )
        if method == "GET":
            return self._send_once(request)
        request.add_header("Idempotency-Key", str(uuid.uuid4()))
        until, wait_s = None, FIRST_WAIT_S
        while True:
            try:
                return self._send_once(request)
            except Unanswered as failed:
                now = time.monotonic()
                if until is None:  # the first failure
                    until = now + REPEAT_FOR_S if failed.was_sent else now
                pause_s = failed.after_s or wait_s
                if now + pause_s > until:
                    raise
                sys.stderr.write(printable(f"{failed} The request is repeated, and acts once.\n"))
                time.sleep(pause_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _send_once(self, request: urllib.request.Request) -> Any:
        """Return the answer. Raise Unanswered if a repeat may help, another Failed if not."""
        try:
            with self._opener.open(request, timeout=LIMIT_S) as answer:
                return self._parse(answer.read())
        except urllib.error.HTTPError as error:
            if error.code in REDIRECTS:
                raise Failed(
                    f"{self.access.server} redirects to {error.headers.get('Location', '?')}: "
                    "give that server's address itself. Nothing was done, and the token was not "
                    "sent there."
                ) from None
            failed = _failure_of(error)
            if error.code in (502, 503, 504) or failed.code == "request_in_progress":
                failed = Unanswered(str(failed), failed.problem, after_s=_retry_after(error))
            raise failed from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            cause = getattr(error, "reason", error)
            sentence = (
                f"{self.access.server} does not answer: {str(cause) or type(cause).__name__}."
            )
            never_sent = (ConnectionRefusedError, socket.gaierror, ssl.SSLError)
            was_sent = not isinstance(cause, never_sent)
            if was_sent and request.get_method() != "GET":
                sentence += " Whether it has acted is not known."
            raise Unanswered(sentence, was_sent=was_sent) from None

    def _parse(self, body: bytes) -> Any:
        """Return the JSON object that is the body, None if it is empty. Raise Failed for others."""
        try:
            document = json.loads(body or b"null")
        except ValueError:
            raise Failed(self._not_ginkgo()) from None
        if document is not None and not isinstance(document, dict):
            raise Failed(self._not_ginkgo())
        return document

    def _not_ginkgo(self) -> str:
        return (
            f"{self.access.server} does not answer as Ginkgo does; check that it is the address "
            "of an installation."
        )


class Unanswered(Failed):
    """The request has no answer. A repeat may get one, after `after_s` if the server said so."""

    def __init__(
        self,
        sentence: str,
        problem: dict[str, Any] | None = None,
        *,
        was_sent: bool = True,
        after_s: float | None = None,
    ) -> None:
        super().__init__(sentence, problem)
        self.was_sent, self.after_s = was_sent, after_s


def _retry_after(error: urllib.error.HTTPError) -> float | None:
    """Return the seconds of Retry-After, None without it."""
    given = error.headers.get("Retry-After", "")
    return float(given) if given.isascii() and given.isdigit() else None


def _failure_of(error: urllib.error.HTTPError) -> Failed:
    """Return the failure that the body of an answer states; Unanswered if it was cut off."""
    try:
        problem = json.loads(error.read())
        sentence = str(problem["detail"])
    except (OSError, http.client.HTTPException):
        return Unanswered(f"The server answered {error.code}, and its answer was cut off.")
    except (ValueError, KeyError, TypeError):
        return Failed(f"The server answered {error.code}, without a reason.")
    for each in problem.get("errors", ()):
        if each["field"] not in sentence:
            sentence += f" {each['field']}: {each['message']}."
    return Failed(sentence, problem)
