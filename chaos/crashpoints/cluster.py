"""A house in which processes of the control plane die at a point that was named beforehand."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from chaos.harness.cluster import PROCESS_MATCH, QUICK, Cluster, wait_for
from chaos.harness.installation import SLOW_MACHINE_S

#: What an operator waits for in tens of seconds, in seconds; the proportions stay.
REHEARSED = {
    **QUICK,
    "GINKGO_SOCKET_GRACE_S": "3",
    "GINKGO_DRAIN_DEADLINE_S": "1",
    "GINKGO_REHEARSAL": "1",
}


class FailpointNotReached(Exception):
    """Nobody came to the point that was armed."""


class FailpointCluster(Cluster):
    """A fleet with failpoints, armed by a file that every process of it looks at."""

    # What dies of its start again and again is started more and more slowly. Here it dies on
    # purpose, every few seconds.
    LAUNCHER = (
        "-c",
        "import runpy; from ginkgo_site.launcher import services; services.QUICK_DEATH_S = 0.0;"
        "runpy.run_module('ginkgo_site.launcher', run_name='__main__')",
    )

    def __init__(self, home: Path) -> None:
        self.points = home / "failpoints"
        super().__init__(
            home, "--node-restart", "0", GINKGO_FAILPOINTS=f"@{self.points}", **REHEARSED
        )

    def arm(self, rule: str) -> None:
        """Let this happen at the next chance, once."""
        self.disarm()
        ready = self.points.with_suffix(".ready")
        ready.write_text(rule, encoding="utf-8")
        os.rename(ready, self.points)  # whole, or not there

    def disarm(self) -> None:
        """Forget what was armed and what fired."""
        for path in (self.points, self.fired_mark):
            path.unlink(missing_ok=True)

    @property
    def fired_mark(self) -> Path:
        """Where the file goes when somebody has met the point."""
        return Path(f"{self.points}.fired")

    def fired(self, limit_s: float, what: str) -> float:
        """Wait until the armed point was met; return the seconds. Raises NotMet."""
        try:
            return wait_for(self.fired_mark.exists, bool, limit_s, f"at the point {what}")[1]
        except AssertionError as late:
            raise FailpointNotReached(str(late)) from None

    def members(self, process: str) -> list[psutil.Process]:
        """All processes of web, watcher or worker; the launcher names none of them."""
        return self.processes_of(PROCESS_MATCH[process])

    def kill_all(self, process: str) -> None:
        """kill -9 of all that is left of it: of a queue only one of several processes died."""
        for each in self.members(process):
            try:
                each.kill()
            except psutil.NoSuchProcess:
                continue

    def unhealed(self, since_seq: dict[str, int]) -> list[str]:
        """Phrases that say what is not yet as it should be after a fault."""
        found = [f"handoff {number} ({kind}) is {state}" for number, kind, state in self.active()]
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

    def seqs(self) -> dict[str, int]:
        """How far each portfolio is."""
        return {run.name: run.last_seq for run in self.runs().values()}

    def wait_until_recovered(self, limit_s: float) -> None:
        """Wait until every handoff has ended and all that should run has made progress."""
        seqs = self.seqs()
        wait_for(lambda: self.unhealed(seqs), lambda found: not found, limit_s, "healed")

    def answering(self, limit_s: float = SLOW_MACHINE_S) -> None:
        """Wait until the web process is there again."""
        wait_for(self.answers, bool, limit_s, "the web process back")

    def wait_until_idle(self, limit_s: float = SLOW_MACHINE_S) -> None:
        """Wait until the next fault meets a whole fleet: all parts there, nothing under way."""
        self.query("UPDATE scheduling_node SET lost_times = '[]'")
        self.query("UPDATE scheduling_run SET pinned_node_id = NULL, failures_by_node = '{}'")
        self.answering(limit_s)
        wait_for(
            lambda: [process for process in PROCESS_MATCH if not self.members(process)],
            lambda missing: not missing,
            limit_s,
            "all parts of the control plane",
        )
        self.wait_until_recovered(limit_s)

    def ask(self, method: str, path: str, body: object = None) -> bool:
        """Ask the API; False where the web process died over it. A refusal is a fault of ours."""
        try:
            answer = self.call(method, path, {} if body is None else body)
        except OSError:
            return False
        assert answer.status < 300 or answer.status >= 500, f"{path}: {answer.text}"
        return answer.status < 300

    def freeze(self) -> None:
        """No automatic move: the next handoff is the one that is asked for."""
        assert self.ask("POST", "/api/schedule/freeze/", {"reason": "rehearsal"})

    def unfreeze(self) -> None:
        """Let the balancer even out again, and wait until it has."""
        assert self.ask("POST", "/api/schedule/unfreeze/")
