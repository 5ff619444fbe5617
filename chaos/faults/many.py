"""Faults of one web process, the proxy, Redis or the primary of the fleet `many`.

No node is lost by a fault of a web process, the proxy or Redis. If a daemon is killed meanwhile or
just afterwards, its portfolios commit elsewhere as fast as usual. Once there is a new primary,
every portfolio soon commits.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from chaos.faults.database import have_committed, positions_of_owned
from chaos.faults.fault import Fault
from chaos.harness.many import network
from chaos.harness.many.cluster import ManyCluster
from chaos.harness.many.layout import PATRONI_PORT, POSTGRES
from chaos.harness.observation import ClusterRun
from chaos.runner.fault_context import BUDGET_FACTOR, RESTART_LIMIT_S, FaultContext
from chaos.runner.topology import HALTING

#: What the faults measure, as the report names it.
AT_ANOTHER = "every node's socket is at another web process"
COMMITS_AGAIN = "every portfolio commits again"
REPLACED = "a killed daemon's portfolios commit elsewhere"
NEW_PRIMARY = "a new primary"
COMMITS_AFTER = "every portfolio commits after the new primary's first answer"
STANDBY_BACK = "the former primary is a standby"
ALERTED = "the alert says how many commits vanished"
MADE_GOOD = "every portfolio is beyond what vanished"

#: Budgets: to commits, from the first answer of a new primary; to commits elsewhere, from the death
#: of a daemon.
COMMITS_WITHIN_S = 5.0
REPLACED_WITHIN_S = 5.0
#: HAProxy asks every second, waits for two and believes the second failure; a web process that gets
#: no answer from PostgreSQL says so after 5 s. Then a daemon connects again.
ROTATED_OUT_S = 8.0
#: Patroni's ttl of 20 s, and an election.
PROMOTED_WITHIN_S = 30.0
REJOINED_WITHIN_S = 90.0  #: until the former primary is a standby again
#: Until the daemons have compared the commits that they remember with those of the new primary.
ALERTED_WITHIN_S = 20.0

Runs = Mapping[str, ClusterRun]  #: by the portfolio's name

EVERY_CONNECTION = "HAProxy sends requests of every node to every web process"
NO_PRIMARY = "there is no primary"


def _cluster(context: FaultContext) -> ManyCluster:
    cluster = context.cluster
    assert isinstance(cluster, ManyCluster)
    return cluster


# --- web processes, proxy, Redis ------------------------------------------------------------------


def web_frozen(context: FaultContext) -> None:
    """SIGSTOP of the web process that holds a node's socket, for longer than a lease."""
    web = _choose_web(context)
    with context.suspended([_cluster(context).web_process(web)]):
        _expect_others_to_serve(context, web)
    _expect_web_back(context, web)


def web_killed(context: FaultContext) -> None:
    """kill -9 of the web process that holds a node's socket; it is down for longer than a lease."""
    web = _choose_web(context)
    cluster = _cluster(context)
    with context.kept_down([cluster.web_process(web)]):
        _expect_others_to_serve(context, web)
    _expect_web_back(context, web)


def web_database_cut(context: FaultContext) -> None:
    """Every packet between one web process and PostgreSQL is dropped for longer than a lease."""
    web = _choose_web(context)
    layout = _cluster(context).layout
    with network.cut_off(layout, layout.web_link(web)):
        _expect_others_to_serve(context, web)
    _expect_web_back(context, web)


def proxy_away(context: FaultContext) -> None:
    """HAProxy is killed and down for 8 s of a lease of 30 s; then a daemon is killed."""
    context.mark_all_affected("every connection goes through HAProxy")
    with _report_lost_nodes(context) as except_node:
        with context.kept_down(_cluster(context).processes_of("haproxy")):
            # A daemon whose connection was refused tries again every 2 s, however short its lease.
            context.sleep(context.ttl_s * 8 / 30)
            before, began = _positions(context), time.monotonic()
        _measure_commits(context, COMMITS_AGAIN, before, COMMITS_WITHIN_S, began)
        # When all sockets close at once, no node counts as gone. Wait until a closed socket counts
        # again.
        context.sleep(context.ttl_s / 3)
        except_node(_kill_a_daemon(context))


def redis_frozen(context: FaultContext) -> None:
    """SIGSTOP of Redis for longer than a lease."""
    (redis,) = _cluster(context).processes_of("redis-server")
    began = time.monotonic()
    with _report_lost_nodes(context) as except_node, context.suspended([redis]):
        context.sleep(context.ttl_s / 3)
        except_node(_kill_a_daemon(context))
        _sleep_until(context, began + context.ttl_s * 40 / 30)
    context.expect(context.cluster.is_ready, RESTART_LIMIT_S, "the API ready")


