"""Sample the database several times a second in a thread, and check every sample.

The monitor has its own connection, so only an unavailable database can block it. Samples that fail
are counted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg

from chaos.checkers import history, invariants
from chaos.checkers.blast_radius import BlastRadius
from chaos.checkers.findings import Findings, OwnerChange, StepResult, Violation
from chaos.checkers.invariants import RunSample, Sample

SAMPLE_EVERY_S = 0.15
CHANGES_EVERY_S = 1.0
HISTORY_EVERY_S = 15.0
HICCUP_S = 1.0  #: a sample that begins this late shows that the machine lacked processor time

#: Every run, whether its portfolio is in a handoff, and whether its feed is paused.
RUNS = """
SELECT r.portfolio_id, p.name, n.name, r.incarnation::text, r.epoch, r.last_seq, r.phase,
       EXISTS (SELECT FROM scheduling_handoff h WHERE h.portfolio_id = r.portfolio_id
               AND h.state IN ('requested', 'preparing', 'draining', 'activating')),
       (SELECT rate FROM portfolios_feedsegment s WHERE s.feed_id = p.feed_id
        ORDER BY s.id DESC LIMIT 1) = 0
FROM scheduling_run r JOIN portfolios_portfolio p ON p.id = r.portfolio_id
LEFT JOIN scheduling_node n ON n.id = r.node_id
"""

#: New tenures, with the pause before each, and whether an operator or a failure had stopped the
#: portfolio before: the time until somebody starts it again is not a handoff's pause.
CHANGES = """
SELECT t.id, p.name, n.name, t.cause, t.epoch, t.pause_ms, t.first_commit_at IS NOT NULL,
       b.id IS NULL OR b.cause IN ('stop', 'halt', 'quarantine', 'failed_start')
           AND b.node_id IS NULL
