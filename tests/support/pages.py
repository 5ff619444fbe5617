"""Signed-in test clients for the pages of the dashboard, and the text of a page."""

from __future__ import annotations

import re
from typing import Any

from django.test import Client

from scheduling.permissions import Role
from tests.support.api_client import make_user

#: What the script of a dialog sends, to get the form alone.
DIALOG: dict[str, Any] = {"headers": {"X-Dashboard": "dialog"}}


def signed_in(
    role: Role | None = None, name: str = "", *, superuser: bool = False, **options: Any
) -> Client:
    """Return a client with the session of a new user of this role, named like it by default."""
    client = Client(**options)
    client.force_login(make_user(name or str(role or "root"), role, superuser=superuser))
    return client


def text_of(answer: Any) -> str:
    """Return the HTML of a page with every run of white space as one space."""
    return re.sub(r"\s+", " ", answer.content.decode())
