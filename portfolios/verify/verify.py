"""The verification: run the reference run and compare it with the stored rows, by windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from portfolios.runtime.python_version import PYTHON_VERSION
from portfolios.runtime.state import decode_state
from portfolios.sentences import sentence as _
from portfolios.strategies import registry
from portfolios.strategy_inspection import CheckFailed, facts
from portfolios.verify.compare import Comparison
from portfolios.verify.compare_state import (
    compare_states,
    figures_since,
    processed_events,
    state_digest,
    without_event_count,
    without_figures,
)
from portfolios.verify.reference_run import ReferenceRun, ReplayDiverged
from portfolios.verify.replay_process import Ask
from portfolios.verify.types import (
    Anchor,
    CannotVerify,
    Counts,
    Difference,
    OrderOutcome,
    RecordedRun,
    StoredRows,
    TenureSegment,
    VerificationResult,
)

#: Events whose rows are in memory at once: memory use does not grow with the length of the log.
WINDOW = 20_000


class StoredRowsSource(Protocol):
    """Reads the stored rows of the portfolio that is verified."""

    def rows(self, from_seq: int, to_seq: int) -> StoredRows:
        """Return the stored rows of (from_seq, to_seq]."""

    def outcomes(self, orders: Sequence[tuple[int, int]]) -> Mapping[tuple[int, int], OrderOutcome]:
        """Return the outcomes of these orders by (seq, index), as far as they are stored."""


def verify(
    recorded: RecordedRun,
    stored: StoredRowsSource,
    ask: Ask,
    on_progress: Callable[[int], None] = lambda seq: None,
    start: Anchor | None = None,
    time_is_up: Callable[[], bool] = lambda: False,
    *,
    go_on: bool = False,
) -> VerificationResult:
    """Compare the stored rows with the reference run, up to the first difference.

    With `start`, the run continues from there, and earlier rows are not read. When `time_is_up`,
    the comparison ends after the current window: the state is then not compared, and the next
    verification continues from the anchor. With `go_on`, the reference run continues to the end
    after a difference; only the first is returned. `on_progress` is called with the newest seq
    compared.

    Raise CannotVerify if a strategy's version is not installed, or if a difference may be caused by
    another Python version that computed the record.
    """
    _refuse_missing_versions(recorded, start)
    return _Verification(recorded, stored, ask, on_progress, start).outcome(time_is_up, go_on)


class _Verification:
    """One verification in progress."""

    def __init__(
        self,
        recorded: RecordedRun,
        stored: StoredRowsSource,
        ask: Ask,
        on_progress: Callable[[int], None],
        start: Anchor | None,
    ) -> None:
        self._recorded, self._stored, self._start = recorded, stored, start
        self._processed = processed_events(recorded.state)
        since = None if self._processed is None else self._processed.since
        self._counts = Counts() if start is None else replace(start.counts)
        figures = figures_since(recorded.state)
        # Whether an older Ginkgo, which kept no figures, made the anchor, and the recorded figures
        # begin before it: this run starts too late to compute them.
        self._ignores_figures = start is not None and (
            figures is not None and figures <= start.seq and figures_since(start.state) != figures
        )
        self._run = ReferenceRun(recorded, ask, on_progress, since, figures, start)
        self._first = self._run.seq + 1
        waiting = {} if start is None else stored.outcomes(start.open_orders)
        refusals = {} if start is None else decode_state(start.state).account.refusals
        self._comparison = Comparison(recorded, self._counts, waiting, since, refusals)

    def outcome(self, time_is_up: Callable[[], bool], go_on: bool) -> VerificationResult:
        """Compare window by window, then the end; return the result."""
        difference = self._missing_order()
        state_digest: str | None = None
        while difference is None and self._run.seq < self._recorded.to_seq:
            if self._run.seq >= self._first and time_is_up():  # one window at least
                break
            difference = self._compare_window()
        complete = difference is None and self._run.seq == self._recorded.to_seq
        if complete:
            difference, state_digest = self._compare_end()
        if difference is not None:
            if go_on and difference.kind != "replay":
                self._run_to_the_end()
            _refuse_another_python(self._recorded, self._start, difference)
        self._counts.events += self._run.events
        return VerificationResult(
            difference, self._counts, self._recorded.first_seq, self._run.seq, state_digest,
            self._processed if complete else None, self._first, self._run.events,
            None if difference is not None else self._anchor(),
        )  # fmt: skip

    def _run_to_the_end(self) -> None:
        """Continue the reference run up to its last event, or until it fails."""
        try:
            while self._run.seq < self._recorded.to_seq:
                self._run.advance(min(self._run.seq + WINDOW, self._recorded.to_seq))
        except ReplayDiverged:
            pass  # the first difference is returned

    def _missing_order(self) -> Difference | None:
        """Return the first order that was open at the start and is neither stored nor archived."""
        expected = () if self._start is None else self._start.open_orders
        for seq, index in expected:
            if (seq, index) in self._comparison.open_orders:
                continue
            if self._recorded.archived.has("orders", seq):  # it ended, and was archived
                self._counts.rows_dropped += 1
            else:
                what = f"order {index} at seq {seq}"
                where = self._recorded.at(seq).where
                return Difference(seq, "order", what, "row", "missing", "open", where)
        return None

    def _compare_window(self) -> Difference | None:
        """Advance the run by one window. Return its first difference, or None."""
        from_seq = self._run.seq
        to_seq = min(from_seq + WINDOW, self._recorded.to_seq)
        try:
            wanted = self._run.advance(to_seq)
        except ReplayDiverged as diverged:
            return diverged.difference
        return self._comparison.compare(wanted, self._stored.rows(from_seq, to_seq))

    def _compare_end(self) -> tuple[Difference | None, str | None]:
        """Return the difference at the end of the run, if any, and the digest of its state."""
        try:
            self._run.advance(self._run.seq)  # loads a tenure that committed no event
        except ReplayDiverged as diverged:
            return diverged.difference, None
        difference = self._comparison.compare_waiting()
        recorded, state = self._recorded, self._run.state
        if difference is not None or recorded.state is None:
            return difference, None
        assert state is not None  # every load is followed by a batch that returns it
        if self._processed is None:  # made by a version that did not count events
            state = without_event_count(state)
        if figures_since(recorded.state) is None:  # made by a version without figures
            state = without_figures(state)
        if not self._ignores_figures:
            return compare_states(recorded, state), state_digest(state)
        stripped = replace(recorded, state=without_figures(recorded.state))
        difference = compare_states(stripped, without_figures(state))
        if difference is None:
            self._run.state = recorded.state  # the next anchor has the recorded figures
        return difference, state_digest(recorded.state)

    def _anchor(self) -> Anchor | None:
        """Return the anchor from which the next verification continues; None without a state."""
        if self._run.state is None:
            return None
        return Anchor(
            self._run.seq, self._run.epoch, self._run.state, replace(self._counts),
            self._comparison.open_orders,
        )  # fmt: skip


def _replayed_tenures(recorded: RecordedRun, start: Anchor | None) -> list[TenureSegment]:
    """Return the tenures that a run from `start` replays, that of the anchor included."""
    return [s for s in recorded.tenure_segments if start is None or s.epoch >= start.epoch]


def _refuse_another_python(
    recorded: RecordedRun, start: Anchor | None, difference: Difference
) -> None:
    """Raise CannotVerify if another Python, which may round differently, ran up to `difference`."""
    for tenure in _replayed_tenures(recorded, start):
        if tenure.python not in ("", PYTHON_VERSION) and tenure.first_seq <= difference.seq:
            name = tenure.spec.portfolio
            raise CannotVerify(
                _(
                    "{name} cannot be verified here: {where}, ran under Python {python}, and "
                    "this is Python {python_version}, under which it differs at seq {seq}; "
                    "verify it with Python {python}.",
                    name=name,
                    where=tenure.where,
                    python=tenure.python,
                    python_version=PYTHON_VERSION,
                    seq=difference.seq,
                )
            )


def _refuse_missing_versions(recorded: RecordedRun, start: Anchor | None) -> None:
    """Raise CannotVerify unless every strategy that ran is installed in the version that ran."""
    for tenure in _replayed_tenures(recorded, start):
        spec = tenure.spec
        if spec.artifact:
            continue  # its bytes are stored with the revision
        try:
            here = facts(spec.strategy).version
        except registry.UnknownStrategy:
            raise CannotVerify(
                _(
                    "{portfolio} cannot be verified: its revision {revision} ran {strategy}, "
                    "which is not installed here; install it again.",
                    portfolio=spec.portfolio,
                    revision=spec.revision,
                    strategy=spec.strategy,
                )
            ) from None
        except CheckFailed as failed:
            raise CannotVerify(
                _(
                    "{portfolio} cannot be verified: {failed}",
                    portfolio=spec.portfolio,
                    failed=failed,
                )
            ) from None
        if here != spec.strategy_version:
            raise CannotVerify(
                _(
                    "{portfolio} cannot be verified: its revision {revision} ran version "
                    "{strategy_version} of {strategy}, and version {here} is installed here; "
                    "verify it on a machine that has version {strategy_version}.",
                    portfolio=spec.portfolio,
                    revision=spec.revision,
                    strategy_version=spec.strategy_version,
                    strategy=spec.strategy,
                    here=here,
                )
            )
