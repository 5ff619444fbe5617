"""Has everything settled: does what runs equal what is wanted, or is a reason on the row? (I8)"""

from __future__ import annotations

import psutil

from chaos.runner.topology import Topology

LIMIT_S = 60.0  #: I8

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
_WITH_REASON = {"pending", "halted", "quarantined"}


class Settling:
    """Looks again and again until nothing is left that is still under way."""

    def __init__(self, grounds: Topology) -> None:
        self._grounds = grounds
        self._began_at: dict[str, int] | None = None

    def unsettled(self) -> list[str]:
        """Return phrases that say what is still under way."""
        fleet = self._grounds.fleet
        try:
            found = self._nodes() + self._runs()
            found += [
                f"handoff {number} ({kind} of {name}) is {state}"
                for number, kind, state, name in fleet.query(_HANDOFFS)
            ]
        except Exception as error:
            return [f"the database cannot be read: {error}"]
        return found or self._moves()

    def _nodes(self) -> list[str]:
        found = []
        for name, status, pid in self._grounds.fleet.query(
            "SELECT name, status, pid FROM scheduling_node ORDER BY name"
        ):
            if name in self._grounds.nodes and (status != "alive" or not psutil.pid_exists(pid)):
                found.append(f"{name} is {status}, pid {pid}")
        return found

    def _runs(self) -> list[str]:
        found, seqs = [], {}
        for row in self._grounds.fleet.query(_RUNS):
            name, wanted, archived, revision, node, runs, phase, reason, seq, status = row
            if archived or wanted == "stopped":
                if node is not None:
                    found.append(f"{name} should not run, but is {phase} on {node}")
            elif phase in _WITH_REASON and reason:
                continue
            elif phase != "running":
                found.append(f"{name} is {phase} on {node}: {reason or 'no reason given'}")
            elif runs != revision and status != "rejected":
                found.append(f"{name} runs revision {runs}, wanted is {revision} ({status})")
            elif status == "unproven":
                # Until it is good, the death of its process would be held against the revision.
                found.append(f"{name} has not proven revision {revision} yet")
            else:
                seqs[name] = seq
        began_at = self._began_at = self._began_at or seqs
        # Everything that runs has to commit something new after the fault, not only look alive.
        found += [
            f"{name} runs, but has committed nothing since"
            for name, seq in seqs.items()
            if began_at.get(name, -1) >= seq
        ]
        return found

    def _moves(self) -> list[str]:
        answer = self._grounds.ask("GET", "/api/schedule/plan/")
        if answer is None or answer.status != 200:
            return ["the API gives no plan"]
        return [f"{move['portfolio']} should move" for move in answer.json["move"]]
