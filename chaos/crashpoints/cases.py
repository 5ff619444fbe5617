"""Crash cases: a failpoint of the handoff protocol, and the action that brings a process there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from chaos.crashpoints.cluster import FailpointCluster
from chaos.harness.cluster import CANARIES, PROCESS_MATCH
from chaos.harness.observation import DEMO_NODES, wait_for
from chaos.harness.processes import kill_processes, process_tree, still_running, suspended

FIRES_S = 120.0  #: time limit to reach a failpoint; a worker's pass comes only every 30 s

EXTRA = "rehearsed"  #: a portfolio that only these cases create
#: The body of the request that creates EXTRA.
NEW_EXTRA = {
    "name": EXTRA, "strategy": "buy_and_hold", "config": {"quantity": "7"},
    "symbols": ["IBM", "GE", "HD"],
}  # fmt: skip


class CausedHandoff(NamedTuple):
    """The handoff that a case caused, as the database has it."""

    id: int
    kind: str
    state: str


@dataclass
class CaseContext:
    """One repetition of a case: its portfolio and the handoff that it causes."""

    cluster: FailpointCluster
    attempt: int  #: 1, 2, 3 …: the cases choose portfolio and node by it
    portfolio: str = ""
    newest_before: int = 0  #: id of the newest handoff before the caused one

    def watch(self, portfolio: str) -> None:
        """Note the portfolio whose next handoff this case causes, before it is requested."""
        self.portfolio = portfolio
        ((self.newest_before,),) = self.cluster.query(
            "SELECT coalesce(max(id), 0) FROM scheduling_handoff"
        )

    def handoff(self) -> CausedHandoff | None:
        """Return the first handoff of the portfolio since `watch`, or None."""
        rows = self.cluster.query(
            "SELECT h.id, h.kind, h.state FROM scheduling_handoff h"
            " JOIN portfolios_portfolio p ON p.id = h.portfolio_id"
            " WHERE h.id > %s AND p.name = %s ORDER BY h.id LIMIT 1",
            self.newest_before,
            self.portfolio,
        )
        return CausedHandoff(*rows[0]) if rows else None

    def wait_until_left(self, *states: str) -> None:
        """Wait until the handoff exists and is in none of these states."""
        wait_for(
            self.handoff,
            lambda found: found is not None and found.state not in states,
            f"the handoff beyond {', '.join(states)}",
            FIRES_S,
        )


#: Brings a process to its failpoint and returns when it has died there.
CaseAction = Callable[[CaseContext, str, str], None]


@dataclass(frozen=True)
class CrashCase:
    """A process, the failpoint at which it dies, and the action that brings it there."""

    name: str
    process: str
    point: str
    action: CaseAction


@contextmanager
def _dies(context: CaseContext, process: str, point: str) -> Iterator[None]:
    """Arm the failpoint, and wait after the block until the process has died there."""
    context.cluster.arm(f"{process}/{point}=exit")
    yield
    context.cluster.wait_until_fired(FIRES_S, f"{process}/{point}")


def _choose_canary(context: CaseContext) -> None:
    """Choose the canary that the case moves: each in turn."""
    context.watch(CANARIES[context.attempt % 3])


def _request_move(context: CaseContext) -> None:
    target = {"target_node": context.cluster.other_node(context.portfolio)}
    context.cluster.request("POST", f"/api/portfolios/{context.portfolio}/migrate/", target)


def move(context: CaseContext, process: str, point: str) -> None:
    """Migrate a portfolio."""
    _choose_canary(context)
    with _dies(context, process, point):
        _request_move(context)


def move_activating(context: CaseContext, process: str, point: str) -> None:
    """Migrate a portfolio, and arm the failpoint when its grant is durable."""
    _choose_canary(context)
    context.cluster.arm("web/handoff.release:committed=pause(0)")  # only to notice the grant
    _request_move(context)
    context.cluster.wait_until_fired(FIRES_S, "the grant")
    with _dies(context, process, point):
        pass  # the next commit reaches the failpoint


def move_from_frozen_source(context: CaseContext, process: str, point: str) -> None:
    """Migrate from a source that is frozen before it releases."""
    _choose_canary(context)
    source = context.cluster.daemon(str(context.cluster.run(context.portfolio).node))
    # The pause gives time to suspend the source before it can release.
    context.cluster.arm("web/handoff.handle_prepared:after_touch=pause(0.6)")
    _request_move(context)
    context.cluster.wait_until_fired(FIRES_S, "the report")
    with suspended(still_running(process_tree(source))):
        _die_in_a_pass(context, process, point)
        context.wait_until_left("preparing", "draining")


def move_to_frozen_target(context: CaseContext, process: str, point: str) -> None:
    """Migrate to a target that is frozen before its first commit."""
    _choose_canary(context)
    target = context.cluster.daemon(context.cluster.other_node(context.portfolio))
    # The pause gives time to suspend the target before it can commit.
    context.cluster.arm("web/handoff.release:after_touch=pause(0.6)")
    _request_move(context)
    context.cluster.wait_until_fired(FIRES_S, "the grant")
    with suspended(still_running(process_tree(target))):
        _die_in_a_pass(context, process, point)
        context.wait_until_left("preparing", "draining", "activating")


def stop(context: CaseContext, process: str, point: str) -> None:
    """Stop a portfolio, which `run_case` starts again afterwards."""
    context.watch("ge-sma")
    with _dies(context, process, point):
        context.cluster.request("POST", "/api/portfolios/ge-sma/stop/")


def stop_of_frozen_owner(context: CaseContext, process: str, point: str) -> None:
    """Stop a portfolio whose owner does not release in time."""
    context.watch("ge-sma")
    owner = context.cluster.daemon(str(context.cluster.run("ge-sma").node))
    with suspended(still_running(process_tree(owner))):
        context.cluster.request("POST", "/api/portfolios/ge-sma/stop/")
        _die_in_a_pass(context, process, point)
        context.wait_until_left("draining")


def place(context: CaseContext, process: str, point: str) -> None:
    """Create a portfolio."""
    context.watch(EXTRA)
    with _dies(context, process, point):
        context.cluster.request("POST", "/api/portfolios/", NEW_EXTRA)


def delete(context: CaseContext, process: str, point: str) -> None:
    """Delete a portfolio. `run_case` repeats a request that died with its process."""
    _create_extra(context)
    context.watch(EXTRA)
    with _dies(context, process, point):
        context.cluster.request("DELETE", f"/api/portfolios/{EXTRA}/")


def bad_reload(context: CaseContext, process: str, point: str, *, strategy: str) -> None:
    """Reload a portfolio with a strategy that does not work.
    `raise_on_load` cannot be loaded, `raise_at` raises at one of its first events."""
    _create_extra(context)
    wait_for(
        lambda: context.cluster.query(
            "SELECT r.good_revision FROM scheduling_run r JOIN portfolios_portfolio p"
            " ON p.id = r.portfolio_id WHERE p.name = %s AND p.archived_at IS NULL",
            EXTRA,
        ),
        lambda rows: rows not in ([], [(None,)]),
        "a good revision",
        FIRES_S,
    )
    context.watch(EXTRA)
    # Raise before the revision is proven: a proven revision is not rolled back.
    config = {"at_event": 1 + context.attempt % 4} if strategy == "raise_at" else {}
    changes = {"strategy": strategy, "config": config}
    with _dies(context, process, point):
        context.cluster.request("PATCH", f"/api/portfolios/{EXTRA}/", changes)


unloadable = partial(bad_reload, strategy="raise_on_load")
raising = partial(bad_reload, strategy="raise_at")


def lose_node(context: CaseContext, process: str, point: str) -> None:
    """Freeze a node until its portfolios have committed elsewhere."""
    node = DEMO_NODES[context.attempt % 3]
    names = context.cluster.portfolios_on(node)
    context.watch(names[0])
    daemon = context.cluster.daemon(node)
    with suspended(still_running(process_tree(daemon))):
        _die_in_a_pass(context, process, point)
        context.cluster.wait_for_commits_elsewhere(names, node, 60)


def restart_daemon(context: CaseContext, process: str, point: str) -> None:
    """Kill a daemon, which restarts under the same name."""
    node = DEMO_NODES[context.attempt % 3]
    context.watch(context.cluster.portfolios_on(node)[0])
    # Otherwise the watcher may place the node's portfolios elsewhere before its daemon is back.
    watchers = still_running(context.cluster.members("watcher"))
    with suspended(watchers), _dies(context, process, point):
        context.cluster.daemon(node).kill()


def _create_extra(context: CaseContext) -> None:
    """Create the extra portfolio and wait until it runs."""
    cluster = context.cluster
    cluster.request("POST", "/api/portfolios/", NEW_EXTRA)
    wait_for(
        lambda: cluster.runs().get(EXTRA),
        lambda run: run is not None and run.phase == "running" and run.last_seq > 0,
        f"{EXTRA} running",
        FIRES_S,
    )


def _die_in_a_pass(context: CaseContext, process: str, point: str) -> None:
    """Arm the failpoint and wait until a pass of `process`, watcher or worker, dies there.

    The watcher is faster than the worker, so it is suspended when the worker should run the pass.
    """
    watchers = context.cluster.members("watcher") if process == "worker" else []
    with suspended(still_running(watchers)):
        with _dies(context, process, point):
            pass  # the next scheduled pass reaches the failpoint
        if process == "worker":  # one of several worker processes died: kill the others as well
            kill_processes(context.cluster.members(process))


_EXPIRES = "handoff.expire:after_grant"
_EXITED = "process_failures.handle_process_exit:after_grant"

CASES = tuple(
    CrashCase(*case)
    for case in (
        ("requested, not yet durable", "web", "operations.migrate:after_insert", move),
        ("requested, answer lost", "web", "operations.migrate:committed", move),
        ("prepared report, before it counts", "web", "handoff.handle_prepared:after_move", move),
        ("prepared report, answer lost", "web", "handoff.handle_prepared:committed", move),
        ("release, before the grant", "web", "handoff.release:after_commit", move),
        ("grant, not yet durable", "web", "handoff.release:after_grant", move),
        ("grant, answer lost", "web", "handoff.release:committed", move),
        ("activating, at a commit", "web", "commit.commit:begin", move_activating),
        ("activating, commit's answer lost", "web", "commit.commit:after_commit", move_activating),
        ("drain deadline, the grant", "watcher", _EXPIRES, move_from_frozen_source),
        ("drain deadline, the grant", "worker", _EXPIRES, move_from_frozen_source),
        ("rollback, the grant back", "watcher", _EXPIRES, move_to_frozen_target),
        ("rollback, the grant back", "worker", _EXPIRES, move_to_frozen_target),
        ("reload that cannot prepare", "web", "handoff.handle_step_failure:after_move", unloadable),
        ("reload that raises, rolled back", "web", _EXITED, raising),
        ("place, the grant", "web", "handoff.handle_prepared:after_grant", place),
        ("stop, the release", "web", "handoff.release:after_grant", stop),
        ("stop past its deadline", "watcher", _EXPIRES, stop_of_frozen_owner),
        ("delete, not yet durable", "web", "operations.stop_run:after_insert", delete),
        ("delete, the release's answer lost", "web", "handoff.release:committed", delete),
        ("node marked lost", "watcher", "lease.mark_lost:after_mark_lost", lose_node),
        ("node marked lost", "worker", "lease.mark_lost:after_mark_lost", lose_node),
        ("failover requested", "watcher", "handoff.request_all:after_insert", lose_node),
        ("failover requested", "worker", "handoff.request_all:after_insert", lose_node),
        ("failover, the grant", "web", "handoff.handle_prepared:after_grant", lose_node),
        ("register, the grants", "web", "register.register:after_grant", restart_daemon),
    )
)


assert all(case.process in PROCESS_MATCH for case in CASES), "a case has an unknown process"
