"""Authentication by bearer token, for programs."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import psycopg
from django.db import DatabaseError, transaction
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from scheduling.db.transaction import execute_autocommit
from scheduling.enact.tokens import use_api_token
from scheduling.models import ApiToken
from scheduling.models.tokens import hash_token
from scheduling.user_audit import record_limited

logger = logging.getLogger(__name__)


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer TOKEN`, looked up by the token's hash."""

    def authenticate(self, request: Request) -> tuple[Any, ApiToken] | None:
        """Return (user, token), or None without a bearer token. Raise AuthenticationFailed.

        The token is read in one statement. At most once a minute another one records its use.
        """
        scheme, _, token = get_authorization_header(request).strip().partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        try:
            sha256 = hash_token(token.strip().decode("ascii"))
        except UnicodeDecodeError:
            raise AuthenticationFailed(
                "The bearer token holds characters that no token has: copy it again."
            ) from None
        row = ApiToken.objects.select_related("user").filter(sha256=sha256).first()
        if row is None or row.state == "revoked":
            _record_refusal(row, "revoked")
            raise AuthenticationFailed(
                "The bearer token is unknown or was revoked. Create another with "
                "manage.py create_api_token USER."
            )
        if row.state == "expired":
            _record_refusal(row, "expired")
            raise AuthenticationFailed(
                f"The bearer token expired {row.expires_at:%Y-%m-%d %H:%M}Z. Create another with "
                "manage.py create_api_token USER."
            )
        if not row.user.is_active:
            _record_refusal(row, "of a deactivated user")
            raise AuthenticationFailed(
                f"The user {row.user} is deactivated: ask an administrator to activate it."
            )
        _record_use(row)
        return row.user, row

    def authenticate_header(self, request: Request) -> str:
        """Return the WWW-Authenticate header of a 401."""
        return 'Bearer realm="ginkgo"'


#: Minimum time between two writes of `last_used_at`.
RECORD_USE_EVERY = timedelta(minutes=1)


def _record_use(row: ApiToken) -> None:
    """Store the time of use, at most once in RECORD_USE_EVERY. A failure is only logged."""
    if row.last_used_at is not None and row.last_used_at > timezone.now() - RECORD_USE_EVERY:
        return
    try:
        with transaction.atomic():
            execute_autocommit(use_api_token(row.pk))
    except (DatabaseError, psycopg.Error):
        logger.warning("the use of token %d could not be recorded", row.pk, exc_info=True)


def _record_refusal(row: ApiToken | None, why: str) -> None:
    """Record in the audit log why a token was refused; do nothing for None, an unknown one."""
    if row is not None:
        record_limited(
            "token_refused", row.user.get_username(), f"a token that is {why}", token=row.pk
        )
