"""One operator action, as all interfaces show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext


@dataclass(frozen=True, slots=True)
class Operation:
    """One operator action. `{name}` in its texts stands for the node, portfolio, halt or user."""

    verb: str  #: in addresses and forms: "drain"
    title: str  #: an imperative; with a question mark behind it, the heading of a dialog
    consequence: str  #: what happens, in one to three sentences
    call: Callable[..., Any]  #: (name, actor=…, …); without a name if it concerns the whole fleet
    done: str = ""  #: the outcome, in a sentence; empty where it depends on the result of `call`
    command: str = ""  #: the same action on the command line, after "manage.py"
    asks_reason: bool = True
    danger: bool = False  #: takes portfolios out of the market, or cannot be undone
    repeatable: bool = True  #: a second call right after the first changes nothing, or is refused
    options: tuple[
        tuple[str, str], ...
    ] = ()  #: (keyword of `call`, label) of each yes-or-no option

    def summary(self, noun: str | int = "") -> str:
        """Return the title for `noun` in the active language: `Drain node-2`."""
        return gettext(self.title).format(name=noun).strip()

    def outcome(self, name: str | int | None) -> str:
        """Return the sentence that confirms the action, in the active language."""
        return gettext(self.done).format(name=name)

    def help(self, noun: str = "") -> str:
        """Return summary and consequence, for the help of a command."""
        return f"{self.summary(noun)}. {self.consequence}"
