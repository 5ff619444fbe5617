"""The judge that never sleeps: it looks at the database several times a second, in its own thread.

It has a connection of its own, so that nothing that is done to the house holds it up but a database
that is away; then it is blind, which is noted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg

from chaos.checkers import history, invariants
from chaos.checkers.blast_radius import Footprint
from chaos.checkers.findings import Change, Findings, StepResult, Violation
from chaos.checkers.invariants import RunSample, Sample

LOOK_EVERY_S = 0.15
CHANGES_EVERY_S = 1.0
HISTORY_EVERY_S = 15.0
HICCUP_S = 1.0  #: a look that comes this late says that the machine was short of processors

RUNS = """
SELECT r.portfolio_id, p.name, n.name, r.incarnation::text, r.epoch, r.last_seq, r.phase,
       EXISTS (SELECT FROM scheduling_handoff h WHERE h.portfolio_id = r.portfolio_id
               AND h.state IN ('requested', 'preparing', 'draining', 'activating')),
       (SELECT rate FROM portfolios_feedsegment s WHERE s.feed_id = p.feed_id
        ORDER BY s.id DESC LIMIT 1) = 0
FROM scheduling_run r JOIN portfolios_portfolio p ON p.id = r.portfolio_id
LEFT JOIN scheduling_node n ON n.id = r.node_id
"""

#: What was stopped by somebody waits for somebody: no pause of a handoff.
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
    """Looks and judges from `start` to `stop`; what it finds goes to `findings`."""

    def __init__(self, url: Callable[[], str], findings: Findings) -> None:
        self._url, self._findings = url, findings
        self._began_s = 0.0
        self._database: psycopg.Connection[Any] | None = None
        self._ownership = invariants.Ownership()
        self.bystanders = invariants.Bystanders(self._is_excused)
        self._footprints: list[Footprint] = []
        self._now_doing: StepResult | None = None
        self._last_tenure = 0
        self._open: dict[int, Change] = {}
        self.clock_is_true = True  #: false while the database's clock is being moved
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.latest: Sample | None = None
        self.looks = self.blind_looks = 0
        self.hiccups: list[tuple[float, float]] = []  #: when, and for how many seconds

    def start(self, began_s: float) -> None:
        """Begin to look; what is found is told in seconds since `began_s`."""
        self._began_s = began_s
        self._thread.start()

    def stop(self) -> None:
        """Look at the history once more and end. Nothing to do where it was never started."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(30)

    # --- told by the run ------------------------------------------------------------------------

    def begin(self, doing: StepResult, footprints: list[Footprint]) -> None:
        """From now on this is done, to these."""
        self._now_doing, self._footprints = doing, footprints

    def end(self) -> None:
        """Everything has settled: everybody is a bystander again."""
        self._now_doing, self._footprints = None, []
        self.clock_is_true = True

    # --- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        changes_at = history_at = 0.0
        before = time.monotonic()
        while not self._ended.wait(LOOK_EVERY_S):
            now = time.monotonic()
            if now - before > HICCUP_S:
                self.hiccups.append((before - self._began_s, now - before))
            try:
                self._look()
                if now >= changes_at:
                    self._read_changes()
                    changes_at = now + CHANGES_EVERY_S
                if now >= history_at:
                    self.read_history()
                    history_at = now + HISTORY_EVERY_S
            except psycopg.Error:
                self.blind_looks += 1
                self._close()
            before = time.monotonic()  # from here on it is the machine that is late
        try:
            self._look()
            self._read_changes()
            self.read_history()
        except psycopg.Error as error:
            self._tell([("I8", f"the database cannot be read at the end: {error}")])
        self._close()

    def _ask(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        if self._database is None or self._database.closed:
            self._database = psycopg.connect(self._url(), autocommit=True, connect_timeout=5)
        return self._database.execute(sql, parameters or None).fetchall()

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _look(self) -> None:
        rows = self._ask(RUNS)
        runs = {row[0]: RunSample(*row[1:8]) for row in rows}
        is_quiet = any(row[8] for row in rows)
        look = Sample(time.monotonic() - self._began_s, runs, is_quiet)
        self.looks += 1
        self._tell(self._ownership.judge(look))
        found, gaps = self.bystanders.judge(look)
        self._tell(found)
        doing = self._now_doing
        if doing is not None:
            for gap in gaps:
                if gap.seconds > doing.longest_gap_s:
                    doing.longest_gap_s, doing.gap_of = gap.seconds, gap.portfolio
        self.latest = look

    def _read_changes(self) -> None:
        doing = self._now_doing
        for number, name, node, cause, epoch, pause_ms, has_begun, from_rest in self._ask(
            CHANGES, self._last_tenure, list(self._open)
        ):
            change = self._open.get(number)
            if change is None:
                change = Change(
                    time.monotonic() - self._began_s,
                    name,
                    node or "",
                    cause,
                    epoch,
                    None,
                    doing.step if doing else 0,
                    doing.faults if doing else (),
                )
                self._last_tenure = max(self._last_tenure, number)
                if node is not None:
                    self._findings.changes.append(change)
                    self._open[number] = change
            if has_begun:
                self._open.pop(number, None)
                if not from_rest and self.clock_is_true:
                    change.pause_ms = pause_ms

    def read_history(self) -> None:
        """I1, I2 and I5 over everything that was ever written."""
        self._tell(history.history_violations(self._ask))

    def _is_excused(self, run: RunSample) -> bool:
        return any(footprint.touches(run.name, run.node) for footprint in self._footprints)

    def _tell(self, found: invariants.Found) -> None:
        doing = self._now_doing
        for invariant, what in found:
            self._findings.add(
                Violation(
                    invariant,
                    what,
                    round(time.monotonic() - self._began_s, 2),
                    doing.step if doing else 0,
                    doing.faults if doing else (),
                    {"hiccups_s": self.hiccups[-3:]},
                )
            )
