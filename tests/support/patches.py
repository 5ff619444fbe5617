"""Functions in place of the product's: they fail, note their calls, or let something follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from scheduling.passes import balance


def raising(error: BaseException | type[BaseException]) -> Callable[..., Any]:
    """Return a function that raises this error, whatever it is given."""

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def note_calls(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[tuple[Any, ...]]:
    """Return a list to which each call of this function adds what it is given."""
    noted: list[tuple[Any, ...]] = []
    honest = getattr(owner, name)

    def noting(*given: Any, **named: Any) -> Any:
        noted.append(given)
        return honest(*given, **named)

    monkeypatch.setattr(owner, name, noting)
    return noted


def follow(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[[], Any]) -> None:
    """Let `act` follow each call of this function, before its outcome is used."""
    honest = getattr(owner, name)

    def followed(*given: Any, **named: Any) -> Any:
        outcome = honest(*given, **named)
        act()
        return outcome

    monkeypatch.setattr(owner, name, followed)


def once_planned(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], Any]) -> None:
    """Call `meanwhile` between the plan and its enactment."""
    follow(monkeypatch, balance, "make_plan", meanwhile)
