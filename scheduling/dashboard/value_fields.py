"""Form fields for parameters and limits, from the JSON schema that a strategy declares. Pure.

A field parses what was typed into a value of its kind. A text that is not such a value is passed on
as it is: the strategy's own check then words the error, and the page shows it beside the field.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Literal

from django import forms
from django.utils.translation import gettext_lazy as _

from portfolios.artifacts.parameters import is_required, properties, resolve
from portfolios.json_text import read_json
from portfolios.text import unprintable_in
from scheduling.presentation.formatting import value_text

Kind = Literal["whole", "number", "decimal", "text", "yes-no", "choice", "json"]

#: A field left empty: the parameter is not given, so that its default holds.
LEFT_OUT: Any = object()

MAX_CHARS = 4_000
_KIND_OF_TYPE: dict[str, Kind] = {
    "integer": "whole",
    "number": "number",
    "string": "text",
    "boolean": "yes-no",
}
_KIND_WORDS: dict[Kind, Any] = {
    "whole": _("whole number"),
    "number": _("number"),
    "decimal": _("decimal number"),
    "text": _("text"),
    "yes-no": _("yes or no"),
    "choice": "",
    "json": "JSON",
}
#: Keyword of a JSON schema → how the help text of a field states it.
_BOUNDS: dict[str, Any] = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": _("at least {} characters"),
    "maxLength": _("at most {} characters"),
    "minItems": _("at least {} entries"),
    "maxItems": _("at most {} entries"),
}


class ValueField(forms.CharField):
    """One value, typed as text or chosen. `clean` returns LEFT_OUT for an empty one."""

    def __init__(
        self,
        kind: Kind,
        *,
        label: Any,
        help_text: Any = "",
        default: Any = "",
        choices: tuple[Any, ...] = (),
    ) -> None:
        self.kind, self.default = kind, default
        self.choices = (True, False) if kind == "yes-no" else choices
        super().__init__(
            required=False,
            strip=kind != "text",
            max_length=MAX_CHARS,
            label=label,
            help_text=help_text,
            widget=self._widget(),
        )

    def _widget(self) -> forms.Widget:
        if self.choices:
            empty = _("default: {}").format(self.default) if self.default else _("choose…")
            shown = [(as_text(self.kind, each), _choice_word(each)) for each in self.choices]
            return forms.Select(choices=[("", empty), *shown])
        attributes = {"autocomplete": "off", "spellcheck": "false", "placeholder": self.default}
        if self.kind in ("whole", "number", "decimal"):
            attributes["inputmode"] = "numeric" if self.kind == "whole" else "decimal"
        return forms.TextInput(attrs=attributes)

    def clean(self, value: Any) -> Any:
        """Return the value, LEFT_OUT, or the text itself if it is not a value of the kind.

        Raise ValidationError for an unprintable character.
        """
        text = super().clean(value)
        if found := unprintable_in(text):
            raise forms.ValidationError(unprintable_sentence(found))
        if text == "":
            return LEFT_OUT
        return self._parse(text)

    def _parse(self, text: str) -> Any:
        """Return the choice or the JSON value that the text stands for, else the text itself."""
        for choice in self.choices:
            if text == as_text(self.kind, choice):
                return choice
        if self.kind in ("text", "decimal"):
            return text  # a decimal is kept as its text, since JSON rounds
        try:
            value = read_json(text)
        except ValueError:
            return text
        if isinstance(value, float) and not math.isfinite(value):
            return text
        return value


def unprintable_sentence(found: str) -> str:
    """Return the error of a field that holds an unprintable character."""
    text = _("contains the character U+{}, a control or bidirectional character: remove it")
    return text.format(f"{ord(found):04X}")


def _choice_word(choice: Any) -> str:
    if isinstance(choice, bool):
        return str(_("yes")) if choice else str(_("no"))
    return value_text(choice)


def as_text(kind: Kind, value: Any) -> str:
    """Return a value as its field shows it: as JSON, but a text without its quotes.

    In a JSON field a text has its quotes, unless it is empty. LEFT_OUT is shown as nothing.
    """
    if value is LEFT_OUT:
        return ""
    return json.dumps(value, ensure_ascii=False) if kind == "json" and value else value_text(value)


def parameter_fields(schema: Mapping[str, Any]) -> dict[str, ValueField]:
    """Return a field for each parameter of a strategy, by name, in the order of the schema.

    Secrets are left out: a configuration may not hold one.
    """
    return {
        str(name): _parameter_field(schema, str(name), part)
        for name, part in properties(schema).items()
        if isinstance(part, Mapping) and resolve(schema, part).get("format") != "secret"
    }


def _parameter_field(schema: Mapping[str, Any], name: str, part: Mapping[str, Any]) -> ValueField:
    """Return the field of one parameter. Its schema `part` goes before what its `$ref` says."""
    whole = {**resolve(schema, part), **{k: v for k, v in part.items() if k != "$ref"}}
    kind, bounded = _kind_of(schema, whole)
    required = is_required(schema, name)
    described = str(whole.get("description") or bounded.get("description") or "")
    bounds = [text.format(bounded[key]) for key, text in _BOUNDS.items() if key in bounded]
    words = [
        described.strip().rstrip("."),
        str(_(", ")).join(filter(None, [str(_KIND_WORDS[kind]), *bounds])),
        str(_("required")) if required else "",
    ]
    default = "" if required else whole.get("default", "")
    if default is None:
        shown_default = str(_("none"))
    elif isinstance(default, bool):
        shown_default = _choice_word(default)
    else:
        shown_default = as_text(kind, default)
    return ValueField(
        kind,
        label=str(part.get("title") or name),  # that of a $ref is the name of a class
        help_text="; ".join(filter(None, words)),
        default=shown_default,
        choices=tuple(bounded.get("enum", ())) if kind == "choice" else (),
    )


def _kind_of(schema: Mapping[str, Any], part: Mapping[str, Any]) -> tuple[Kind, Mapping[str, Any]]:
    """Return the kind of a parameter, and the part of its schema with the bounds.

    A choice between a type and null is of that type: the field is left empty for null, which is
    nearly always the default.
    """
    if "anyOf" in part and isinstance(part["anyOf"], list):
        others = [
            resolve(schema, each)
            for each in part["anyOf"]
            if isinstance(each, Mapping) and each.get("type") != "null"
        ]
        return _kind_of(schema, others[0]) if len(others) == 1 else ("json", part)
    if isinstance(part.get("enum"), list):
        return "choice", part
    if part.get("format") == "decimal":
        return "decimal", part
    return _KIND_OF_TYPE.get(str(part.get("type")), "json"), part
