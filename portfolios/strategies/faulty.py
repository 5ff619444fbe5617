"""Strategies that fail on purpose, for tests of what happens then.

They exist only where GINKGO_STRATEGIES names this module.
"""

from __future__ import annotations

import os
import time
from typing import Annotated, Any

import msgspec

from portfolios.runtime.events import Event
from portfolios.strategies.base import Context, Strategy


class AtEvent(msgspec.Struct, frozen=True):
    """At which of its events the strategy does it, counted from 1."""

    at_event: Annotated[int, msgspec.Meta(ge=1)] = 1


class Pace(msgspec.Struct, frozen=True):
    """How long each event takes."""

    seconds: Annotated[float, msgspec.Meta(ge=0)] = 1.0


class RaiseOnLoad(Strategy):
    """Cannot be loaded."""

    name = "raise_on_load"

    def __init__(self, parameters: Any) -> None:
        raise RuntimeError("this strategy cannot be loaded")


class CountsEvents(Strategy):
    """Base of those that wait for their n-th event."""

    parameters_type = AtEvent

    def initial(self) -> dict[str, Any]:
        return {"events": 0}

    def on_event(self, ctx: Context, state: dict[str, Any], event: Event) -> None:
        state["events"] += 1
        if state["events"] >= self.parameters.at_event:
            self.fail(event)

    def fail(self, event: Event) -> None:
        """Do what the strategy is for."""
        raise NotImplementedError


class RaiseAt(CountsEvents):
    """Raises at its n-th event and at each after it."""

    name = "raise_at"

    def fail(self, event: Event) -> None:
        raise KeyError(event.symbol)


class Looper(CountsEvents):
    """Never comes back from its n-th event."""

    name = "looper"

    def fail(self, event: Event) -> None:
        while True:
            pass


class Exiter(CountsEvents):
    """Ends its process at its n-th event."""

    name = "exiter"

    def fail(self, event: Event) -> None:
        os._exit(3)


class Sleeper(Strategy):
    """Takes `seconds` for each event."""

    name = "sleeper"
    parameters_type = Pace

    def on_event(self, ctx: Context, state: dict[str, Any], event: Event) -> None:
        time.sleep(self.parameters.seconds)
