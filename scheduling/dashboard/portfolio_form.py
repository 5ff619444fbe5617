"""The form of a portfolio, built from the schema of its strategy.

The names of its fields are those that `scheduling.operations` gives to errors: `config.fast`,
`limits.broker.fee_bps`. So each error is shown beside its field.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django import forms
from django.forms.utils import ErrorDict
from django.utils.translation import gettext_lazy as _

from portfolios.models import CatchUp, DesiredState
from portfolios.text import unprintable_in
from portfolios.validation import (
    BROKER_AMOUNTS,
    BROKER_COUNTS,
    LIMIT_COUNTS,
    LIMIT_FLAGS,
    LIMIT_QUANTITIES,
)
from scheduling.dashboard.forms import JSONText, OperationForm
from scheduling.dashboard.value_fields import (
    LEFT_OUT,
    Kind,
    ValueField,
    as_text,
    parameter_fields,
    unprintable_sentence,
)
from scheduling.operations.edits import PLACEMENT
from scheduling.presentation.strategy_list import StrategyLine

CONFIG, LIMITS, BROKER = "config.", "limits.", "limits.broker."
SYMBOLS_HELP = _("separated by spaces; * for every symbol of the feed")

#: Limit → (label, help text, the default that its empty field shows).
LIMIT_WORDS = {
    "largest_order": (_("Largest order"), _("quantity"), _("none")),
    "largest_position": (
        _("Largest position"),
        _("of one symbol, open orders included"),
        _("none"),
    ),
    "largest_notional": (_("Largest value"), _("of one order: quantity × price"), _("none")),
    "largest_drawdown_pct": (
        _("Largest drawdown, %"),
        _("below its peak; it then halts"),
        _("none"),
    ),
    "orders_per_minute": (_("Orders per minute"), _("of feed time"), _("none")),
    "allow_short": (_("Short positions"), _("sell more than it holds"), _("no")),
    "allow_negative_cash": (_("Negative cash"), _("buy for more than it has"), _("no")),
    "fee_per_order": (_("Fee per order"), _("amount"), "0"),
    "fee_per_share": (_("Fee per share"), _("amount"), "0"),
    "fee_bps": (_("Fee, bps"), _("of the value"), "0"),
    "slippage_bps": (_("Slippage, bps"), _("of the price of market and stop orders"), "0"),
    "tick_size": (_("Tick size"), _("the step of a price"), "0.01"),
    "slippage_ticks": (_("Slippage, ticks"), _("in addition"), "0"),
}


@dataclass(frozen=True, slots=True)
class FormValues:
    """What the form shows first: the values of an existing portfolio, or those of a new one."""

    name: str = ""
    strategy: str = ""
    artifact: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    symbols: list[str] = field(default_factory=list)
    limits: dict[str, Any] = field(default_factory=dict)
    feed: str = ""
    weight: int = 1
    priority: int = 0
    selector: dict[str, str] = field(default_factory=dict)
    spread_group: str = ""
    spread_hard: bool = False
    catch_up: str = CatchUp.STATE_ONLY.value
    starting_cash: str = "100000"
    pinned_node: str = ""
    note: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Any], **others: Any) -> FormValues:
        """Return what a form shows first: `values` without those that are None, and `others`."""
        known = {name: values[name] for name in cls.__slots__ if values.get(name) is not None}
        return cls(**{**known, **others})


class Choices(NamedTuple):
    """The options that the form offers, read from the fleet of this moment."""

    strategies: Sequence[StrategyLine]
    feeds: Sequence[str]  #: names; the first is that of the installation
    symbols: Sequence[str]  #: of the chosen feed
    nodes: Sequence[str]
    labels: Sequence[str]  #: of nodes, as `gpu=yes`
    spread_groups: Sequence[str]


@dataclass(frozen=True, slots=True)
class Group:
    """Fields under one heading."""

    key: str
    title: Any  #: translated when it is shown
    hint: Any
    fields: list[forms.BoundField]
    is_open: bool

    @property
    def is_single(self) -> bool:
        """Return whether its title names its only field, which takes the whole width."""
        return self.key == "symbols"


class PortfolioForm(OperationForm):
    """The fields of a portfolio for its `chosen` strategy, which is None until one is chosen."""

    def __init__(
        self, data: Any, values: FormValues, choices: Choices, *, is_new: bool = True
    ) -> None:
        self.values, self.choices, self.is_new = values, choices, is_new
        wanted = (data or {}).get("strategy") or strategy_key(values.strategy, values.artifact)
        self.chosen = next(
            (one for one in choices.strategies if strategy_key(one.name, one.artifact) == wanted),
            None,
        )
        super().__init__(data, label_suffix="")
        self._add_fields()
        self.initial = self._initial()

    def _add_fields(self) -> None:
        if self.is_new:
            self.fields["name"] = forms.CharField(
                required=False,
                max_length=200,
                label=_("Name"),
                help_text=_("small letters, digits, inner hyphens"),
                widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
            )
        self.fields["strategy"] = forms.ChoiceField(
            choices=[("", _("choose…")), *_strategy_choices(self.choices.strategies)],
            required=False,
            label=_("Strategy"),
            help_text=_("of the release, or of an uploaded artifact"),
            widget=forms.Select(attrs={"data-rebuild": ""}),
        )
        if self.is_new:
            self.fields["feed"] = forms.ChoiceField(
                choices=[(name, name) for name in self.choices.feeds],
                required=False,
                label=_("Feed"),
                widget=forms.Select(attrs={"data-rebuild": ""}),
            )
            self.fields["starting_cash"] = PlainTextField(
                _("Starting cash"), _("fixed from then on"), 40
            )
            self.fields["desired_state"] = forms.ChoiceField(
                choices=[("running", _("at once")), ("stopped", _("later, by an operator"))],
                label=_("Start"),
                required=False,
            )
        self._add_value_fields()
        self.fields["weight"] = forms.IntegerField(
            label=_("Weight"), help_text=_("places on its node")
        )
        self.fields["priority"] = forms.IntegerField(
            label=_("Priority"), help_text=_("higher is placed first")
        )
        if self.is_new:
            self.fields["pinned_node"] = forms.ChoiceField(
                choices=[("", _("the balancer chooses")), *((n, n) for n in self.choices.nodes)],
                required=False,
                label=_("Node"),
                help_text=_("a chosen node keeps the portfolio until it is unpinned"),
            )
        self.fields["selector"] = SelectorField(self.values.selector)
        self.fields["spread_group"] = PlainTextField(
            _("Spread group"), _("members go to different nodes"), 80, list="groups"
        )
        self.fields["spread_hard"] = forms.BooleanField(
            required=False, label=_("Never two of the group on one node")
        )
        self.fields["catch_up"] = forms.ChoiceField(
            choices=[
                ("state_only", _("state_only: update the state, order nothing")),
                ("full", _("full: order on each of them")),
                ("halt", _("halt: stop before the first of them")),
            ],
            label=_("Stale events"),
            help_text=_("after an outage"),
        )
        self.fields["note"] = PlainTextField(_("Note"), _("kept with the revision"), 200)

    def _add_value_fields(self) -> None:
        """Add the fields of parameters, symbols and limits."""
        if self.chosen is not None and self.chosen.schema is not None:
            for name, one in parameter_fields(self.chosen.schema).items():
                self.fields[CONFIG + name] = one
        elif self.chosen is not None:
            self.fields["config"] = JSONText(
                label=_("Parameters"),
                help_text=_("as JSON: only the nodes know which parameters this strategy takes"),
            )
        if self.chosen is None or not self.chosen.sees_every_symbol:
            self.fields["symbols"] = SymbolsField()
        for name in (*LIMIT_QUANTITIES, *LIMIT_COUNTS, *LIMIT_FLAGS):
            self.fields[LIMITS + name] = _limit_field(name)
        for name in (*BROKER_AMOUNTS, *BROKER_COUNTS):
            self.fields[BROKER + name] = _limit_field(name)

    def _initial(self) -> dict[str, Any]:
        """Return what each field shows first."""
        values = self.values
        shown = {
            name: getattr(values, name) for name in FormValues.__slots__ if name in self.fields
        }
        shown["strategy"] = strategy_key(values.strategy, values.artifact)
        shown["symbols"] = " ".join(values.symbols)
        shown["selector"] = selector_text(values.selector)
        broker = values.limits.get("broker")
        for prefix, given in (
            (CONFIG, values.config),
            (LIMITS, values.limits),
            (BROKER, broker if isinstance(broker, Mapping) else {}),
        ):
            for name, value in given.items():
                found = self.fields.get(prefix + name)
                if isinstance(found, ValueField):
                    shown[prefix + name] = as_text(found.kind, value)
        return shown

    @property
    def artifact(self) -> str | None:
        """Return the hash of the chosen artifact, or None for a strategy of the release."""
        return self.chosen.artifact if self.chosen else None

    def configuration(self) -> dict[str, Any]:
        """Return strategy, artifact, config, symbols and limits of a form that was checked.

        A field whose text was not changed keeps its value, even one that text cannot express.
        """
        config = self.cleaned_data.get("config")
        if config is None:
            config = self._values(CONFIG, self.values.config)
        limits_before = dict(self.values.limits)
        broker_before = limits_before.pop("broker", None)
        limits = self._values(LIMITS, limits_before)
        broker = self._values(BROKER, broker_before if isinstance(broker_before, Mapping) else {})
        if broker or broker_before is not None:
            limits["broker"] = broker
        return {
            "strategy": self.chosen.name if self.chosen else "",
            "artifact": self.artifact,
            "config": config,
            "symbols": self.cleaned_data.get("symbols", []),
            "limits": limits,
        }

    def _values(self, prefix: str, before: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the fields with this prefix, by their names without the prefix.

        A field whose text was not changed keeps its value in `before`.
        """
        found: dict[str, Any] = {}
        for name, shown_field in self.fields.items():
            short = name.removeprefix(prefix)
            if not name.startswith(prefix) or (prefix == LIMITS and name.startswith(BROKER)):
                continue  # BROKER begins with LIMITS, but another call reads its fields
            assert isinstance(shown_field, ValueField)
            value = self.cleaned_data.get(name, LEFT_OUT)
            if short in before and self.data.get(name, "") == as_text(
                shown_field.kind, before[short]
            ):
                value = before[short]
            if value is not LEFT_OUT:
                found[short] = value
        return found

    def placement(self) -> dict[str, Any]:
        """Return the fields that an edit changes without a new revision."""
        return {name: self.cleaned_data[name] for name in PLACEMENT}

    def new_portfolio(self) -> dict[str, Any]:
        """Return the fields of NewPortfolio, of a form that was checked."""
        cleaned = self.cleaned_data
        feed = cleaned["feed"]
        return {
            **self.configuration(),
            **self.placement(),
            "name": cleaned["name"],
            "feed": "" if feed == self.choices.feeds[0] else feed,  # "": that of the installation
            "starting_cash": cleaned["starting_cash"],
            "desired_state": cleaned["desired_state"] or DesiredState.RUNNING.value,
            "pinned_node": cleaned["pinned_node"],
            "note": cleaned["note"],
        }

    def add_field_errors(self, errors: list[dict[str, str]]) -> None:
        """Show errors of the artifact beside the strategy, which is chosen with it."""
        super().add_field_errors(
            [{**e, "field": "strategy"} if e.get("field") == "artifact" else e for e in errors]
        )

    def hide_errors(self) -> None:
        """Show what was typed, unchecked: only another strategy or feed was chosen."""
        self._errors = ErrorDict()

    def clean(self) -> None:
        """Require a strategy: without one there is nothing to check."""
        if self.chosen is None and "strategy" not in self.errors:
            self.add_error("strategy", _("Choose the strategy that the portfolio runs."))

    @property
    def typed_for_others(self) -> list[tuple[str, str]]:
        """Return (field, text) typed for other strategies, in case one of them is chosen again."""
        names = sorted(
            name for name in self.data if name.startswith(CONFIG) and name not in self.fields
        )
        return [(name, self.data[name]) for name in names[:MAX_TYPED_FOR_OTHERS]]

    @property
    def groups(self) -> list[Group]:
        """Return the fields under their headings, in the order of the page."""
        heads = ("name", "strategy", "feed", "starting_cash", "desired_state", "note")
        limits = [n for n in self.fields if n.startswith(LIMITS) and not n.startswith(BROKER)]
        broker = [n for n in self.fields if n.startswith(BROKER)]
        config = [n for n in self.fields if n.startswith(CONFIG) or n == "config"]
        placing = ("weight", "priority", "pinned_node", "selector", "spread_group", "spread_hard")
        about = (
            self.chosen.summary.replace("`", "") if self.chosen else _("Choose a strategy first.")
        )
        summary = f"{about} {_('An empty field has the default, in grey.')}" if config else about
        return [
            self._group("portfolio", _("Portfolio"), "", heads),
            self._group("parameters", _("Parameters"), summary, config),
            self._group("symbols", _("Symbols"), SYMBOLS_HELP, ("symbols",)),
            self._group("limits", _("Limits"), _("an order beyond one is refused"), limits),
            self._group("broker", _("Costs"), _("of the paper broker"), broker, folds=True),
            self._group("placement", _("Placement"), "", (*placing, "catch_up")),
        ]

    def _group(
        self, key: str, title: Any, hint: Any, names: Iterable[str], *, folds: bool = False
    ) -> Group:
        """Return a group of those `names` that the form has; with `folds` closed while unused."""
        found = [self[name] for name in names if name in self.fields]
        used = any(one.value() not in (None, "") or one.errors for one in found)
        return Group(key, title, hint, found, used or not folds)


