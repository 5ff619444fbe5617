"""Registry of strategies: built-ins, entry points, and modules named by GINKGO_STRATEGIES.

Entry points are in the group `ginkgo.strategies` and name a class. GINKGO_STRATEGIES is a
comma-separated list of dotted module names; every strategy class defined in such a module is
registered. Built-ins take precedence and are found without importing any of these, so that a
broken one can neither shadow nor block them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType

from portfolios.sentences import sentence as _
from portfolios.strategies.base import Strategy
from portfolios.strategies.buy_and_hold import BuyAndHold
from portfolios.strategies.canary import Canary
from portfolios.strategies.mean_reversion import MeanReversion
from portfolios.strategies.sma_cross import SmaCross
from portfolios.strategies.sources import ENTRY_POINT_GROUP, MODULES_VARIABLE, configured_modules

BUILT_IN: dict[str, type[Strategy]] = {
    strategy.name: strategy for strategy in (BuyAndHold, Canary, MeanReversion, SmaCross)
}


#: Classes that `under_test` makes known, by name.
_under_test: dict[str, type[Strategy]] = {}


class UnknownStrategy(LookupError):
    """No strategy has that name. The text names those that exist, and modules that did not load."""


def get(name: str) -> type[Strategy]:
    """Return the strategy class of that name. Raise UnknownStrategy if there is none."""
    found = _under_test.get(name) or BUILT_IN.get(name)
    if found is None:
        strategies, broken = _load_all()
        found = strategies.get(name)
        if found is None:
            message = _(
                "unknown strategy {name!r}; there are: {names}", name=name, names=sorted(strategies)
            )
            for problem in broken:
                message = _("{known}; {problem}", known=message, problem=problem)
            raise UnknownStrategy(message)
    return found


@contextmanager
def under_test(strategy: type[Strategy]) -> Iterator[None]:
    """Let `get` find a class that is installed nowhere, within the block: for tests."""
    _under_test[strategy.name] = strategy
    try:
        yield
    finally:
        del _under_test[strategy.name]


def versions() -> dict[str, int]:
    """Return name → version of all loadable strategies, sorted by name.

    Imports the modules of entry points and of GINKGO_STRATEGIES.
    """
    return {name: strategy.version for name, strategy in sorted(_load_all()[0].items())}


def problems() -> list[str]:
    """Return a sentence for each entry point, and module in GINKGO_STRATEGIES, that cannot load."""
    return _load_all()[1]


def _load_all() -> tuple[dict[str, type[Strategy]], list[str]]:
    """Return the loadable strategies by name, and a sentence for each that is not loadable."""
    found: dict[str, type[Strategy]] = {}
    broken: list[str] = []
    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            loaded = point.load()
            found[loaded.name] = loaded
        except (Exception, SystemExit) as error:  # foreign code may raise anything on import
            broken.append(f"entry point {point.name} ({point.value}) did not load: {error!r}")
    for module_name in configured_modules():
        try:
            module = import_module(module_name)
        except (Exception, SystemExit) as error:
            broken.append(f"{MODULES_VARIABLE} names {module_name}, which did not load: {error!r}")
        else:
            found.update((strategy.name, strategy) for strategy in _defined_in(module))
    return found | BUILT_IN, broken


def _defined_in(module: ModuleType) -> Iterator[type[Strategy]]:
    """Yield the strategies that a module defines. A base class without a name is skipped."""
    for value in vars(module).values():
        own = isinstance(value, type) and value.__module__ == module.__name__
        if own and issubclass(value, Strategy) and hasattr(value, "name"):
            yield value
