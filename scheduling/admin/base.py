"""The base of all admin pages: permissions, and actions with a confirmation page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import BadRequest, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.functional import lazy
from django.utils.translation import gettext as _

from portfolios.text import unprintable_errors
from scheduling.errors import Refused, SnapshotUnavailable
from scheduling.observe.localized_reason import localized_text
from scheduling.operations.registry.operation import Operation
from scheduling.permissions import may_act, may_read
from scheduling.presentation.formatting import because
from scheduling.presentation.problems import DATABASE_AWAY

#: Name of the field that only the POST of the confirmation page has.
CONFIRMED = "confirmed"


class ReadOnlyInline(admin.TabularInline):
    """Rows on the page of the row to which they belong; who may see the page sees them."""

    extra = 0
    can_delete = False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class FleetAdmin(admin.ModelAdmin):
    """Rows that are shown, filtered and linked, never edited or deleted: `enact` writes them."""

    list_per_page = 50
    # The full count would cost a count(*) over the whole table for each page.
    show_full_result_count = False
    save_on_top = False

    class Media:
        css = {"all": ["ginkgo/admin.css"]}

    #: Columns that only operators see, in addition to every incarnation.
    for_operators: tuple[str, ...] = ()

    def get_exclude(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Return the columns that are hidden from this user."""
        hidden = tuple(super().get_exclude(request, obj) or ())
        if may_act(request.user):
            return hidden
        columns = [column.name for column in self.model._meta.fields]
        incarnations = (name for name in columns if name.endswith("incarnation"))
        return (*hidden, *incarnations, *self.for_operators)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Return whether the list may be filtered by this column.

        A column that is hidden from the user is refused: filtering by prefixes would reveal values.
        """
        hidden = "incarnation" in lookup or lookup.split("__")[0] in self.for_operators
        if hidden and not may_act(request.user):
            return False
        return super().lookup_allowed(lookup, value, request)

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *location: Any
    ) -> HttpResponse | None:
        """Run the chosen action. An id that is no number answers 400: a list has no such row."""
        for chosen in request.POST.getlist(ACTION_CHECKBOX_NAME):
            try:
                self.model._meta.pk.to_python(chosen)
            except ValidationError as error:
                raise BadRequest(error.messages[0]) from None
        return super().response_action(request, queryset, *location)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may_read(request.user)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_read(request.user)

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Return whether actions are offered: Django asks this for the permission "act"."""
        return may_act(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Forbid: only operations delete, which let the node of a portfolio release it first."""
        return False


class OperatorsAdmin(FleetAdmin):
    """Rows that only operators see."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may_act(request.user)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_act(request.user)


@dataclass(frozen=True)
class AdminAction:
    """An operation performed on each chosen row, after its consequence was confirmed."""

    operation: Operation
    outcome: Callable[[Any, Any], str] | None = None
    """(row, result of `operation.call`) → the outcome in a sentence; None: `operation.done`."""
    subject: Callable[[Any], Any] = field(default=lambda row: row.name)
    """The row → the first argument of `operation.call`."""
    extra: Callable[[list[Any]], dict[str, Any]] = field(default=lambda rows: {})
    """The chosen rows → more context for the confirmation page."""
    arguments: Callable[[dict[str, str]], dict[str, Any]] = field(default=lambda fields: {})
    """The fields of the form → more arguments of `operation.call`."""

    def run(
        self, page: FleetAdmin, request: HttpRequest, rows: QuerySet[Any]
    ) -> HttpResponse | None:
        """Show the confirmation page; once it is confirmed, act and leave a message per row."""
        if request.POST.get(CONFIRMED) != "yes":
            return self._confirmation_page(page, request, rows)
        fields = {name: str(value) for name, value in request.POST.items()}
        errors = unprintable_errors("reason", fields.get("reason", ""))
        if errors:
            page.message_user(request, localized_text(errors[0]["message"]), messages.ERROR)
            return None
        for row in rows:
            level, sentence = self._perform(row, request, fields)
            page.message_user(request, sentence, level)
        return None

    def _perform(self, row: Any, request: HttpRequest, fields: dict[str, str]) -> tuple[int, str]:
        """Return level and sentence of one row's outcome. A refusal does not stop the others."""
        given = self.arguments(fields)
        if self.operation.asks_reason:
            given["reason"] = fields.get("reason", "")
        try:
            result = self.operation.call(
                self.subject(row), actor=str(request.user.get_username()), **given
            )
        except Refused as refused:
            return messages.ERROR, because(str(row), localized_text(refused.message))
        except SnapshotUnavailable:
            return messages.ERROR, because(
                str(row), _("the fleet cannot be read now; nothing was changed.")
            )
        except DATABASE_AWAY:
            sentence = _("the database does not answer; nothing was changed.")
            return messages.ERROR, because(str(row), sentence)
        if self.outcome is None:
            return messages.SUCCESS, self.operation.outcome(row.name)
        return messages.SUCCESS, self.outcome(row, result)

    def _confirmation_page(
        self, page: FleetAdmin, request: HttpRequest, rows: Iterable[Any]
    ) -> TemplateResponse:
        """Return the page that says what the action will do and asks to confirm it."""
        chosen = list(rows)
        meta = page.model._meta
        noun = meta.verbose_name if len(chosen) == 1 else meta.verbose_name_plural
        counted = _("{number} {noun}").format(number=len(chosen), noun=noun)
        title = self.operation.summary(counted)
        context = {
            **page.admin_site.each_context(request),
            "opts": meta,
            "title": f"{title}?",
            "button": title,
            "operation": self.operation,
            "rows": chosen,
            "action": request.POST.get("action", ""),
            "checkbox": ACTION_CHECKBOX_NAME,
            "confirmed": CONFIRMED,
            "media": page.media,
            **self.extra(chosen),
        }
        return TemplateResponse(request, "admin/scheduling/confirm.html", context)

    def as_action(self, chosen: Any) -> Callable[..., HttpResponse | None]:
        """Return the action for a list; its label calls the rows `chosen`: "selected nodes"."""
        label = lazy(lambda: f"{self.operation.summary(str(chosen))}…", str)()

        @admin.action(description=label, permissions=["act"])
        def action(
            page: FleetAdmin, request: HttpRequest, rows: QuerySet[Any]
        ) -> HttpResponse | None:
            return self.run(page, request, rows)

        action.__name__ = self.operation.verb  # what the form sends; unique within a page
        return action
