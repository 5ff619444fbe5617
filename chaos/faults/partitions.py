"""Network faults between one node and the server, while both keep running."""

from __future__ import annotations

from chaos.faults.daemons import are_elsewhere
from chaos.faults.fault import Fault, titled
from chaos.runner.fault_context import BUDGET_FACTOR, FaultContext

_LEFT_OF_LEASE = """
SELECT extract(epoch FROM l.expires_at - clock_timestamp())::float8
FROM scheduling_lease l JOIN scheduling_node n ON n.id = l.node_id WHERE n.name = %s
"""


def silence_short(context: FaultContext) -> None:
    """Traffic of a node is held back for two thirds of a lease that has just been renewed.

    At another moment the last renewal may be an interval old, which is a quarter to a third of a
    lease: two thirds more would reach the end of the lease.
    """
    node, proxy = context.choose_proxied_node()
    is_renewed = context.expect(
        lambda: any(
            is_just_renewed(left_s, context.ttl_s)
            for (left_s,) in context.cluster.query(_LEFT_OF_LEASE, node)
        ),
        context.ttl_s * BUDGET_FACTOR,
        f"a renewal of the lease of {node}",
    )
    if is_renewed:
        with proxy.hold_traffic():
            context.sleep(context.ttl_s * 2 / 3)


def is_just_renewed(left_s: float, ttl_s: float) -> bool:
    """Whether a lease with `left_s` seconds left was renewed 3 % to 10 % of its duration ago.

    Sooner, the answer to the renewing heartbeat may still be on its way, and a daemon counts its
    lease from the last heartbeat that was answered.
    """
    return 0.9 * ttl_s <= left_s <= 0.97 * ttl_s


def silence_long(context: FaultContext) -> None:
    """Traffic of a node is held back for more than a lease; its portfolios fail over."""
    node, proxy = context.choose_proxied_node()
    owned = context.cluster.portfolios_on(node)
    with proxy.hold_traffic():
        context.expect(
            lambda: are_elsewhere(context, owned, node),
            (context.ttl_s + 3) * BUDGET_FACTOR,
            f"{', '.join(owned)} elsewhere than on the partitioned {node}",
        )
        context.sleep(context.ttl_s)


def _silence(context: FaultContext, to_server: bool) -> None:
    """Hold back traffic of a node in one direction for one and a half leases."""
    _, proxy = context.choose_proxied_node()
    with proxy.hold_traffic(to_server=to_server, to_node=not to_server):
        context.sleep(context.ttl_s * 1.5)


silence_to_server = titled(
    "Nothing reaches the server, while its answers reach the node.", _silence, True
)
silence_to_node = titled(
    "Nothing reaches the node: its requests arrive, and their answers are held back.",
    *(_silence, False),
)


def resets(context: FaultContext) -> None:
    """Every connection of a node is reset, eight times."""
    _, proxy = context.choose_proxied_node()
    for _ in range(8):
        proxy.reset()
        context.sleep(context.rng.uniform(0.1, 0.6))


def answers_lost(context: FaultContext) -> None:
    """Commits arrive and their answers are lost; the repeated commits write nothing."""
    _, proxy = context.choose_proxied_node()
    for _ in range(3):
        with proxy.hold_traffic(to_server=False):
            context.sleep(0.5)
            proxy.reset()
        context.sleep(1)


def release_answer_lost(context: FaultContext) -> None:
    """A release arrives and its answer is lost."""
    node, proxy = context.choose_proxied_node()
    run = context.choose_portfolio(on=node)
    handoff = context.migrate(run, context.choose_target(run))
    if handoff is None:
        return
    context.wait_for_handoff_state(handoff, "draining")
    with proxy.hold_traffic(to_server=False):
        context.sleep(context.rng.uniform(0.05, 0.5))
        proxy.reset()
    context.expect_handoff_end(handoff, 20 * BUDGET_FACTOR)


FAULTS = (
    Fault("silence-short", silence_short, 6, moves_nothing=True),
    Fault("silence-long", silence_long, 16),
    Fault("silence-to-server", silence_to_server, 10),
    Fault("silence-to-node", silence_to_node, 10),
    Fault("resets", resets, 5, moves_nothing=True),
    Fault("answers-lost", answers_lost, 6, moves_nothing=True),
    Fault("release-answer-lost", release_answer_lost, 4),
)
