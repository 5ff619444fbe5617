"""Edits of a portfolio, each refused if the portfolio is no longer as its editor saw it.

`EditBase` is the state that an edit started from: the revision, and the fields that no revision
holds. A form keeps its token in a hidden field, the API returns it as ETag. `revise_portfolio`
compares it in the statement that writes, so that nobody reverts the change of another unseen.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from django.utils import timezone

from portfolios import validation
from portfolios.models import CatchUp, Portfolio, Revision
from portfolios.sentences import sentence as _
from scheduling.decide.reasons import as_data
from scheduling.decide.types import Reason
from scheduling.errors import Invalid, Refused, reason_sentence
from scheduling.models import Event

#: The fields of a revision: a change of one makes a new revision.
CONFIGURATION = ("strategy", "config", "symbols", "limits", "artifact")
#: The fields of the portfolio itself, which no revision holds.
PLACEMENT = ("weight", "priority", "selector", "spread_group", "spread_hard", "catch_up")

#: Fields whose entries are compared one by one.
_OBJECTS = ("config", "limits", "selector")

#: Lines of the audit log in which a refusal looks for who made the changes.
MAX_EVENTS = 50


class Editable(Protocol):
    """A portfolio, as a row or as a view of the fleet."""

    @property
    def id(self) -> int:
        """The primary key of the portfolio."""

    @property
    def revision(self) -> int:
        """The wanted revision."""


@dataclass(frozen=True, slots=True)
class EditBase:
    """What an edit started from: the revision number, the portfolio's key and PLACEMENT values.

    A field that is None is not compared.
    """

    revision: int
    portfolio: int | None = None
    placement: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, portfolio: Editable) -> EditBase:
        """Return the EditBase of an edit that starts now."""
        placement = {name: getattr(portfolio, name) for name in PLACEMENT}
        return cls(portfolio.revision, portfolio.id, placement)

    @property
    def token(self) -> str:
        """Return what the edit started from as text, for a hidden field or an ETag."""
        placement = self.placement or {}
        values = [self.portfolio, self.revision, *(placement.get(name) for name in PLACEMENT)]
        packed = json.dumps(values, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def from_token(cls, token: str, field: str = "base") -> EditBase:
        """Return the EditBase in a token. Raise Invalid, naming `field`, if it is malformed."""
        try:
            packed = base64.b64decode(
                token + "=" * (-len(token) % 4), altchars=b"-_", validate=True
            )
            portfolio, revision, *values = json.loads(packed)
            base = cls(revision, portfolio, dict(zip(PLACEMENT, values, strict=True)))
        except (ValueError, TypeError):
            base = None
        if base is None or not base._is_sound():
            message = _(
                "is not an ETag of this version of Ginkgo; read the portfolio again and use its new"
                " ETag"
            )
            raise Invalid([validation.error(field, "malformed", message)])
        return base

    def _is_sound(self) -> bool:
        """Return whether the values have the types of their columns, for SQL to compare them."""
        found = self.placement or {}
        integers = (self.portfolio, self.revision, found.get("weight"), found.get("priority"))
        return (
            all(type(value) is int and abs(value) < 2**31 for value in integers)
            and isinstance(found.get("selector"), dict)
            and isinstance(found.get("spread_group"), str)
            and isinstance(found.get("spread_hard"), bool)
            and found.get("catch_up") in CatchUp.values
        )


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field that differs, or an entry of one: `config.quantity`. A value of None is not set."""

    field: str
    before: Any
    after: Any

    @property
    def label(self) -> str:
        """Return `field` as people see it, without `config.`: `limits.largest_order`, `weight`."""
        return self.field.removeprefix("config.")


def configuration_of(revision: Revision) -> dict[str, Any]:
    """Return the values of CONFIGURATION, the fields whose change makes a new revision."""
    found = {key: getattr(revision, key) for key in CONFIGURATION if key != "artifact"}
    return {**found, "artifact": revision.artifact_id}


