"""What all pages of the admin share: who may, and acts that ask first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from portfolios.text import unprintable_errors
from scheduling.errors import Refused, SnapshotUnavailable
from scheduling.permissions import may_act, may_read
from scheduling.presentation.problems import DATABASE_AWAY

#: Present in the POST of the confirmation page, and only there.
CONFIRMED = "confirmed"


class FleetAdmin(admin.ModelAdmin):
    """Rows that only statements write: shown, filtered and linked, never edited or deleted."""

    list_per_page = 50
    # Another count(*) over the whole table at each page, for a figure nobody needs.
    show_full_result_count = False
    save_on_top = False

    class Media:
        css = {"all": ["ginkgo/admin.css"]}

    #: Columns that operators alone see, beside every incarnation.
    for_operators: tuple[str, ...] = ()

    def get_exclude(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Return the columns that this person is not shown."""
        nobody = tuple(super().get_exclude(request, obj) or ())
        if may_act(request.user):
            return nobody
        columns = [column.name for column in self.model._meta.fields]
        incarnations = (name for name in columns if name.endswith("incarnation"))
        return (*nobody, *incarnations, *self.for_operators)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Return whether the list may be filtered by this: not by what the person is not shown,
        or a filter by prefixes would read it out."""
        hidden = "incarnation" in lookup or lookup.split("__")[0] in self.for_operators
        if hidden and not may_act(request.user):
            return False
        return super().lookup_allowed(lookup, value, request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Return whether the model is listed."""
        return may_read(request.user)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether rows are shown."""
        return may_read(request.user)

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Return whether acts are offered and carried out."""
        return may_act(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nothing is added by form."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing is edited by form."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing is deleted by form: a fenced row would go without its release."""
        return False


@dataclass(frozen=True)
class AdminAction:
    """Something done to each chosen row, after its consequence was read and confirmed."""

    verb: str  #: on the button: "Drain"
    consequence: str  #: what will happen, in a sentence or two
    do: Callable[[Any, str, dict[str, str]], str]
    """(row, actor, fields of the form) → the outcome in a sentence; raises Refused."""
    reason: bool = True  #: whether the form asks for one
    extra: Callable[[list[Any]], dict[str, Any]] = field(default=lambda rows: {})
    """The chosen rows → more for the page's template."""

    def run(
        self, page: FleetAdmin, request: HttpRequest, rows: QuerySet[Any]
    ) -> HttpResponse | None:
        """Show the confirmation page, or act and leave a message for each row."""
        if request.POST.get(CONFIRMED) != "yes":
            return self._ask(page, request, rows)
        fields = {name: str(value) for name, value in request.POST.items()}
        wrong = unprintable_errors("reason", fields.get("reason", ""))
        if wrong:
            page.message_user(request, wrong[0]["message"], messages.ERROR)
            return None
        for row in rows:
            level, sentence = self._do_one(row, request, fields)
            page.message_user(request, sentence, level)
        return None

    def _do_one(self, row: Any, request: HttpRequest, fields: dict[str, str]) -> tuple[int, str]:
        """Return the level and the sentence of one row's outcome; one refusal stops no other."""
        try:
            return messages.SUCCESS, self.do(row, str(request.user.get_username()), fields)
        except Refused as refused:
            return messages.ERROR, f"{row}: {refused.message}"
        except SnapshotUnavailable as error:
            return messages.ERROR, f"{row}: the fleet cannot be read now: {error}"
        except DATABASE_AWAY:
            return messages.ERROR, f"{row}: the database does not answer; nothing was changed."

    def _ask(self, page: FleetAdmin, request: HttpRequest, rows: Iterable[Any]) -> TemplateResponse:
        chosen = list(rows)
        context = {
            **page.admin_site.each_context(request),
            "opts": page.model._meta,
            "title": f"{self.verb}?",
            "act": self,
            "rows": chosen,
            "action": request.POST.get("action", ""),
            "checkbox": ACTION_CHECKBOX_NAME,
            "confirmed": CONFIRMED,
            "media": page.media,
            **self.extra(chosen),
        }
        return TemplateResponse(request, "admin/scheduling/confirm.html", context)


def acting(description: str, act: AdminAction) -> Callable[..., HttpResponse | None]:
    """Return an admin action for operators that carries out `act` after a confirmation."""

    @admin.action(description=description, permissions=["act"])
    def action(page: FleetAdmin, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponse | None:
        return act.run(page, request, rows)

    # The name is what the form sends, so it must differ within a page.
    action.__name__ = act.verb.lower().replace(" ", "_")
    return action
