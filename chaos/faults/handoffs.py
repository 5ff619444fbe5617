"""Faults during a migration: source, target or control plane killed, frozen or drained."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.faults.fault import Fault
from chaos.harness.observation import ClusterRun
from chaos.runner.fault_context import RESTART_LIMIT_S, WATCHER, WEB, FaultContext

HANDOFF_STATES = ("preparing", "draining", "activating")


def _begin(
    context: FaultContext, affects: str = "", among: Sequence[str] = ()
) -> tuple[ClusterRun, str, int | None]:
    """Migrate a portfolio, and return in a random state of the handoff or a little later.

    The target is a random node, of `among` if given. The node that `affects` names, `source` or
    `target`, is marked affected. Return the run before the handoff, the target, and the handoff's
    id, None if it was refused.
    """
    run = context.choose_portfolio()
    target = context.choose_target(run, among)
    if affects:
        context.mark_nodes_affected(target if affects == "target" else str(run.node))
    handoff = context.migrate(run, target)
    if handoff is not None:
        context.wait_for_handoff_state(handoff, context.rng.choice(HANDOFF_STATES))
        context.sleep(context.rng.choice((0.0, 0.0, 0.01, 0.03, 0.1)))
        context.note(f"injected when {context.handoff_state(handoff)}")
    return run, target, handoff


def control_plane_killed_in_handoff(context: FaultContext) -> None:
    """Web and watcher are killed during a handoff, which continues from its row."""
    context.mark_all_affected("every commit goes through the web")
    _, _, handoff = _begin(context)
    for victim in (context.processes_matching(WATCHER)[0], context.processes_matching(WEB)[0]):
        victim.kill()
    context.expect_handoff_end(handoff, 60)
    context.expect(context.cluster.is_ready, RESTART_LIMIT_S, "the API back")


def target_killed(context: FaultContext) -> None:
    """The target of a handoff is killed in a random state of it."""
    _, target, handoff = _begin(context, "target")
    context.kill_node(target)
    context.expect_handoff_end(handoff, 60)
    context.relaunch_if_proxied(target)


def target_restarted(context: FaultContext) -> None:
    """The target of a handoff is killed and restarts at once under the same name."""
    _, target, handoff = _begin(context, "target", sorted(context.topology.daemons))
    context.topology.daemons[target].kill()
    context.relaunch_if_proxied(target)
    context.expect_handoff_end(handoff, 60)


def target_drained(context: FaultContext) -> None:
    """The target of a handoff is drained in a random state of it."""
    _, target, handoff = _begin(context, "target")
    context.undo.callback(context.call_api, f"/api/nodes/{target}/undrain/")
    context.call_api(f"/api/nodes/{target}/drain/", {"reason": "chaos"})
    context.expect_handoff_end(handoff, 60)
    context.sleep(4)  # the drain moves some portfolios before it is ended


def target_sleeps(context: FaultContext) -> None:
    """The target of a handoff is frozen for longer than its lease."""
    _, target, handoff = _begin(context, "target")
    _freeze(context, target, handoff)


def source_killed(context: FaultContext) -> None:
    """The source of a handoff is killed in a random state of it."""
    run, _, handoff = _begin(context, "source")
    context.kill_node(str(run.node))
    context.expect_handoff_end(handoff, 60)
    context.relaunch_if_proxied(str(run.node))


def source_sleeps(context: FaultContext) -> None:
    """The source of a handoff is frozen for longer than its lease."""
    run, _, handoff = _begin(context, "source")
    _freeze(context, str(run.node), handoff)


def _freeze(context: FaultContext, node: str, handoff: int | None) -> None:
    """SIGSTOP of a node until the handoff has ended, and for one lease longer."""
    with context.suspended_node(node):
        context.expect_handoff_end(handoff, 60)
        context.sleep(context.ttl_s)


def everything_at_once(context: FaultContext) -> None:
    """migrate, reload, stop and kill at once for one portfolio, then start."""
    run = context.choose_portfolio()
    assert run.node is not None
    context.mark_nodes_affected(run.node)
    target = context.choose_target(run)
    requests = [("migrate/", {"target_node": target}), ("reload/", {}), ("stop/", {})]
    context.rng.shuffle(requests)
    context.undo.callback(context.call_api, f"/api/portfolios/{run.name}/start/")
    for path, body in requests:
        context.call_api(f"/api/portfolios/{run.name}/{path}", body)
    context.kill_node(run.node)
    context.expect(
        lambda: (
            context.cluster.run(run.name).phase == "stopped"
            and context.cluster.run(run.name).node is None
        ),
        60,
        f"{run.name} stopped",
        "I8",
    )
    context.relaunch_if_proxied(run.node)


FAULTS = (
    Fault("control-plane-in-handoff", control_plane_killed_in_handoff, 6, alone=True),
    Fault("target-killed", target_killed, 8),
    Fault("target-restarted", target_restarted, 8),
    Fault("target-drained", target_drained, 7),
    Fault("target-sleeps", target_sleeps, 16),
    Fault("source-killed", source_killed, 8),
    Fault("source-sleeps", source_sleeps, 16),
    Fault("all-at-once", everything_at_once, 8),
)