MAX_TYPED_FOR_OTHERS = 200  #: fields of other strategies that the form carries along


class SelectorField(forms.CharField):
    """The labels that a node must have, as text: `gpu=yes, zone=b`. `before`: shown first."""

    def __init__(self, before: Mapping[str, str]) -> None:
        self.before = before
        super().__init__(
            required=False,
            max_length=2_000,
            label=_("Needs labels"),
            help_text=_("of its node, such as gpu=yes, zone=b"),
            widget=forms.TextInput(attrs={"autocomplete": "off", "list": "labels"}),
        )

    def clean(self, value: Any) -> dict[str, str]:
        """Return name → value. Raise ValidationError for a missing part or a repeated name.

        A text that was not changed keeps its labels, even those that text cannot express.
        """
        given = super().clean(value)
        if given == selector_text(self.before):
            return dict(self.before)
        labels: dict[str, str] = {}
        for part in filter(None, (each.strip() for each in given.split(","))):
            name, equals, text = (each.strip() for each in part.partition("="))
            if not (equals and name and text):
                raise forms.ValidationError(
                    _("“{}” is not a label: write NAME=VALUE, with commas between labels.").format(
                        part
                    )
                )
            if name in labels:
                repeated = _("{} is given twice; a node has one value of it.")
                raise forms.ValidationError(repeated.format(name))
            labels[name] = text
        return labels


