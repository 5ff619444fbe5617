"""People: the list of users, and the forms that create, promote and deactivate them."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.contrib.auth.views import PasswordResetConfirmView
from django.http import HttpRequest, HttpResponse
from django.urls import reverse, reverse_lazy
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from scheduling.dashboard.context import page_context, render_page
from scheduling.dashboard.decorators import operator_required
from scheduling.dashboard.forms import PersonForm
from scheduling.dashboard.pagination import page_by_offset
from scheduling.dashboard.views.actions import (
    FIELDS_FORM,
    find_action,
    perform_action,
    posted,
    render_form,
    submit_form,
)
from scheduling.errors import NotFound, Refused
from scheduling.operations.registry.access_actions import (
    ACTIVATE_USER,
    ADD_USER,
    DEACTIVATE_USER,
    MAKE_OPERATOR,
    MAKE_VIEWER,
    RESET_PASSWORD,
)
from scheduling.permissions import Role

ACTIONS = {each.verb: each for each in (MAKE_VIEWER, MAKE_OPERATOR, DEACTIVATE_USER, ACTIVATE_USER)}


@require_safe
@operator_required
def people(request: HttpRequest) -> HttpResponse:
    """List the users with their roles."""
    context = page_context(request, "people")
    rows = User.objects.filter(is_superuser=False).prefetch_related("groups").order_by("username")
    context["table_page"] = page_by_offset(rows, request.GET, "from", 100, _row)
    return render_page(request, "dashboard/people.html", context)


def _row(user: User) -> dict[str, object]:
    groups = {group.name for group in user.groups.all()}
    role = next((role.value for role in Role if role.value in groups), "")
    return {"user": user, "role": role, "has_password": user.has_usable_password()}


@operator_required
def add_person(request: HttpRequest) -> HttpResponse:
    """Show the form; on POST create the user and show, this once, the link to set a password."""
    context = page_context(request, "people") | {
        "action": ADD_USER,
        "wide_fields": (),
        "title": _("Add a person"),
        "button": _("Add"),
    }

    def add(given: dict[str, Any]) -> HttpResponse:
        actor = request.user.get_username()
        user = ADD_USER.call(given["name"], Role(given["role"]), actor=actor)
        return _show_link(request, user, context)

    return submit_form(request, FIELDS_FORM, context, PersonForm(posted(request)), add)


@operator_required
def person_action(request: HttpRequest, number: int, verb: str) -> HttpResponse:
    """Change the role of a user, deactivate, activate, or show a link to set a new password."""
    user = User.objects.filter(pk=number, is_superuser=False).first()
    if user is None:
        raise NotFound("user", str(number))
    context, name = page_context(request, "people"), user.get_username()
    if verb == "password":
        context |= {"action": RESET_PASSWORD, "title": name}
        template = "dashboard/parts/password_form.html"
        if request.method != "POST":
            return render_form(request, template, context)
        reason = request.POST.get("reason", "").strip()
        try:
            RESET_PASSWORD.call(name, actor=request.user.get_username(), reason=reason)
        except Refused as refused:
            context["refused"] = refused.message
            return render_form(request, template, context, refused.status)
        user.refresh_from_db()  # the link's token is made from the changed password
        return _show_link(request, user, context)
    operation = find_action(ACTIONS, verb)
    return perform_action(request, operation, user, name, context, then=reverse("people"))


def _show_link(request: HttpRequest, user: User, context: dict[str, object]) -> HttpResponse:
    """Show the link with which the user sets a password; it works once, for three days."""
    encoded_id = urlsafe_base64_encode(force_bytes(user.pk))
    path = reverse("set-password", args=[encoded_id, default_token_generator.make_token(user)])
    context |= {"name": user.get_username(), "link": request.build_absolute_uri(path)}
    return render_form(request, "dashboard/parts/password_link.html", context)


class SetPassword(PasswordResetConfirmView):
    """The page behind the link with which a user sets a password."""

    template_name = "registration/set_password.html"
    success_url = reverse_lazy("login")
