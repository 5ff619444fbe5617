"""Held locks and snapshots: a frozen transaction, a locked record table, a dump."""

from __future__ import annotations

import math
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass

import psycopg
from prometheus_client.parser import text_string_to_metric_families

from chaos.faults.control_plane import another_process
from chaos.faults.database import positions_of_owned
from chaos.faults.fault import Fault
from chaos.runner.fault_context import BUDGET_FACTOR, FaultContext
from scheduling.enact.storage import CAUSES, LIMITS

#: Between the last statement of a migrate request and its COMMIT: the run, the handoff and the rows
#: of both nodes are locked.
FROZEN_AT = "operations.migrate:after_touch=pause(30)"
#: A frozen transaction loses its session after 1.5 s; the rest is for a busy machine.
FREED_WITHIN_S = 1.5 + 3.0

HELD_FOR_S = 0.5  #: then a transaction counts as frozen
#: Sessions that have been idle in a transaction for some seconds.
_HELD = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND state = 'idle in transaction'
  AND state_change < clock_timestamp() - make_interval(secs => %s)
"""


def held_transaction(context: FaultContext) -> None:
    """A command freezes before COMMIT, with the rows of two nodes locked."""
    run = context.choose_portfolio()
    target = context.choose_target(run)
    argv = [sys.executable, "manage.py", "migrate_portfolio", run.name, "--to", target]
    armed = {"GINKGO_REHEARSAL": "1", "GINKGO_FAILPOINTS": FROZEN_AT}
    with another_process(context, argv, **armed):
        if not context.expect(
            lambda: context.cluster.query(_HELD, HELD_FOR_S),
            30 * BUDGET_FACTOR,
            "a frozen transaction",
        ):
            return
        context.expect(
            lambda: not context.cluster.query(_HELD, HELD_FOR_S),
            FREED_WITHIN_S * BUDGET_FACTOR,
            "the end of the frozen transaction",
        )
        context.sleep(2)  # for the handoff, if the transaction was kept, to appear
    handoffs = context.cluster.query(
        "SELECT h.id FROM scheduling_handoff h JOIN portfolios_portfolio p ON p.id = h.portfolio_id"
        " WHERE p.name = %s AND h.state IN ('requested', 'preparing', 'draining', 'activating')",
        run.name,
    )
    if handoffs:
        sentence = f"{run.name} is in a handoff, although the request for it was rolled back"
        context.report("fault", sentence, {"handoffs": handoffs})


def lock_on_record_table(context: FaultContext) -> None:
    """A record table is locked as by CREATE INDEX; only commits are blocked."""
    context.mark_all_affected("commits are blocked")
    run = context.choose_portfolio()
    target = context.choose_target(run)
    with psycopg.connect(context.cluster.admin_url) as indexing:
        indexing.execute("LOCK TABLE portfolios_order IN SHARE MODE")
        handoff = context.migrate(run, target)
        context.sleep(20)  # longer than a new owner may take to its first commit
        indexing.rollback()
    context.expect_handoff_end(handoff, 30 * BUDGET_FACTOR)
    context.expect(
        lambda: context.cluster.runs()[run.name].phase == "running",
        30 * BUDGET_FACTOR,
        f"{run.name} runs",
    )


#: The name under which the dump is found, as `pg_dump` would be under its own.
DUMP = "chaos-dump"
HELD_S = 40.0  #: for which the snapshot is held, and commits are measured without it before
#: Stands for the product's ten minutes: the cause of the alert is asked for with this limit.
SNAPSHOT_LIMIT_S = 20.0
#: Commits are slower beside a snapshot if their median time, or the share of them that takes longer
#: than `BLOCKED_S` (the gateway's `BLOCKED_AFTER_S`), is above this factor times that of an equal
#: time before, and above its floor. A snapshot would slow all of them; a machine that stands still
#: for two seconds delays those of that moment only (measured: 11 of 885). The same factor bounds
#: the number of commits that fail.
SLOWER_BY = 4.0
MEDIAN_FLOOR_S, BLOCKED_S, BLOCKED_SHARE_FLOOR = 0.1, 1.0, 0.05
#: Statuses that do not count as failed: 200, and the 499 of a request that its daemon gave up
#: while it was served, which counts as slow.
SERVED = ("200", "499")
#: Budget for the end of the snapshot to show in the metrics.
NOTICED_WITHIN_S = 5.0

_OLDEST_SNAPSHOT = "ginkgo_oldest_snapshot_seconds"
_COMMIT_TIMES = "ginkgo_gateway_request_seconds"
_OPEN_SNAPSHOT_ALERTS = """
SELECT reason FROM scheduling_alert WHERE kind = 'snapshot_held' AND closed_at IS NULL
"""


_BUCKET = re.compile(rf"{_COMMIT_TIMES}_bucket\{{kind=commit,le=(.+),status=(.+)\}}")
_SUM = re.compile(rf"{_COMMIT_TIMES}_sum\{{kind=commit,status=.+\}}")


@dataclass(frozen=True)
class CommitTimes:
    """Requests of commits that a web process has answered since its start, with any status."""

    failed: int
    total_s: float
    within: dict[float, int]  #: seconds → requests answered within them; infinity: all

    def since(self, before: CommitTimes) -> CommitTimes:
        """Return the requests answered since `before` was read."""
        return CommitTimes(
            self.failed - before.failed,
            self.total_s - before.total_s,
            {bound: count - before.within.get(bound, 0) for bound, count in self.within.items()},
        )

    @property
    def count(self) -> int:
        """Number of all requests."""
        return self.within.get(math.inf, 0)

    @property
    def mean_ms(self) -> float:
        """Mean time of a request."""
        return 1000 * self.total_s / max(self.count, 1)

    @property
    def median_s(self) -> float:
        """Lowest bound within which half of the requests were answered; 0 if there was none."""
        if not self.count:
            return 0.0
        return min(bound for bound, within in self.within.items() if 2 * within >= self.count)

    @property
    def blocked_share(self) -> float:
        """Share of the requests that took longer than `BLOCKED_S`."""
        return (self.count - self.within.get(BLOCKED_S, 0)) / max(self.count, 1)


def read_commit_times(metrics: dict[str, float]) -> CommitTimes:
    """Return how long requests of commits took and how many failed. See `read_metrics`."""
    within: Counter[float] = Counter()
    failed, total_s = 0, 0.0
    for name, value in metrics.items():
        if bucket := _BUCKET.fullmatch(name):
            bound, status = float(bucket[1]), bucket[2]
            within[bound] += int(value)
            if bound == math.inf and status not in SERVED:  # this bucket counts every request
                failed += int(value)
        elif _SUM.fullmatch(name):
            total_s += value
    return CommitTimes(failed, total_s, dict(within))


def slowdowns(before: CommitTimes, held: CommitTimes) -> list[str]:
    """Return a sentence on each way in which commits were worse in `held` than in `before`: `held`
    was measured while a snapshot was held open, `before` over an equally long time without one."""
    if not held.count:
        return ["no commits were answered"]
    found = []
    if held.failed > SLOWER_BY * before.failed:
        found.append(f"{held.failed} of {held.count} commits failed (before: {before.failed})")
    if held.median_s > max(SLOWER_BY * before.median_s, MEDIAN_FLOOR_S):
        found.append(f"the median commit took {held.median_s:g} s (before: {before.median_s:g} s)")
    if held.blocked_share > max(SLOWER_BY * before.blocked_share, BLOCKED_SHARE_FLOOR):
        found.append(
            f"{held.blocked_share:.0%} of the commits took longer than {BLOCKED_S:g} s"
            f" (before: {before.blocked_share:.0%})"
        )
    return found


def read_metrics(text: str) -> dict[str, float]:
    """Return Prometheus samples by name and labels, sorted: `name{kind=commit,le=1.0}`."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def held_snapshot(context: FaultContext) -> None:
    """A session holds a snapshot, as pg_dump does, while commits go on."""
    at_start = read_commit_times(_metrics(context))
    context.sleep(HELD_S)
    before = read_commit_times(_metrics(context)).since(at_start)
    with psycopg.connect(context.cluster.admin_url, application_name=DUMP) as dump:
        dump.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        dump.execute("SELECT count(*) FROM scheduling_run")
        began, positions = time.monotonic(), positions_of_owned(context)
        at_snapshot = read_commit_times(_metrics(context))
        context.sleep(HELD_S)
        during = read_commit_times(_metrics(context)).since(at_snapshot)
        held_s, pid = time.monotonic() - began, dump.info.backend_pid
        _expect_snapshot_noticed(context, pid, held_s)
        _expect_commits(context, positions)
    context.note(
        f"{during.count} requests of commits beside a held snapshot, {during.mean_ms:.1f} ms each"
        f" (before: {before.count}, {before.mean_ms:.1f} ms each)"
    )
    for sentence in slowdowns(before, during):
        context.report(
            "fault", f"beside a held snapshot: {sentence}", {"before": before, "during": during}
        )
    context.expect(
        lambda: (
            _metrics(context)[_OLDEST_SNAPSHOT] < held_s
            and not is_named(pid, read_snapshot_causes(context))
        ),
        NOTICED_WITHIN_S * BUDGET_FACTOR,
        "the end of the snapshot noticed",
    )