def _choose_web(context: FaultContext) -> int:
    """Return the number of the web process that holds the socket of a random node.
    Mark everything affected. If none holds it in time, report a violation and return 1."""
    context.mark_all_affected(EVERY_CONNECTION)
    cluster = _cluster(context)
    node = context.rng.choice(sorted(context.topology.nodes))
    found: list[int] = []

    def is_connected() -> bool:
        found[:] = [cluster.web_of(node)]
        return bool(found[0])

    context.expect(is_connected, 10 * BUDGET_FACTOR, f"a web process that holds {node}'s socket")
    web = found[0] or 1
    context.note(f"web-{web}, which holds the socket of {node}")
    return web


def _expect_others_to_serve(context: FaultContext, web: int) -> None:
    """While `web` serves nobody, expect sockets and commits at others. Kill a daemon meanwhile."""
    began = time.monotonic()
    cluster = _cluster(context)
    with _report_lost_nodes(context) as except_node:
        context.measure(
            AT_ANOTHER,
            lambda: all(cluster.web_of(node) not in (0, web) for node in context.topology.nodes),
            ROTATED_OUT_S,
            began,
        )
        before = _positions(context)
        _measure_commits(context, COMMITS_AGAIN, before, COMMITS_WITHIN_S, time.monotonic())
        except_node(_kill_a_daemon(context))
        _sleep_until(context, began + context.ttl_s * 40 / 30)


def _expect_web_back(context: FaultContext, web: int) -> None:
    """Expect that web process `web` writes its pulse again, and that the API is ready."""
    context.expect(
        lambda: web in _cluster(context).serving_webs(), RESTART_LIMIT_S, f"the pulse of web-{web}"
    )
    context.expect(context.cluster.is_ready, RESTART_LIMIT_S, "the API ready")


def _kill_a_daemon(context: FaultContext) -> str:
    """Kill a demo node's daemon, and expect its portfolios elsewhere. Return the node."""
    cluster = context.cluster
    node = context.choose_node([n for n in context.topology.nodes if n.startswith("node-")])
    owned: dict[str, ClusterRun] = {}

    def runs_something() -> bool:
        owned.update({run.name: run for run in cluster.runs_on(node) if run.phase == "running"})
        return bool(owned)

    context.expect(runs_something, 10 * BUDGET_FACTOR, f"a running portfolio on {node}")
    began = time.monotonic()
    context.kill_node(node)
    context.measure(
        REPLACED,
        lambda: committed_elsewhere(owned, cluster.runs(), lambda name: _has_place(context, name)),
        REPLACED_WITHIN_S,
        began,
    )
    return node


def committed_elsewhere(before: Runs, runs: Runs, has_place: Callable[[str], bool]) -> bool:
    """Whether each portfolio of `before` has committed under another daemon; False if it is empty.
    A portfolio that no node has room for may wait instead, and HALTING may have halted."""
    return bool(before) and all(
        (runs[name].incarnation != run.incarnation and runs[name].last_seq > run.last_seq)
        or (runs[name].phase == "halted" and name == HALTING)
        or (runs[name].phase == "pending" and not has_place(name))
        for name, run in before.items()
    )


def _has_place(context: FaultContext, name: str) -> bool:
    """Whether some node could run a portfolio; true if the API does not answer."""
    answer = context.request("GET", f"/api/schedule/targets/?portfolio={name}")
    if answer is None or answer.status != 200:
        return True
    return any(place["feasible"] for place in answer.json["results"])


#: Nodes that were lost after an event of the audit log, with the reason.
_LOSSES = """
SELECT n.name, e.reason FROM scheduling_event e JOIN scheduling_node n ON n.id = e.node_id
WHERE e.kind = 'node_lost' AND e.id > %s
"""


@contextmanager
def _report_lost_nodes(context: FaultContext) -> Iterator[Callable[[str], None]]:
    """Report a violation of I9 for each node lost in this block.

    Yield a function that excepts a node, because the fault kills its daemon.
    """
    ((last,),) = context.cluster.query("SELECT coalesce(max(id), 0) FROM scheduling_event")
    killed: list[str] = []
    yield killed.append
    for name, reason in context.cluster.query(_LOSSES, last):
        if name not in killed:
            context.report("I9", f"{name} was lost during a fault that loses no node: {reason}", {})


def _sleep_until(context: FaultContext, at: float) -> None:
    context.sleep(max(at - time.monotonic(), 0))


