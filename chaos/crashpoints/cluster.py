"""A cluster in which control-plane processes die at an armed failpoint."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from chaos.harness.cluster import PROCESS_MATCH, SHORT_LIMITS, Cluster
from chaos.harness.installation import SLOW_MACHINE_S
from chaos.harness.observation import wait_for

#: Time limits of tens of seconds, shortened to seconds in proportion.
CRASH_POINT_LIMITS = {
    **SHORT_LIMITS,
    "GINKGO_SOCKET_GRACE_S": "3",
    "GINKGO_DRAIN_DEADLINE_S": "1",
    "GINKGO_REHEARSAL": "1",
}


class FailpointNotReached(Exception):
    """No process reached the armed failpoint."""


class FailpointCluster(Cluster):
    """A cluster with failpoints, armed by a file that every process reads."""

    # The launcher delays the restart of a process that dies soon after its start. Here processes
    # die on purpose every few seconds.
    LAUNCHER = (
        "-c",
        "import runpy; from ginkgo_site.launcher import supervised_process;"
        "supervised_process.QUICK_DEATH_S = 0.0;"
        "runpy.run_module('ginkgo_site.launcher', run_name='__main__')",
    )

    def __init__(self, home: Path, *options: str, **environment: str) -> None:
        self.points = home / "failpoints"
        super().__init__(
            home,
            *("--node-restart", "0", *options),  # after 0 s
            GINKGO_FAILPOINTS=f"@{self.points}",
            **CRASH_POINT_LIMITS,
            **environment,
        )

    def arm(self, rule: str) -> None:
        """Arm a failpoint rule, to fire once."""
        self.disarm()
        ready = self.points.with_suffix(".ready")
        ready.write_text(rule, encoding="utf-8")
        os.rename(ready, self.points)  # atomic: readers see the whole rule or none

    def disarm(self) -> None:
        """Remove the armed rule and the mark of a fired one."""
        for path in (self.points, self.fired_mark):
            path.unlink(missing_ok=True)

    @property
    def fired_mark(self) -> Path:
        """The path to which the rule file is renamed when a process reaches the failpoint."""
        return Path(f"{self.points}.fired")

    def wait_until_fired(self, limit_s: float, what: str) -> float:
        """Wait until the armed failpoint fired, and return the seconds that this took.

        Raise FailpointNotReached after `limit_s`, with `what` in its message.
        """
        try:
            return wait_for(self.fired_mark.exists, bool, f"at the point {what}", limit_s)[1]
        except AssertionError as late:
            raise FailpointNotReached(str(late)) from None

    def members(self, process: str) -> list[psutil.Process]:
        """All processes of web, watcher or worker."""
        return self.processes_of(PROCESS_MATCH[process])

    def unrecovered(self, since_seq: dict[str, int]) -> list[str]:
        """Return a phrase for each handoff and portfolio that has not recovered; [] if all have.
        Recovered: in its desired state and, if running, beyond its seq in `since_seq`."""
        found = [
            f"handoff {number} ({kind}) is {state}" for number, kind, state in self.open_handoffs()
        ]
        wanted = dict(
            self.query(
                "SELECT name, desired_state FROM portfolios_portfolio WHERE archived_at IS NULL"
            )
        )
        for run in self.runs().values():
            if wanted.get(run.name) == "stopped":
                if run.node is not None:
                    found.append(f"{run.name} is stopped and owned by {run.node}")
            elif run.phase != "running" or run.last_seq <= since_seq.get(run.name, -1):
                found.append(f"{run.name} is {run.phase} at seq {run.last_seq}: {run.reason}")
        return found

    def wait_until_recovered(self, limit_s: float) -> None:
        """Wait until every handoff has ended and every portfolio that should run has progressed."""
        seqs = {run.name: run.last_seq for run in self.runs().values()}
        wait_for(lambda: self.unrecovered(seqs), lambda found: not found, "recovered", limit_s)

    def wait_until_ready(self, limit_s: float = SLOW_MACHINE_S) -> None:
        """Wait until the web process answers again."""
        wait_for(self.is_ready, bool, "the web process back", limit_s)

    def wait_until_idle(self, limit_s: float = SLOW_MACHINE_S) -> None:
        """Forget losses, pins and failed attempts; wait until all parts run and have recovered."""
        self.query("UPDATE scheduling_node SET lost_times = '[]'")
        self.query("UPDATE scheduling_run SET pinned_node_id = NULL, failures_by_node = '{}'")
        self.wait_until_ready(limit_s)
        wait_for(
            lambda: [process for process in PROCESS_MATCH if not self.members(process)],
            lambda missing: not missing,
            "all parts of the control plane",
            limit_s,
        )
        self.wait_until_recovered(limit_s)

    def request(self, method: str, path: str, body: object = None) -> bool:
        """Send a request. Return whether it succeeded: False if the web process died or failed.
        Raise AssertionError if it was refused."""
        try:
            answer = self.call(method, path, {} if body is None else body)
        except OSError:
            return False
        assert not 300 <= answer.status < 500, f"{answer.request}: {answer.status} {answer.text}"
        return answer.status < 300

    def set_frozen(self, *, is_frozen: bool) -> None:
        """Stop automatic moves, so that the next handoff is the requested one, or allow them."""
        path = f"/api/schedule/{'freeze' if is_frozen else 'unfreeze'}/"
        has_succeeded = self.request("POST", path, {"reason": "rehearsal"} if is_frozen else {})
        assert has_succeeded, f"POST {path}: the web process died or failed"
