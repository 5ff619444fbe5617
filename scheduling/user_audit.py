"""Lines of the audit log about people: logins, refused ones too, and changes of users and groups.

Written from Django's signals, so whatever changes a user (admin, command, shell) is told. Values
are never written, only which fields changed: one of them is a password. What anybody outside can
cause is bounded: one line a minute for each kind, name and address, and RATE lines in all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from typing import Any

from django.db import DatabaseError

from portfolios.text import escape
from scheduling.db.transaction import execute
from scheduling.enact.audit_log import audit
from scheduling.request_origin import current

logger = logging.getLogger(__name__)

clock = time.monotonic
REPEAT_S = 60.0
#: Lines a minute that strangers can cause in one process, whatever names and addresses they use.
RATE = 30
_MOST = 1000


class Repeats:
    """Which of many equal things are told: the first in REPEAT_S, with how many came before it."""

    def __init__(self) -> None:
        self._told: OrderedDict[tuple[str, ...], tuple[float, int]] = OrderedDict()
        self._minute, self._lines, self._untold = 0, 0, 0
        self._lock = threading.Lock()

    def count(self, key: tuple[str, ...], now: float) -> int:
        """Return 0 if this is not to be told, else how many it stands for."""
        with self._lock:
            if self._minute != int(now // REPEAT_S):
                self._minute, self._lines = int(now // REPEAT_S), 0
            at, missed = self._told.pop(key, (now - REPEAT_S, 0))
            if now - at < REPEAT_S:
                self._told[key] = (at, missed + 1)
                return 0
            if self._lines >= RATE:
                self._untold += 1
                return 0
            self._lines += 1
            self._told[key] = (now, 0)
            while len(self._told) > _MOST:
                self._untold += self._told.popitem(last=False)[1][1]
            stands_for, self._untold = 1 + missed + self._untold, 0
            return stands_for


repeats = Repeats()


def tell(kind: str, *, reason: str = "", actor: str | None = None, **data: Any) -> None:
    """Write one line, by `actor` or by the user who is signed in."""
    origin = current()
    by = actor if actor is not None else (origin.person() if origin else "")
    execute(audit(kind, actor=by, reason=reason, **data))


def tell_once(kind: str, name: str, why: str, **data: Any) -> None:
    """Write what anybody can cause, unless the same was told a moment ago. A request does not fail
    for want of the line."""
    origin = current()
    times = repeats.count((kind, name, why, origin.address if origin else ""), clock())
    if not times:
        return
    said = f"{times} times since the last line: {why}" if times > 1 and why else why
    try:
        tell(kind, reason=said, actor=name, user=name, times=times, **data)
    except DatabaseError:
        logger.warning(
            "a line of the audit log could not be written: %s of %s", kind, name, exc_info=True
        )


# --- logins ---------------------------------------------------------------------------------------


def on_login(sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
    """Tell that somebody signed in."""
    tell_once("logged_in", _name(user), "")


def on_logout(sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
    """Tell that somebody signed out."""
    if user is not None:
        tell_once("logged_out", _name(user), "")


def on_login_failed(sender: Any, credentials: Any, request: Any = None, **kwargs: Any) -> None:
    """Tell of a wrong password or of a login that has to wait.

    A name that nobody has is not written: it may be a password in the wrong field.
    """
    from django.contrib.auth import get_user_model

    users = get_user_model()
    name = str((credentials or {}).get(users.USERNAME_FIELD) or "")
    known = users.objects.filter(**{users.USERNAME_FIELD: name[:150]}).exists()
    waits = bool(getattr(request, "axes_locked_out", False))
    why = "too many wrong passwords, so it was not looked at" if waits else "wrong password"
    tell_once("login_refused", name if known else "", why if known else f"unknown name: {why}")


# --- users and groups -----------------------------------------------------------------------------

#: Rewritten at each login.
_NOT_TOLD = {"last_login"}


def before_user(sender: Any, instance: Any, raw: bool = False, **kwargs: Any) -> None:
    """Remember what a user was, to tell which fields were changed."""
    instance._ginkgo_before = None
    if raw or instance.pk is None or set(kwargs.get("update_fields") or ()) == _NOT_TOLD:
        return
    instance._ginkgo_before = sender._default_manager.filter(pk=instance.pk).values().first()


def after_user(sender: Any, instance: Any, created: bool, raw: bool = False, **kwargs: Any) -> None:
    """Tell of a new user, or which fields were changed."""
    if raw:
        return
    name, before = _name(instance), getattr(instance, "_ginkgo_before", None)
    if created:
        tell("user_created", user=name, superuser=instance.is_superuser, staff=instance.is_staff)
    elif before is not None:
        fields = sorted(
            key
            for key, value in before.items()
            if key not in _NOT_TOLD and value != getattr(instance, key)
        )
        if fields:
            tell("user_changed", user=name, fields=fields)


def after_user_deleted(sender: Any, instance: Any, **kwargs: Any) -> None:
    """Tell that a user is gone."""
    tell("user_deleted", user=_name(instance))


def after_group(
    sender: Any, instance: Any, created: bool, raw: bool = False, **kwargs: Any
) -> None:
    """Tell of a new or renamed group."""
    if not raw:
        tell("group_created" if created else "group_changed", group=escape(instance.name))


def after_group_deleted(sender: Any, instance: Any, **kwargs: Any) -> None:
    """Tell that a group is gone."""
    tell("group_deleted", group=escape(instance.name))


def after_members(
    sender: Any, instance: Any, action: str, reverse: bool, model: Any, pk_set: Any, **kwargs: Any
) -> None:
    """Tell who was put into which group, or given which permission, and what was taken."""
    if action not in ("post_add", "post_remove", "pre_clear"):
        return
    what = sender._meta.model_name  # user_groups, user_user_permissions, group_permissions
    keys = sorted(pk_set or ())
    if action != "pre_clear" and not keys:
        return
    others = [escape(str(other)) for other in model._default_manager.filter(pk__in=keys)[:50]]
    kind = "group_changed" if what == "group_permissions" else "user_changed"
    change = {"post_add": "added", "post_remove": "removed", "pre_clear": "cleared"}[action]
    subject = escape(str(instance))
    tell(kind, **{"of": subject, "what": what, "reverse": reverse, change: others})


def _name(user: Any) -> str:
    return escape(str(user.get_username()))


def connect() -> None:
    """Connect all of it; called once the apps are loaded."""
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
        m2m_changed.connect(after_members, sender=through)
