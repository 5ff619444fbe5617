"""Check convergence: every portfolio is in its desired state, or its row gives a reason (I8)."""

from __future__ import annotations

import psutil

from chaos.runner.topology import Topology

LIMIT_S = 60.0  #: I8: time limit of convergence after a fault

_RUNS = """
SELECT p.name, p.desired_state, p.archived_at IS NOT NULL, p.revision, n.name, r.revision, r.phase,
       r.reason, r.last_seq, coalesce(v.status, '')
FROM portfolios_portfolio p JOIN scheduling_run r ON r.portfolio_id = p.id
LEFT JOIN scheduling_node n ON n.id = r.node_id
LEFT JOIN portfolios_revision v ON v.portfolio_id = p.id AND v.number = p.revision
ORDER BY p.id
"""
_HANDOFFS = """
SELECT h.id, h.kind, h.state, p.name FROM scheduling_handoff h
JOIN portfolios_portfolio p ON p.id = h.portfolio_id
WHERE h.state IN ('requested', 'preparing', 'draining', 'activating')
"""
#: Phases in which a portfolio may stay if its run gives a reason.
_WITH_REASON = {"pending", "halted", "quarantined"}


class ConvergenceCheck:
    """Reports what has not converged since its first call. Create one for each wait."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        #: Name → last seq of each running portfolio at the first check; None: not checked yet.
        self._first_seqs: dict[str, int] | None = None

    def unconverged(self) -> list[str]:
        """Return phrases on what has not converged; [] if everything has."""
        cluster = self._topology.cluster
        try:
            found = self._nodes() + self._runs()
            found += [
                f"handoff {number} ({kind} of {name}) is {state}"
                for number, kind, state, name in cluster.query(_HANDOFFS)
            ]
        except Exception as error:
            return [f"the database cannot be read: {error}"]
        return found or self._moves()

    def _nodes(self) -> list[str]:
        """Return phrases on nodes that are not alive."""
        found = []
        for name, status, pid in self._topology.cluster.query(
            "SELECT name, status, pid FROM scheduling_node ORDER BY name"
        ):
            if name in self._topology.nodes and (status != "alive" or not psutil.pid_exists(pid)):
                found.append(f"{name} is {status}, pid {pid}")
        return found

    def _runs(self) -> list[str]:
        """Return phrases on portfolios not as desired and without a reason, or without a commit."""
        found, seqs = [], {}
        for row in self._topology.cluster.query(_RUNS):
            name, wanted, archived, revision, node, run_revision, phase, reason, seq, status = row
            if archived or wanted == "stopped":
                if node is not None:
                    found.append(f"{name} should be stopped, but is {phase} on {node}")
            elif phase in _WITH_REASON and reason:
                continue
            elif phase != "running":
                found.append(f"{name} is {phase} on {node}: {reason or 'no reason given'}")
            elif run_revision != revision and status != "rejected":
                found.append(f"{name} runs r{run_revision}, desired is r{revision} ({status})")
            elif status == "unproven":
                # Before the revision is proven, an exit of its process would count against it.
                found.append(f"{name} has not proven revision {revision} yet")
            else:
                seqs[name] = seq
        if self._first_seqs is None:
            self._first_seqs = seqs
        # A portfolio that is `running` must also commit a new event after the fault.
        found += [
            f"{name} is running, but has committed nothing since the fault"
            for name, seq in seqs.items()
            if self._first_seqs.get(name, -1) >= seq
        ]
        return found

    def _moves(self) -> list[str]:
        """Return a phrase for each portfolio that the plan moves, or one if the API has no plan."""
        answer = self._topology.request("GET", "/api/schedule/plan/")
        if answer is None or answer.status != 200:
            return ["the API returns no plan"]
        return [f"{move['portfolio']} should move" for move in answer.json["move"]]