FROM scheduling_tenure t JOIN portfolios_portfolio p ON p.id = t.portfolio_id
LEFT JOIN scheduling_node n ON n.id = t.node_id
LEFT JOIN LATERAL (
    SELECT x.id, x.cause, x.node_id FROM scheduling_tenure x
    WHERE x.portfolio_id = t.portfolio_id AND x.id < t.id ORDER BY x.id DESC LIMIT 1
) b ON true
WHERE (t.id > %s OR t.id = ANY(%s)) ORDER BY t.id
"""


class Monitor:
    """Sample and check from `start` to `stop`. Violations go to `findings`."""

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        findings: Findings,
        excused: frozenset[str] = frozenset(),
    ) -> None:
        """`connect` opens a session of the monitor's own.

        `excused` are portfolios that are never bystanders, since their feed may pause.
        """
        self._connect, self._findings, self._excused = connect, findings, excused
        self._began_s = 0.0
        self._database: psycopg.Connection[Any] | None = None
        self._ownership = invariants.OwnershipChecker()
        #: Whether the next sample may show lower epochs and seqs than the ones before. Set by a
        #: fault's thread, cleared by the monitor's.
        self._forgets = False
        self.bystanders = invariants.BystanderChecker(self._is_excused)
        self._pauses = invariants.PauseMeter()
        self._blast_radii: list[BlastRadius] = []
        self._current: StepResult | None = None
        self._last_tenure = 0
        self._open: dict[int, OwnerChange] = {}  #: by tenure id: changes without a first commit
        self.counts_pauses = True  #: false in a step whose pauses are disregarded
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)
        self.latest: Sample | None = None
        self.samples_taken = self.failed_samples = 0
        self.hiccups: list[tuple[float, float]] = []  #: late samples: (when, for how many seconds)

    def start(self, began_s: float) -> None:
        """Start sampling. Times are reported in seconds since `began_s`."""
        self._began_s = began_s
        self._thread.start()

    def stop(self) -> None:
        """Check the history a last time, and end the thread; nothing if it was not started."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(30)  # its last queries may wait for a slow database

    # --- called by the run ----------------------------------------------------------------------

    def begin_step(self, current: StepResult, blast_radii: list[BlastRadius]) -> None:
        """Record that a step has begun, and the nodes and portfolios it may affect."""
        self._current, self._blast_radii = current, blast_radii

    def end_step(self) -> None:
        """Record that the step has converged: every portfolio is a bystander again."""
        self._current, self._blast_radii = None, []
        self.counts_pauses = True

    def forget_progress(self) -> None:
        """Let epochs and seqs be lower in the next sample: commits were lost on purpose."""
        self._forgets = True

    # --- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        """Sample, and read changes and history at their intervals; at the end all of them again."""
        changes_at = history_at = 0.0
        waits_since = time.monotonic()
        while not self._ended.wait(SAMPLE_EVERY_S):
            now = time.monotonic()
            if now - waits_since > HICCUP_S:
                self.hiccups.append((waits_since - self._began_s, now - waits_since))
            try:
                self._take_sample()
                if now >= changes_at:
                    self._read_changes()
                    changes_at = now + CHANGES_EVERY_S
                if now >= history_at:
                    self._read_history()
                    history_at = now + HISTORY_EVERY_S
            except psycopg.Error:
                self.failed_samples += 1
                self._close()
            waits_since = time.monotonic()  # after the database's part: a delay is the machine's
        try:
            self._take_sample()
            self._read_changes()
            self._read_history()
        except psycopg.Error as error:
            self._add_findings(
                [("I8", f"the database cannot be read at the end of the run: {error}")]
            )
        self._close()

    def _ask(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query over the monitor's connection, reopened if it was closed."""
        if self._database is None or self._database.closed:
            self._database = self._connect()
        return self._database.execute(sql, parameters or None).fetchall()

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _take_sample(self) -> None:
        """Read and check all runs; keep the step's longest time between two commits.

        That of portfolios that no fault affects is its gap, that of any portfolio its pause.
        """
        rows = self._ask(RUNS)
        runs = {portfolio_id: RunSample(*run) for portfolio_id, *run, _ in rows}
        is_quiet = any(is_paused for *_, is_paused in rows)
        sample = Sample(time.monotonic() - self._began_s, runs, is_quiet)
        self.samples_taken += 1
        if self._forgets:  # acknowledged commits were lost on purpose: begin anew
            self._ownership, self._forgets = invariants.OwnershipChecker(), False
        self._add_findings(self._ownership.check(sample))
        found, gaps = self.bystanders.check(sample)
        self._add_findings(found)
        pauses = self._pauses.take(sample)
        current = self._current
        if current is not None:
            for gap in gaps:
                if gap.seconds > current.longest_gap_s:
                    current.longest_gap_s, current.gap_of = gap.seconds, gap.portfolio
            for pause in pauses:
                if pause.seconds > current.longest_pause_s:
                    current.longest_pause_s, current.pause_of = pause.seconds, pause.portfolio
        self.latest = sample

    def _read_changes(self) -> None:
        """Add new tenures to the findings, and the pauses of those that have committed since."""
        current = self._current
        step, faults = (current.step, current.faults) if current else (0, ())
        for tenure, name, node, cause, epoch, pause_ms, has_committed, was_stopped in self._ask(
            CHANGES, self._last_tenure, list(self._open)
        ):
            change = self._open.get(tenure)
            if change is None:
                at_s = time.monotonic() - self._began_s
                change = OwnerChange(at_s, name, node or "", cause, epoch, None, step, faults)
                self._last_tenure = max(self._last_tenure, tenure)
                if node is not None:
                    self._findings.changes.append(change)
                    self._open[tenure] = change
            if has_committed:
                self._open.pop(tenure, None)
                if not was_stopped and self.counts_pauses:
                    change.pause_ms = pause_ms

    def _read_history(self) -> None:
        """Check I1, I2 and I5 over the whole stored history."""
        self._add_findings(history.history_violations(self._ask))

    def _is_excused(self, run: RunSample) -> bool:
        return run.name in self._excused or any(
            blast_radius.includes(run.name, run.node) for blast_radius in self._blast_radii
        )

    def _add_findings(self, found: invariants.Failures) -> None:
        """Add violations, each with its time, the present step and the machine's last hiccups."""
        current, at_s = self._current, round(time.monotonic() - self._began_s, 2)
        step, faults = (current.step, current.faults) if current else (0, ())
        evidence = {"hiccups_s": self.hiccups[-3:]}
        for invariant, what in found:
            self._findings.add(Violation(invariant, what, at_s, step, faults, evidence))