def values_at(base: EditBase) -> dict[str, Any] | None:
    """Return all editable values at `base`, None if it names no portfolio or no revision of it."""
    if base.portfolio is None:
        return None
    row = Revision.objects.filter(portfolio_id=base.portfolio, number=base.revision).first()
    return None if row is None else {**configuration_of(row), **(base.placement or {})}


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[FieldChange]:
    """Return what differs in the fields that both have; objects are compared entry by entry."""
    found: list[FieldChange] = []
    for field in before:
        if field not in after or before[field] == after[field]:
            continue
        if field not in _OBJECTS:
            found.append(FieldChange(field, before[field], after[field]))
            continue
        old, new = before[field] or {}, after[field] or {}
        found += [
            FieldChange(f"{field}.{key}", old.get(key), new.get(key))
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
        ]
    return found


def rebase(
    base: Mapping[str, Any], now: Mapping[str, Any], yours: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the fields of `yours` with the values of `now`, where `yours` did not change `base`.

    Objects are merged entry by entry. A field that `base` or `now` lacks is that of `yours`.
    """
    result = dict(yours)
    for field in yours:
        if field not in base or field not in now:
            continue
        if field not in _OBJECTS or not isinstance(yours[field], Mapping):
            result[field] = now[field] if yours[field] == base[field] else yours[field]
            continue
        merged = dict(now[field] or {})
        for change in differences({field: base[field]}, {field: yours[field]}):
            key = change.field.partition(".")[2]
            if key in yours[field]:
                merged[key] = yours[field][key]
            else:
                merged.pop(key, None)
        result[field] = merged
    return result


def changed_meanwhile(portfolio: Portfolio, current: Revision, base: EditBase) -> Refused:
    """Return the refusal of an edit that started from `base`: who changed what since, and when."""
    name = portfolio.name
    if base.portfolio not in (None, portfolio.pk):
        message = _(
            "{name} was deleted and created again since. Nothing was saved; read it again.",
            name=name,
        )
        return Refused("changed_meanwhile", message, changes=[], revision=portfolio.revision)
    earlier = values_at(EditBase(base.revision, portfolio.pk, base.placement))
    if earlier is None:
        message = _(
            "{name} is at r{revision} and has no r{base}. Nothing was saved; read it again.",
            name=name,
            revision=portfolio.revision,
            base=base.revision,
        )
        return Refused("changed_meanwhile", message, changes=[], revision=portfolio.revision)
    now = {**configuration_of(current), **{key: getattr(portfolio, key) for key in PLACEMENT}}
    changes = differences(earlier, now)
    why = Reason("changed_meanwhile", {"edits": _group_by_edit(portfolio, current, changes)})
    return Refused(
        "changed_meanwhile",
        _(
            "{name} was changed since r{revision} was read: {why}. Nothing was saved; "
            "check these and save again.",
            name=name,
            revision=base.revision,
            why=reason_sentence(why),
        ),
        changes=[
            {"field": change.field, "before": change.before, "after": change.after}
            for change in changes
        ],
        revision=portfolio.revision,
        why=as_data(why),
    )


def _group_by_edit(
    portfolio: Portfolio, current: Revision, changes: Sequence[FieldChange]
) -> list[dict[str, Any]]:
    """Group the changes by the newest edit that touched their field, the newest edit first.

    Each group has who made the edit, how long ago, its revision, and the fields that changed.
    """
    lines = Event.objects.filter(portfolio=portfolio, kind="portfolio_changed").order_by("-id")
    events = list(lines[:MAX_EVENTS])
    groups: dict[int, dict[str, Any]] = {}
    for change in changes:
        field = change.field.partition(".")[0]
        event = next((event for event in events if field in event.data.get("fields", ())), None)
        actor, at = (event.actor, event.at) if event else ("", None)
        if event is None and field in CONFIGURATION:  # its line was deleted: the revision has both
            actor, at = current.created_by, current.created_at
        ago_s = None if at is None else (timezone.now() - at).total_seconds()
        group = groups.setdefault(
            event.pk if event else 0,  # 0: by an edit that is not known
            {"revision_name": None, "actor": actor, "ago_s": ago_s, "fields": []},
        )
        if field in CONFIGURATION:
            number = event.data.get("revision", current.number) if event else current.number
            group["revision_name"] = f"r{number}"
        group["fields"].append(
            {"name": change.label, "before": _short(change.before), "after": _short(change.after)}
        )
    return [groups[key] for key in sorted(groups, reverse=True)]


def _short(value: Any) -> str | None:
    """Return the value as a sentence shows it, 60 characters at most, or None if it is not set."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"
