"""Forms of the dashboard. They parse input; `scheduling.operations` validates it."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from portfolios.json_text import read_json
from portfolios.text import unprintable_in
from scheduling.dashboard.value_fields import unprintable_sentence
from scheduling.observe.localized_reason import localized_text
from scheduling.presentation.formatting import because


class JSONText(forms.CharField):
    """A JSON object in a text area. Invalid input is shown again unchanged."""

    widget = forms.Textarea(attrs={"rows": 6, "spellcheck": "false", "class": "mono"})

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, strip=True, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        """Return text unchanged and any other value as indented JSON."""
        if isinstance(value, str):
            return value
        return json.dumps(value or {}, indent=2, ensure_ascii=False)

    def clean(self, value: Any) -> dict[str, Any]:
        """Return the object, {} for an empty text. Raise ValidationError for any other text."""
        text = super().clean(value)
        try:
            parsed = read_json(text or "{}")
        except json.JSONDecodeError as error:
            raise forms.ValidationError(
                _("not JSON: %(cause)s in line %(line)s, column %(column)s"),
                params={"cause": error.msg, "line": error.lineno, "column": error.colno},
            ) from error
        if not isinstance(parsed, dict):
            raise forms.ValidationError(_('must be an object, like {} or {"name": 1}'))
        if found := unprintable_in(parsed):
            raise forms.ValidationError(unprintable_sentence(found))
        return parsed


class OperationForm(forms.Form):
    """A form whose values an operation checks."""

    def add_field_errors(self, errors: list[dict[str, str]]) -> None:
        """Add each error to its field, or to the form if that has no such field.

        An error of `labels.zone` is added to the field `labels` if `labels.zone` is no field.
        """
        for error in errors:
            field, message = error.get("field", ""), localized_text(error["message"])
            head, __, inner = field.partition(".")
            if field in self.fields:
                self.add_error(field, message)
            elif head in self.fields:
                self.add_error(head, because(inner, message) if inner else message)
            else:
                self.add_error(None, because(field, message) if field else message)


class LabelsForm(OperationForm):
    """The labels of a node."""

    labels = forms.CharField(
        required=False,
        label=_("Labels"),
        help_text=_("KEY=VALUE, one a line"),
        widget=forms.Textarea(attrs={"rows": 5, "spellcheck": "false", "class": "mono"}),
    )
    reason = forms.CharField(
        required=False, max_length=200, label=_("Reason, kept in the audit log")
    )

    def clean_labels(self) -> dict[str, str]:
        """Return label → value. Raise ValidationError if one has no `=` or is repeated."""
        labels: dict[str, str] = {}
        for text in self.cleaned_data["labels"].split():
            key, equals, value = text.partition("=")
            if not equals:
                raise forms.ValidationError(
                    _("%(text)s is not KEY=VALUE, such as zone=a."), params={"text": text[:60]}
                )
            if key in labels:
                raise forms.ValidationError(
                    _("%(key)s is given twice: a label has one value."), params={"key": key[:60]}
                )
            labels[key] = value
        return labels


class PersonForm(OperationForm):
    """A new user."""

    name = forms.CharField(max_length=150, label=_("Name"))
    role = forms.ChoiceField(
        choices=[("viewer", _("viewer: reads")), ("operator", _("operator: reads and acts"))],
        label=_("Role"),
    )


class AlertChannelForm(OperationForm):
    """Where alerts are sent."""

    name = forms.CharField(max_length=60, label=_("Name"), help_text=_("such as on-call"))
    address = forms.CharField(
        max_length=2000,
        label=_("Address"),
        help_text=_("as apprise writes it; stored encrypted, never shown again"),
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )


class NodeTokenForm(OperationForm):
    """What a new token is for, and for how long; for a new node also its name and capacity."""

    node = forms.CharField(max_length=80, label=_("Node"), help_text=_("its name, such as node-4"))
    capacity = forms.IntegerField(
        min_value=1,
        max_value=1_000_000,
        initial=5,
        label=_("Capacity"),
        help_text=_("the sum of weights that it can run"),
    )
    token_name = forms.CharField(
        required=False, max_length=80, label=_("Purpose"), help_text=_("what the token is for")
    )
    days = forms.IntegerField(
        required=False, label=_("Days"), help_text=_("until it expires; empty: until it is revoked")
    )

    def __init__(self, *args: Any, is_new_node: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not is_new_node:
            del self.fields["node"], self.fields["capacity"]


class RollOutForm(OperationForm):
    """What to roll out, where, and how fast."""

    artifact = forms.CharField(
        max_length=64, label=_("Artifact"), help_text=_("its sha256, or the beginning of it")
    )
    portfolios = forms.CharField(
        required=False,
        label=_("Portfolios"),
        help_text=_("names; empty: all that run another version of the artifact"),
    )
    canary = forms.CharField(
        required=False,
        label=_("Canary"),
        help_text=_("is changed first and alone; empty: one that runs"),
    )
    at_a_time = forms.IntegerField(label=_("At a time"), help_text=_("after the canary"), initial=1)
    canary_seconds = forms.FloatField(
        required=False,
        label=_("Canary seconds"),
        help_text=_("until it counts as proven; empty: until its revision is good"),
    )
    reason = forms.CharField(
        required=False, max_length=200, label=_("Reason, kept in the audit log")
    )

    def clean_portfolios(self) -> list[str] | None:
        """Return the names, or None for all."""
        return self.cleaned_data["portfolios"].replace(",", " ").split() or None