def _positions(context: FaultContext) -> dict[str, int]:
    """Return name → last seq of every running portfolio."""
    runs = context.cluster.runs().values()
    return {run.name: run.last_seq for run in runs if run.node and run.phase == "running"}


def _measure_commits(
    context: FaultContext, what: str, before: dict[str, int], budget_s: float, began: float
) -> None:
    """Measure the time from `began` until each portfolio has committed again, or has no owner.
    `before` has the last seq of each portfolio, by name."""
    context.measure(what, lambda: have_committed(context, before), budget_s, began)


# --- the primary ----------------------------------------------------------------------------------


def primary_killed(context: FaultContext) -> None:
    """kill -9 of the primary and its Patroni, as when their host loses power."""
    primary = _find_primary(context)
    processes = _cluster(context).server_processes(primary)
    with _promotion_check(context, primary), context.kept_down(processes):
        _expect_promotion(context, primary)


def primary_frozen(context: FaultContext) -> None:
    """SIGSTOP of the primary and its Patroni, which wake up when there is a new primary."""
    primary = _find_primary(context)
    processes = _cluster(context).server_processes(primary)
    with _promotion_check(context, primary), context.suspended(processes):
        _expect_promotion(context, primary)


def primary_dropped(context: FaultContext) -> None:
    """Every packet from and to the primary's host is dropped, until there is a new primary."""
    primary = _find_primary(context)
    layout = _cluster(context).layout
    link = layout.postgres_link(primary)
    with _promotion_check(context, primary), network.cut_off(layout, link):
        _expect_promotion(context, primary)


def switchover(context: FaultContext) -> None:
    """The primary hands over to its synchronous standby, as before an upgrade of its host."""
    primary = _find_primary(context)
    with _promotion_check(context, primary):
        began = time.monotonic()
        # Patroni refuses until it knows which standby is synchronous.
        context.expect(
            lambda: _ask_patroni(context, primary, "switchover", {"leader": f"db-{primary}"}),
            20 * BUDGET_FACTOR,
            "Patroni switches over",
        )
        _expect_promotion(context, primary, began)


def async_promotion(context: FaultContext) -> None:
    """A standby that lacks acknowledged commits is promoted; the loss is reported and made good.

    Once the epoch floor is raised, as the alert asks, every portfolio commits beyond what vanished.
    """
    cluster = _cluster(context)
    primary = _find_primary(context)
    context.disregard_pauses()
    with _promotion_check(context, primary):
        _ask_patroni(context, primary, "config", {"synchronous_mode": False}, "PATCH")
        context.undo.callback(_make_synchronous, context)
        context.expect(
            lambda: are_asynchronous(cluster.standbys()),
            30 * BUDGET_FACTOR,
            "no standby is synchronous",
        )
        _wait_until_noted(context, synchronous=False)
        processes = cluster.server_processes(primary)
        # Frozen senders: commits are acknowledged, and no standby has them.
        senders = [each for each in processes if "walsender" in " ".join(each.cmdline())]
        with context.suspended(senders):
            context.sleep(2)
            acknowledged = _positions(context)
            with context.kept_down(processes):
                context.forget_progress()
                _expect_promotion(context, primary, loses_commits=True)
                kept = positions_of_owned(context)
                promoted_at = time.monotonic()
        context.forget_progress()  # again: a sample in between may have been of the old primary
        missing = {name: seq - kept.get(name, seq) for name, seq in acknowledged.items()}
        vanished = sum(events for events in missing.values() if events > 0)
        context.note(f"{vanished} acknowledged events vanished")
        if not vanished:
            context.report("fault", "no acknowledged commit vanished in the promotion", {})
        # The alert has counts only after a daemon has reported missing commits.
        context.measure(
            ALERTED, lambda: "events: " in _vanished_alert(context), ALERTED_WITHIN_S, promoted_at
        )
        context.note(_vanished_alert(context))
        cluster.manage("raise_epoch_floor")
        _measure_commits(context, MADE_GOOD, acknowledged, 60, time.monotonic())
        context.expect(
            lambda: not _vanished_alert(context), 30 * BUDGET_FACTOR, "the alert is closed"
        )


def are_asynchronous(standbys: list[tuple[str, str]]) -> bool:
    """Whether there are standbys, and commits wait for none of them."""
    return bool(standbys) and all(state == "async" for _, state in standbys)


_VANISHED = (
    "SELECT reason FROM scheduling_alert WHERE kind = 'commits_vanished' AND closed_at IS NULL"
)
_NOTED = "SELECT synchronous FROM scheduling_databasetimeline ORDER BY id DESC LIMIT 1"


def _vanished_alert(context: FaultContext) -> str:
    """Return the text of the open alert on vanished commits, "" if none is open."""
    return "".join(row[0] for row in context.cluster.query(_VANISHED))


