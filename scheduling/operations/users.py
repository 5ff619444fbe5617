"""Find and create users; change their roles, access and passwords."""

from __future__ import annotations

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from portfolios.sentences import sentence as _
from scheduling.db.transaction import execute
from scheduling.enact.audit_log import audit
from scheduling.errors import Invalid, NotFound, Refused
from scheduling.permissions import ADMINISTRATOR_GROUP, Role


def find_user(name: str) -> User:
    """Return the user, or raise NotFound."""
    users = get_user_model()
    try:
        return users.objects.get_by_natural_key(name)
    except users.DoesNotExist:
        raise NotFound("user", name) from None


def find_or_create_user(name: str) -> User:
    """Return the user, creating it if needed without a password: it can use tokens, not sign in.

    Raise Invalid for a name that no user can have.
    """
    users = get_user_model()
    user = users.objects.filter(username=name).first()
    if user is not None:
        return user
    user = users(username=name)
    user.set_unusable_password()
    try:
        user.full_clean(exclude=["password"])
    except ValidationError as error:
        raise Invalid(
            [{"field": "user", "code": "invalid", "message": " ".join(error.messages)}]
        ) from None
    user.save()
    return user


@transaction.atomic
def give_role(user: User, role: Role) -> None:
    """Put `user` into the group of `role` and into no other role's group."""
    # Of the groups that it is in: the audit log records each group given to `remove`.
    user.groups.remove(*user.groups.filter(name__in=set(Role) - {role}))
    user.groups.add(Group.objects.get_or_create(name=role.value)[0])


def add_user(name: str, role: Role, *, actor: str) -> User:
    """Return a new user of that role, without a password. Raise Invalid for a bad or taken name.

    A signal writes the line of the audit log (`scheduling/user_audit.py`).
    """
    message = _("there is a user named {name} already.", name=name)
    taken = Invalid([{"field": "name", "code": "exists", "message": message}])
    if get_user_model().objects.filter(username=name).exists():
        raise taken
    try:
        with transaction.atomic():
            user = find_or_create_user(name)
            give_role(user, role)
    except Invalid as invalid:
        errors = [{**error, "field": "name"} for error in invalid.extra["errors"]]
        raise Invalid(errors) from None
    except IntegrityError:  # the unique name decides between two requests at once
        raise taken from None
    return user


def make_viewer(name: str, *, actor: str, reason: str = "") -> User:
    """Let the user read and not act."""
    return _change_role(name, Role.VIEWER, actor, reason)


def make_operator(name: str, *, actor: str, reason: str = "") -> User:
    """Let the user read and act."""
    return _change_role(name, Role.OPERATOR, actor, reason)


def _change_role(name: str, role: Role, actor: str, reason: str) -> User:
    """Give the user this role and no other, and return the user. Raise NotFound or Refused."""
    user = _changeable(name, actor)
    with transaction.atomic():
        give_role(user, role)
        execute(audit("user_role", actor=actor, reason=reason, user=name, role=role.value))
    return user


def deactivate_user(name: str, *, actor: str, reason: str = "") -> User:
    """End the user's sessions and tokens; the user stays, since the audit log names it."""
    return _set_active(name, False, actor, reason)


def activate_user(name: str, *, actor: str, reason: str = "") -> User:
    """Let a deactivated user sign in again."""
    return _set_active(name, True, actor, reason)


def _set_active(name: str, active: bool, actor: str, reason: str) -> User:
    """Let the user sign in, or not any more, and return the user. Raise NotFound or Refused."""
    user = _changeable(name, actor)
    user.is_active = active
    kind = "user_activated" if active else "user_deactivated"
    with transaction.atomic():
        user.save(update_fields=["is_active"])
        execute(audit(kind, actor=actor, reason=reason, user=name))
    return user


def reset_password(name: str, *, actor: str, reason: str = "") -> User:
    """Make the user's password unusable, and return the user.

    A link that the desk shows once sets another password.
    """
    user = _changeable(name, actor)
    user.set_unusable_password()
    with transaction.atomic():
        user.save(update_fields=["password"])
        execute(audit("password_reset", actor=actor, reason=reason, user=name))
    return user


def _changeable(name: str, actor: str) -> User:
    """Return the user. Raise NotFound, or Refused for a superuser, administrator or the actor."""
    user = find_user(name)
    if name == actor:
        raise Refused("not_allowed", _("Nobody changes their own role or access: ask a colleague."))
    if user.is_superuser or user.groups.filter(name=ADMINISTRATOR_GROUP).exists():
        raise Refused(
            "not_allowed",
            _("{name} is an administrator: change administrators on the admin page.", name=name),
        )
    return user