def selector_text(selector: Mapping[str, str]) -> str:
    """Return the labels that a node must have as SelectorField shows them."""
    return ", ".join(f"{name}={value}" for name, value in selector.items())


class SymbolsField(forms.CharField):
    """Symbols separated by spaces or commas; a script makes a picker of it."""

    def __init__(self) -> None:
        super().__init__(
            required=False,
            max_length=100_000,
            label=_("Symbols"),
            widget=forms.TextInput(
                attrs={
                    "autocomplete": "off",
                    "spellcheck": "false",
                    "data-symbols": "symbol-list",
                    "data-add": _("Add one of {}"),
                }
            ),
        )

    def clean(self, value: Any) -> list[str]:
        """Return the distinct symbols in the order given."""
        return list(dict.fromkeys(super().clean(value).replace(",", " ").split()))


class PlainTextField(forms.CharField):
    """A text on one line. A control character is an error beside the field."""

    def __init__(self, label: Any, help_text: Any, longest: int, **attributes: str) -> None:
        widget = forms.TextInput(attrs={"autocomplete": "off", **attributes})
        super().__init__(
            required=False, max_length=longest, label=label, help_text=help_text, widget=widget
        )

    def clean(self, value: Any) -> str:
        text: str = super().clean(value)
        if found := unprintable_in(text):
            raise forms.ValidationError(unprintable_sentence(found))
        return text


def _limit_field(name: str) -> ValueField:
    label, help_text, default = LIMIT_WORDS[name]
    kind: Kind = "whole" if name in (*LIMIT_COUNTS, *BROKER_COUNTS) else "decimal"
    if name in LIMIT_FLAGS:
        kind = "yes-no"
    return ValueField(kind, label=label, help_text=help_text, default=default)


def strategy_key(name: str, artifact: str | None) -> str:
    """Return the value of the strategy's option in the form: its name, and its artifact's hash."""
    return f"{name}@{artifact}" if artifact else name


def _strategy_choices(lines: Sequence[StrategyLine]) -> Iterator[tuple[str, Any]]:
    """Yield (title, options) of the groups of the list: that of the release first, others by title.

    An option is (key, name) of a strategy.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    first = str(_("of the release"))
    for line in lines:
        if line.origin == "artifact":
            title = f"{line.artifact_name} {line.artifact_version}"
        else:
            title = first if line.origin == "release" else str(_("installed on nodes"))
        groups.setdefault(title, []).append((strategy_key(line.name, line.artifact), line.name))
    for title in sorted(groups, key=lambda one: (one != first, one)):
        yield title, groups[title]