def _expect_snapshot_noticed(context: FaultContext, pid: int, held_s: float) -> None:
    """Expect the held snapshot in the metrics, and as a reason under the limit SNAPSHOT_LIMIT_S.
    The alert itself must not be open, since the product's limit is longer."""
    context.expect(
        lambda: _metrics(context)[_OLDEST_SNAPSHOT] >= held_s,
        NOTICED_WITHIN_S * BUDGET_FACTOR,
        f"a snapshot of {held_s:.0f} s in the metrics",
    )
    causes = read_snapshot_causes(context)
    if not is_named(pid, causes):
        context.report("fault", f"no reason names pid {pid} and its snapshot", {"causes": causes})
    opened = context.cluster.query(_OPEN_SNAPSHOT_ALERTS)
    if opened:
        early = f"an alert was open for a snapshot of {held_s:.0f} s"
        context.report("fault", early, {"alerts": opened})


def is_named(pid: int, causes: list[str]) -> bool:
    """Return whether one of the alert's `causes` names the dump by pid and application."""
    return any(f"pid {pid} ({DUMP}, " in cause for cause in causes)


def _expect_commits(context: FaultContext, before: dict[str, int]) -> None:
    """Report portfolios that committed nothing since `before`, which has their last seqs."""
    now = positions_of_owned(context)
    stuck = [name for name, seq in before.items() if now.get(name, seq) <= seq]
    if stuck:
        context.report("fault", f"no commits beside a held snapshot: {', '.join(stuck)}", {})


def _metrics(context: FaultContext) -> dict[str, float]:
    answer = context.request("GET", "/api/metrics")
    assert answer is not None, "no answer to a request for metrics"
    return read_metrics(answer.must_be(200).text)


def read_snapshot_causes(context: FaultContext) -> list[str]:
    """Return the reasons that the alert would give if its limit were `SNAPSHOT_LIMIT_S`.
    They are read under the product's role, which unlike the dump's is no superuser."""
    limits = {**LIMITS, "snapshot_limit_s": SNAPSHOT_LIMIT_S}
    with context.cluster.connect_monitor() as product:
        rows = product.execute(CAUSES.encode(), limits).fetchall()
    return [reason for kind, _, _, _, reason, *_ in rows if kind == "snapshot_held"]


FAULTS = (
    Fault("held-transaction", held_transaction, 10, moves_nothing=True),
    Fault("lock-on-record-table", lock_on_record_table, 25, alone=True),
    Fault("held-snapshot", held_snapshot, 85, moves_nothing=True, alone=True),
)
