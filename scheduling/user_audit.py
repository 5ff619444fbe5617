"""Audit-log lines about users: logins, refused logins, and changes of users and groups.

Written from Django's signals, so every change is recorded (admin, command, shell). Only names of
changed fields are written, no values, since one of them is a password. Lines that unauthenticated
clients can cause are limited: one a minute for each kind, name and address, and MAX_LINES in all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from typing import Any

import psycopg
from django.db import DatabaseError

from portfolios.text import escape_unprintable
from scheduling.db.transaction import execute
from scheduling.enact.audit_log import audit
from scheduling.request_origin import current

logger = logging.getLogger(__name__)

clock = time.monotonic  #: replaced by tests
REPEAT_S = 60.0  #: equal lines within this time are counted, not written
#: Lines per REPEAT_S and process that unauthenticated clients can cause in all.
MAX_LINES = 30
_MAX_KEYS = 1000  #: different lines that are remembered


class LineLimiter:
    """Lets pass, in each REPEAT_S, one of equal lines and MAX_LINES in all; counts the others."""

    def __init__(self) -> None:
        #: Key of a line → when it was last written, and how many equal ones were suppressed since.
        self._written: OrderedDict[tuple[str, ...], tuple[float, int]] = OrderedDict()
        self._minute, self._lines = 0, 0  #: the current minute, and the lines written in it
        #: Lines over MAX_LINES, and those of keys dropped from `_written`; the next line has them.
        self._suppressed = 0
        self._lock = threading.Lock()

    def count(self, key: tuple[str, ...], now: float) -> tuple[int, int]:
        """Return how many equal lines this one stands for, and how many others no line stands for.

        These others are reported once. (0, 0) if this line is suppressed.
        """
        with self._lock:
            if self._minute != int(now // REPEAT_S):
                self._minute, self._lines = int(now // REPEAT_S), 0
            at, suppressed = self._written.pop(key, (now - REPEAT_S, 0))
            if now - at < REPEAT_S:
                self._written[key] = (at, suppressed + 1)
                return 0, 0
            if self._lines >= MAX_LINES:
                self._suppressed += 1 + suppressed
                return 0, 0
            self._lines += 1
            self._written[key] = (now, 0)
            while len(self._written) > _MAX_KEYS:
                _key, (_at, unreported) = self._written.popitem(last=False)
                self._suppressed += unreported
            of_others, self._suppressed = self._suppressed, 0
            return 1 + suppressed, of_others


line_limiter = LineLimiter()


def record(kind: str, *, reason: str = "", actor: str | None = None, **data: Any) -> None:
    """Write one line of the audit log, by `actor` or else by the signed-in user."""
    origin = current()
    by = actor if actor is not None else (origin.person() if origin else "")
    execute(audit(kind, actor=by, reason=reason, **data))


def record_limited(kind: str, name: str, cause: str, **data: Any) -> None:
    """Write a line that unauthenticated clients can cause, unless `line_limiter` suppresses it.

    The request does not fail if the line cannot be written.
    """
    origin = current()
    times, of_others = line_limiter.count(
        (kind, name, cause, origin.address if origin else ""), clock()
    )
    if not times:
        return
    reason = f"{times} times since the last line: {cause}" if times > 1 and cause else cause
    if of_others:
        data["lines_of_others"] = of_others
    try:
        record(kind, reason=reason, actor=name, user=name, times=times, **data)
    except (DatabaseError, psycopg.Error):
        logger.warning("could not write to the audit log: %s of %s", kind, name, exc_info=True)


# --- logins ---------------------------------------------------------------------------------------


def on_login(sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
    """Record a login."""
    record_limited("logged_in", _name(user), cause="")


def on_logout(sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
    """Record a logout."""
    if user is not None:
        record_limited("logged_out", _name(user), cause="")


def on_login_failed(sender: Any, credentials: Any, request: Any = None, **kwargs: Any) -> None:
    """Record a wrong password or a locked-out login.

    An unknown name is not written: it may be a password in the wrong field.
    """
    from django.contrib.auth import get_user_model

    users = get_user_model()
    name = str((credentials or {}).get(users.USERNAME_FIELD) or "")
    known = users.objects.filter(**{users.USERNAME_FIELD: name[:150]}).exists()  # 150: the longest
    locked_out = bool(getattr(request, "axes_locked_out", False))
    cause = "locked out after too many wrong passwords" if locked_out else "wrong password"
    record_limited(
        "login_refused", name if known else "", cause if known else f"unknown name: {cause}"
    )


# --- users and groups -----------------------------------------------------------------------------

#: Fields that each login rewrites.
_NOT_RECORDED = {"last_login"}


def before_user(sender: Any, instance: Any, raw: bool = False, **kwargs: Any) -> None:
    """Keep the stored fields of a user, with which `after_user` finds the changed ones."""
    instance._ginkgo_before = None
    is_login = set(kwargs.get("update_fields") or ()) == _NOT_RECORDED
    if raw or instance.pk is None or is_login:
        return
    instance._ginkgo_before = sender._default_manager.filter(pk=instance.pk).values().first()


def after_user(sender: Any, instance: Any, created: bool, raw: bool = False, **kwargs: Any) -> None:
    """Record a new user, or the names of the changed fields."""
    if raw:  # a fixture is loaded
        return
    name, before = _name(instance), getattr(instance, "_ginkgo_before", None)
    if created:
        record("user_created", user=name, superuser=instance.is_superuser, staff=instance.is_staff)
    elif before is not None:
        fields = sorted(
            key
            for key, value in before.items()
            if key not in _NOT_RECORDED and value != getattr(instance, key)
        )
        if fields:
            record("user_changed", user=name, fields=fields)


def after_user_deleted(sender: Any, instance: Any, **kwargs: Any) -> None:
    """Record a deleted user."""
    record("user_deleted", user=_name(instance))


def after_group(
    sender: Any, instance: Any, created: bool, raw: bool = False, **kwargs: Any
) -> None:
    """Record a new or renamed group."""
    if not raw:
        record(
            "group_created" if created else "group_changed", group=escape_unprintable(instance.name)
        )


def after_group_deleted(sender: Any, instance: Any, **kwargs: Any) -> None:
    """Record a deleted group."""
    record("group_deleted", group=escape_unprintable(instance.name))


def on_m2m_changed(
    sender: Any, instance: Any, action: str, reverse: bool, model: Any, pk_set: Any, **kwargs: Any
) -> None:
    """Record a change of a user's groups, or of the permissions of a user or a group."""
    if action not in ("post_add", "post_remove", "pre_clear"):
        return
    what = sender._meta.model_name  # user_groups, user_user_permissions, group_permissions
    keys = sorted(pk_set or ())
    if action != "pre_clear" and not keys:
        return
    # No line of the audit log names more than 50.
    others = [
        escape_unprintable(str(other)) for other in model._default_manager.filter(pk__in=keys)[:50]
    ]
    kind = "group_changed" if what == "group_permissions" else "user_changed"
    change = {"post_add": "added", "post_remove": "removed", "pre_clear": "cleared"}[action]
    subject = escape_unprintable(str(instance))
    record(kind, **{"of": subject, "what": what, "reverse": reverse, change: others})


def _name(user: Any) -> str:
    return escape_unprintable(str(user.get_username()))


def connect() -> None:
    """Connect the signals. Called once the apps are loaded."""
    from django.contrib.auth import get_user_model, signals
    from django.contrib.auth.models import Group
    from django.db.models.signals import m2m_changed, post_delete, post_save, pre_save

    users = get_user_model()
    signals.user_logged_in.connect(on_login)
    signals.user_logged_out.connect(on_logout)
    signals.user_login_failed.connect(on_login_failed)
    pre_save.connect(before_user, sender=users)
    post_save.connect(after_user, sender=users)
    post_delete.connect(after_user_deleted, sender=users)
    post_save.connect(after_group, sender=Group)
    post_delete.connect(after_group_deleted, sender=Group)
    for through in (
        users.groups.through,
        users.user_permissions.through,
        Group.permissions.through,
    ):
        m2m_changed.connect(on_m2m_changed, sender=through)
