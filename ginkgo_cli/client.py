"""Requests to the API, and what went wrong as a sentence."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin

if TYPE_CHECKING:
    from ginkgo_cli.access import Access

LIMIT_S = 20.0
NOT_FOUND = 404


class Failed(Exception):
    """The command failed. The text is a sentence for its user; `problem` is the API's document."""

    def __init__(self, sentence: str, problem: dict[str, Any] | None = None) -> None:
        super().__init__(sentence)
        self.problem = problem or {}


class Client:
    """The API of one server, as one user."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._context: ssl.SSLContext | None = None
        if access.server.startswith("https://"):
            try:
                self._context = ssl.create_default_context(cafile=access.ca or None)
            except (OSError, ssl.SSLError) as error:
                raise Failed(f"The authority {access.ca!r} cannot be read: {error}.") from None

    def get(self, path: str, **query: Any) -> Any:
        """Return the document at /api/PATH."""
        given = {name: value for name, value in query.items() if value not in (None, "")}
        return self._ask("GET", f"{path}?{urlencode(given)}" if given else path)

    def post(self, path: str, **body: Any) -> Any:
        """Act, and return the answer. Parameters that are None are left out."""
        return self._ask("POST", path, {k: v for k, v in body.items() if v is not None})

    def rows(self, path: str, limit: int = 100_000, **query: Any) -> Iterator[dict[str, Any]]:
        """Yield the rows of a list, page by page, up to `limit`."""
        page = self.get(path, **query)
        while True:
            for row in page["results"]:
                if limit <= 0:
                    return
                limit -= 1
                yield row
            if not page.get("next") or limit <= 0:
                return
            page = self._ask("GET", page["next"])

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
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
            raise Failed(f"The server sent an address of another server: {request.full_url}.")
        try:
            with urllib.request.urlopen(request, timeout=LIMIT_S, context=self._context) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise _refused(error) from None
        except (OSError, ValueError) as error:
            cause = getattr(error, "reason", error)
            raise Failed(
                f"{self.access.server} does not answer: {cause}. Whether it has acted is not known."
                if method == "POST"
                else f"{self.access.server} does not answer: {cause}."
            ) from None


def _refused(error: urllib.error.HTTPError) -> Failed:
    """Return the problem document of a refusal as a sentence."""
    try:
        problem = json.loads(error.read())
        sentence = str(problem["detail"])
    except (OSError, ValueError, KeyError, TypeError):
        return Failed(f"The server answered {error.code}, without a reason.")
    for each in problem.get("errors", ()):
        if each["field"] not in sentence:
            sentence += f" {each['field']}: {each['message']}."
    return Failed(sentence, problem)
