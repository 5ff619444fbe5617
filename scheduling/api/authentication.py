"""Who is asking: a browser's session, or a program's token."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, transaction
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from scheduling.models import ApiToken
from scheduling.models.tokens import hash_token
from scheduling.user_audit import tell_once

logger = logging.getLogger(__name__)


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
        row = ApiToken.objects.select_related("user").filter(sha256=sha256).first()
        if row is None or row.state == "revoked":
            _refused(row, "revoked")
            raise AuthenticationFailed(
                "The bearer token is unknown or was revoked: make another with "
                "manage.py create_api_token USER."
            )
        if row.state == "expired":
            _refused(row, "expired")
            raise AuthenticationFailed(
                f"The bearer token expired {row.expires_at:%Y-%m-%d %H:%M}Z: make another with "
                "manage.py create_api_token USER."
            )
        if not row.user.is_active:
            _refused(row, "of a user who is switched off")
            raise AuthenticationFailed(f"The user {row.user} is switched off.")
        _note_use(row)
        return row.user, row

    def authenticate_header(self, request: Request) -> str:
        """Return what a 401 asks for."""
        return 'Bearer realm="ginkgo"'


#: How often the last use is written, at most.
NOTE_USE_EVERY = timedelta(minutes=1)


def _note_use(row: ApiToken) -> None:
    """Write when the token was used, where the last time is a minute old. One statement then."""
    now = timezone.now()
    if row.last_used_at is not None and row.last_used_at > now - NOTE_USE_EVERY:
        return
    try:
        with transaction.atomic():
            # Concurrent writer: another request of this token; either of the two times will do.
            ApiToken.objects.filter(pk=row.pk).update(last_used_at=now)
    except DatabaseError:
        logger.warning("the use of a token could not be noted", exc_info=True)


def _refused(row: ApiToken | None, why: str) -> None:
    """Note that a token which once was valid was refused; strangers' guesses name nobody."""
    if row is not None:
        tell_once("token_refused", row.user.get_username(), f"a token that is {why}", token=row.pk)
