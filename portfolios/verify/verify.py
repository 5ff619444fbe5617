"""The comparison: the uninterrupted run beside what is stored, window by window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from portfolios.runtime.python_version import PYTHON
from portfolios.strategies import registry
from portfolios.verify.compare import Comparison
from portfolios.verify.process import Ask
from portfolios.verify.states import compare_states, digest, processed_by, uncounted
from portfolios.verify.uninterrupted import Disagrees, UninterruptedRun
from portfolios.verify.values import (
    CannotVerify,
    Compared,
    Counts,
    Difference,
    Recorded,
    StoredRows,
)

#: Events of the log whose rows are held at once: memory stays the same over a year of them.
WINDOW = 20_000


class Rows(Protocol):
    """Where stored rows are read from."""

    def rows(self, from_seq: int, to_seq: int) -> StoredRows:
        """Return what is stored of (from_seq, to_seq]."""
        ...


def verify(
    recorded: Recorded, stored: Rows, ask: Ask, told: Callable[[int], None] = lambda seq: None
) -> Compared:
    """Return whether what is stored equals the uninterrupted run, up to the first difference.

    `told` hears how far it is. Raise CannotVerify where a strategy's version is gone, and where a
    difference may come from another Python version that computed the record.
    """
    _refuse_missing_versions(recorded)
    counts = Counts()
    processed = processed_by(recorded.state)
    since = None if processed is None else processed.since
    run, comparison = UninterruptedRun(recorded, ask, told, since), Comparison(recorded, counts)
    difference: Difference | None = None
    while difference is None and run.seq < recorded.to_seq:
        from_seq = run.seq
        to_seq = min(from_seq + WINDOW, recorded.to_seq)
        try:
            wanted = run.advance(to_seq)
        except Disagrees as disagrees:
            difference = disagrees.difference
            break
        difference = comparison.compare(wanted, stored.rows(from_seq, to_seq))
    counts.events = run.events
    state_digest: str | None = None
    if difference is None:
        difference, state_digest = _at_the_end(recorded, run, comparison)
    if difference is not None:
        _refuse_another_python(recorded, difference)
    return Compared(difference, counts, recorded.first_seq, run.seq, state_digest, processed)


def _at_the_end(
    recorded: Recorded, run: UninterruptedRun, comparison: Comparison
) -> tuple[Difference | None, str | None]:
    try:
        run.advance(recorded.to_seq)  # where no event was committed, what was loaded
    except Disagrees as disagrees:
        return disagrees.difference, None
    difference = comparison.end()
    if difference is not None or recorded.state is None:
        return difference, None
    assert run.state is not None  # every load is followed by a batch that answers with it
    state = run.state
    if processed_by(recorded.state) is None:  # made by a version that did not count
        state = uncounted(state)
    return compare_states(recorded, state), digest(state)


def _refuse_another_python(recorded: Recorded, difference: Difference) -> None:
    """Another Python version may round differently: what differs from there on proves nothing."""
    for stretch in recorded.stretches:
        if stretch.python not in ("", PYTHON) and stretch.first_seq <= difference.seq:
            name = stretch.spec.portfolio
            raise CannotVerify(
                f"{name} cannot be verified here: {stretch.where}, ran under"
                f" Python {stretch.python}, and this is Python {PYTHON}, under which it differs at"
                f" seq {difference.seq}; verify it with Python {stretch.python}."
            )


def _refuse_missing_versions(recorded: Recorded) -> None:
    for stretch in recorded.stretches:
        spec = stretch.spec
        try:
            here = registry.get(spec.strategy).version
        except registry.UnknownStrategy:
            raise CannotVerify(
                f"{spec.portfolio} cannot be verified: its r{spec.revision} ran {spec.strategy},"
                " which is not installed here; install it again."
            ) from None
        if here != spec.strategy_version:
            raise CannotVerify(
                f"{spec.portfolio} cannot be verified: its r{spec.revision} ran version"
                f" {spec.strategy_version} of {spec.strategy}, and version {here} is installed"
                f" here; verify it where version {spec.strategy_version} is."
            )
