"""A JSON client for the API with a token, users with roles, and counters of SQL statements."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from scheduling.operations.tokens import issue_api_token
from scheduling.operations.users import find_or_create_user, give_role
from scheduling.permissions import Role

PROBLEM = "application/problem+json"


class ApiClient:
    """API client with a bearer token, or without one."""

    def __init__(self, token: str | None = None) -> None:
        self._client = Client()
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def preferring(self, languages: str) -> ApiClient:
        """Return a client with the same token and an Accept-Language header."""
        other = ApiClient()
        other._headers = {**self._headers, "Accept-Language": languages}
        return other

    def get(self, path: str, **query: Any) -> Any:
        """Return the response to GET /api/PATH."""
        return self._client.get(f"/api/{path}", query, headers=self._headers)

    def post(self, path: str, body: Any = None) -> Any:
        """Return the response to POST with a JSON body, or without a body."""
        return self._send("POST", path, body)

    def patch(self, path: str, body: Any = None, if_match: str | None = None) -> Any:
        """Return the response to PATCH, with If-Match where given."""
        return self._send("PATCH", path, body, {} if if_match is None else {"If-Match": if_match})

    def delete(self, path: str, body: Any = None) -> Any:
        return self._send("DELETE", path, body)

    def raw(
        self,
        method: str,
        path: str,
        data: bytes,
        content_type: str,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Return the response to a request with a raw body."""
        return self._client.generic(
            method, f"/api/{path}", data, content_type, headers={**self._headers, **(headers or {})}
        )

    def form(self, path: str, fields: dict[str, Any]) -> Any:
        """Return the response to POST of a form, which may have files."""
        return self._client.post(f"/api/{path}", fields, headers=self._headers)

    def _send(
        self, method: str, path: str, body: Any, headers: dict[str, str] | None = None
    ) -> Any:
        data = b"" if body is None else json.dumps(body).encode()
        return self.raw(method, path, data, "application/json", headers)


def make_api_client(role: Role | None, name: str) -> ApiClient:
    """Return a client with the token of a new user of that role."""
    user = find_or_create_user(name)
    if role is not None:
        give_role(user, role)
    return ApiClient(issue_api_token(user, actor="test"))


def make_user(name: str, role: Role | None = None, *, superuser: bool = False) -> Any:
    """Return a new user with access to the admin."""
    user = get_user_model().objects.create_user(
        name, password="correct horse battery", is_staff=True, is_superuser=superuser
    )
    if role is not None:
        give_role(user, role)
    return user


def problem(response: Any, status: int, code: str) -> dict[str, Any]:
    """Assert a complete problem document, and return it."""
    assert response.status_code == status, response.content
    assert response.headers["Content-Type"] == PROBLEM
    document: dict[str, Any] = response.json()
    assert document["code"] == code, document
    assert (document["status"], document["type"]) == (status, f"urn:ginkgo:problem:{code}")
    assert document["title"]
    assert document["detail"]
    assert document["instance"].startswith("/api/")
    assert "Traceback" not in response.content.decode()
    return document


def fields_of(document: dict[str, Any]) -> dict[str, str]:
    """Return field → code of an `invalid` problem."""
    return {error["field"]: error["code"] for error in document["errors"]}


@contextmanager
def counted_statements(cursor: type[Any] = psycopg.Cursor) -> Iterator[list[str]]:
    """Record every statement that runs in the block, Django's and Ginkgo's."""
    seen: list[str] = []
    execute = cursor.execute

    def counting(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        seen.append(query.decode() if isinstance(query, bytes) else str(query))
        return execute(self, query, *args, **options)  # of an AsyncCursor: to be awaited

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cursor, "execute", counting)
        yield seen


#: The same of the statements on the gateway's connections.
counted_async_statements = partial(counted_statements, psycopg.AsyncCursor)


@contextmanager
def counted_transactions() -> Iterator[list[str]]:
    """Record the statements that transactions and snapshots send in the block, not Django's."""
    seen: list[str] = []

    class Counting(psycopg.Cursor[Any]):
        def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(query if isinstance(query, str) else query.decode())
            return super().execute(query, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scheduling.db.transaction.psycopg.Cursor", Counting)
        yield seen