def _wait_until_noted(context: FaultContext, *, synchronous: bool) -> None:
    """Wait until the gateways know whether commits wait for a standby."""
    context.expect(
        lambda: context.cluster.query(_NOTED) == [(synchronous,)],
        60 * BUDGET_FACTOR,
        f"the gateways know that commits {'' if synchronous else 'do not '}wait for a standby",
    )


def _find_primary(context: FaultContext) -> int:
    """Mark everything affected. Return the primary's number once Patroni can promote a standby."""
    context.mark_all_affected(NO_PRIMARY)
    found = _cluster(context).primary()
    assert found is not None, "no server is the primary, although everything has converged"
    # Right after a promotion, the new primary may not have a standby that Patroni would promote.
    context.expect(
        lambda: bool(_cluster(context).successors(found)),
        30 * BUDGET_FACTOR,
        "Patroni has a standby to promote",
    )
    context.note(f"db-{found} is the primary")
    return found


@contextmanager
def _promotion_check(context: FaultContext, former: int) -> Iterator[None]:
    """Report nodes lost in this block; then expect the standbys back, and the API ready.

    The primary before, `former`, has to be among the standbys.
    """
    with _report_lost_nodes(context):
        yield
        context.measure(
            STANDBY_BACK,
            lambda: _are_standbys_back(context, former),
            REJOINED_WITHIN_S,
            time.monotonic(),
        )
    context.expect(context.cluster.is_ready, RESTART_LIMIT_S, "the API ready")


def _are_standbys_back(context: FaultContext, former: int) -> bool:
    """Whether each server but the primary is a standby, the former primary among them."""
    standbys = _cluster(context).standbys()
    return len(standbys) == len(POSTGRES) - 1 and f"db-{former}" in dict(standbys)


def _expect_promotion(
    context: FaultContext, primary: int, began: float = 0.0, *, loses_commits: bool = False
) -> None:
    """Measure the time until another server is the primary, and then until all portfolios commit.

    The first span starts at `began`, a monotonic time (0: now), the second at the promotion; it is
    left out if the promotion `loses_commits`.
    """
    cluster = _cluster(context)
    others = [server for server in POSTGRES if server != primary]
    found: list[int] = []

    def is_promoted() -> bool:
        found[:] = [server for server in others if cluster.is_primary(server)]
        return bool(found)

    if not context.measure(NEW_PRIMARY, is_promoted, PROMOTED_WITHIN_S, began or time.monotonic()):
        return
    promoted_at = time.monotonic()
    context.note(f"db-{found[0]} is the primary now")
    if not loses_commits:  # else failover is on hold, and commits of vanished epochs are refused
        before = positions_of_owned(context)
        _measure_commits(context, COMMITS_AFTER, before, COMMITS_WITHIN_S, promoted_at)


def _make_synchronous(context: FaultContext) -> None:
    """Let commits wait for a standby again, and wait until the gateways know it."""
    server = _cluster(context).primary()
    if server is None:
        context.report("fault", "no primary after the asynchronous promotion", {})
        return
    _ask_patroni(context, server, "config", {"synchronous_mode": True}, "PATCH")
    context.expect(
        lambda: any(state in ("sync", "quorum") for _, state in _cluster(context).standbys()),
        REJOINED_WITHIN_S,
        "a synchronous standby",
    )
    _wait_until_noted(context, synchronous=True)


def _ask_patroni(
    context: FaultContext, server: int, path: str, body: object, method: str = "POST"
) -> bool:
    """Send a request to the Patroni of a server. Return whether it answers 200.
    Another success counts as False. Raise an OSError if the request is refused."""
    host = _cluster(context).layout.postgres_host(server)
    request = urllib.request.Request(
        f"http://{host}:{PATRONI_PORT}/{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bool(answer.status == 200)


FAULTS = (
    Fault("primary-killed", primary_killed, 50, moves_nothing=True, alone=True),
    Fault("primary-frozen", primary_frozen, 50, moves_nothing=True, alone=True),
    Fault("primary-dropped", primary_dropped, 50, moves_nothing=True, alone=True),
    Fault("switchover", switchover, 15, moves_nothing=True, alone=True),
    Fault("async-promotion", async_promotion, 70, alone=True),
    Fault("web-frozen", web_frozen, 18, alone=True),
    Fault("web-killed", web_killed, 18, alone=True),
    Fault("web-database-cut", web_database_cut, 20, alone=True),
    Fault("proxy-away", proxy_away, 12, alone=True),
    Fault("redis-frozen", redis_frozen, 10, alone=True),
)
