"""Faults of whole nodes: flapping, a name used twice, drains, loss of most nodes."""

from __future__ import annotations

from chaos.faults.fault import Fault
from chaos.harness.processes import process_tree
from chaos.runner.fault_context import BUDGET_FACTOR, FaultContext


def flapping(context: FaultContext) -> None:
    """A node is killed three times in succession, each time soon after it is back."""
    node, _ = context.choose_proxied_node()
    for _ in range(3):
        context.topology.daemons[node].kill()
        context.sleep(context.rng.uniform(1, 4))
        context.relaunch_if_proxied(node)
        context.expect(lambda: _is_back(context, node), 20 * BUDGET_FACTOR, f"{node} alive")


def _is_back(context: FaultContext, node: str) -> bool:
    """Return whether the newest daemon is alive. Start another, as a supervisor would, if it was
    refused: after two takeovers the third has to wait until the lease of the killed one ends."""
    if context.topology.daemons[node].poll() is not None:
        context.relaunch_if_proxied(node)
    return _is_alive(context, node)


def _is_alive(context: FaultContext, node: str) -> bool:
    ((status, pid),) = context.cluster.query(
        "SELECT status, pid FROM scheduling_node WHERE name = %s", node
    )
    return status == "alive" and pid == context.topology.daemons[node].pid


def name_twice(context: FaultContext) -> None:
    """A second daemon starts under the name of a live one: the newer wins, the older ends."""
    node, _ = context.choose_proxied_node()
    older = context.topology.daemons[node]
    context.topology.launch(node)
    context.expect(lambda: older.poll() is not None, 15 * BUDGET_FACTOR, f"the older {node} ended")
    if older.poll() == 0:
        context.report("fault", f"the superseded daemon of {node} ended with 0, not an error", {})
    if older.poll() is None:
        older.kill()


def drained(context: FaultContext) -> None:
    """A node is drained and undrained."""
    node = context.choose_node()
    context.undo.callback(context.call_api, f"/api/nodes/{node}/undrain/")
    context.call_api(f"/api/nodes/{node}/drain/", {"reason": "chaos"})
    context.expect(
        lambda: not context.cluster.portfolios_on(node),
        30 * BUDGET_FACTOR,
        f"no portfolio on {node}",
        "I8",
    )


def drained_without_room(context: FaultContext) -> None:
    """A node is drained while all others are cordoned; its portfolios stay running."""
    node = context.choose_node()
    for other in context.topology.nodes:
        if other != node:
            context.undo.callback(context.call_api, f"/api/nodes/{other}/uncordon/")
            context.call_api(f"/api/nodes/{other}/cordon/", {"reason": "chaos"})
    owned = context.cluster.portfolios_on(node)
    context.undo.callback(context.call_api, f"/api/nodes/{node}/undrain/")
    context.call_api(f"/api/nodes/{node}/drain/", {"reason": "chaos"})
    context.sleep(6)  # time for a pass, which must not begin a handoff that cannot end
    for name in owned:
        run = context.cluster.run(name)
        if run.node != node or run.phase != "running":
            context.report(
                "I8", f"{name} could not be placed elsewhere and is {run.phase} on {run.node}", {}
            )


def _choose_most(context: FaultContext) -> list[str]:
    """Choose three of the five nodes, and mark every portfolio affected."""
    chosen = context.rng.sample(sorted(context.topology.nodes), 3)
    context.mark_nodes_affected(*chosen)
    context.mark_all_affected("the remaining nodes may have no room")
    return chosen


def most_gone(context: FaultContext) -> None:
    """Three of five nodes are frozen at once for longer than their lease."""
    chosen = _choose_most(context)
    suspended = [
        process for node in chosen for process in process_tree(context.cluster.daemon(node))
    ]
    with context.suspended(suspended):
        context.sleep(context.ttl_s * 3)
    context.note(f"{', '.join(chosen)} gone")


def most_killed(context: FaultContext) -> None:
    """Three of five nodes are killed at once."""
    chosen = _choose_most(context)
    for node in chosen:
        context.kill_node(node)
    context.sleep(context.ttl_s)
    for node in chosen:
        context.relaunch_if_proxied(node)


def restarted(context: FaultContext) -> None:
    """A daemon is restarted at once under its name and keeps its portfolios."""
    node, _ = context.choose_proxied_node()
    owned = context.cluster.portfolios_on(node)
    context.topology.daemons[node].kill()
    context.relaunch_if_proxied(node)
    context.expect(lambda: _is_alive(context, node), 20 * BUDGET_FACTOR, f"{node} alive")
    stayed = set(owned) & set(context.cluster.portfolios_on(node))
    context.note(f"{len(stayed)} of {len(owned)} portfolios stayed")


FAULTS = (
    Fault("flapping-node", flapping, 20),
    Fault("name-twice", name_twice, 6),
    Fault("drain", drained, 6),
    Fault("drain-without-room", drained_without_room, 8, alone=True),
    Fault("most-nodes-gone", most_gone, 20, alone=True),
    Fault("most-nodes-killed", most_killed, 8, alone=True),
    Fault("daemon-restarted", restarted, 5),
)
