"""Who is asking: a browser's session, or a program's token."""

from __future__ import annotations

from typing import Any

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from scheduling.models import ApiToken
from scheduling.models.tokens import hash_token


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer TOKEN`, looked up by the token's hash."""

    def authenticate(self, request: Request) -> tuple[Any, ApiToken] | None:
        """Return (user, token), or None where no bearer token was sent. One statement."""
        scheme, _, token = get_authorization_header(request).strip().partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        try:
            sha256 = hash_token(token.strip().decode("ascii"))
        except UnicodeDecodeError:
            raise AuthenticationFailed("The bearer token holds characters no token has.") from None
        row = (
            ApiToken.objects.select_related("user")
            .filter(sha256=sha256, revoked_at__isnull=True)
            .first()
        )
        if row is None:
            raise AuthenticationFailed(
                "The bearer token is unknown or was revoked: make another with "
                "manage.py create_api_token USER."
            )
        if not row.user.is_active:
            raise AuthenticationFailed(f"The user {row.user} is switched off.")
        return row.user, row

    def authenticate_header(self, request: Request) -> str:
        """Return what a 401 asks for."""
        return 'Bearer realm="ginkgo"'
