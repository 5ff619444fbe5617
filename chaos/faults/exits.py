"""Exit reports that arrive a second time."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import psutil

from chaos.faults.fault import Fault
from chaos.faults.hostile import ABOVE_EVERY_VERSION, ask_gateway
from chaos.harness.observation import ClusterRun
from chaos.harness.processes import still_running
from chaos.runner.fault_context import BUDGET_FACTOR, FaultContext, NotAvailable
from chaos.runner.topology import HALTING
from scheduling.wire.messages import Heartbeat, ProcessExited, ProcessStatus

#: Budget for an exit to be reported, and for the portfolio to commit again after it: a heartbeat, a
#: start and the back-off before it.
REPORTED_WITHIN_S, BACK_WITHIN_S = 5.0, 15.0

#: The exits of a portfolio. A line of the audit log may count several (`times`): after ten lines in
#: ten minutes, further exits are counted in the newest (`MAX_EXITS`).
_EXIT_COUNTS = """
SELECT r.portfolio_id, coalesce(r.last_death::text, ''), r.attempts,
       (SELECT coalesce(sum(coalesce((e.data->>'times')::bigint, 1)), 0)::bigint
        FROM scheduling_event e
        WHERE e.portfolio_id = r.portfolio_id AND e.kind = 'process_died')
FROM scheduling_run r JOIN portfolios_portfolio p ON p.id = r.portfolio_id
WHERE p.name = %s AND p.archived_at IS NULL
"""

#: What the daemon of a node reported last.
_REPORTED = """
SELECT o.metrics::text, o.portfolios::text
FROM scheduling_nodereport o JOIN scheduling_node n ON n.id = o.node_id WHERE n.name = %s
"""


@dataclass(frozen=True)
class ExitCounts:
    """What the database has counted of a portfolio's exits."""

    portfolio: int  #: its id
    last_death: str  #: id of the exit that was applied last; "": none
    attempts: int  #: since its last commit
    exits: int  #: since it was created


def repeated_exit_report(context: FaultContext) -> None:
    """Reports of two exits of a process arrive again, the earlier one after the later one."""
    run = _choose_portfolio_behind_proxy(context)
    before = read_exit_counts(context, run.name)
    first = _kill_and_await_report(context, run)
    if not first:
        return
    _send_again(context, run, first)
    second = _kill_and_await_report(context, run)
    if not second:
        return
    for death in (first, second, first, second):
        _send_again(context, run, death)
    after = read_exit_counts(context, run.name)
    context.note(f"{run.name}: {after.exits - before.exits} exits counted of 2")
    for sentence in miscounts(before, after, exits=2):
        context.report("fault", f"{run.name}: {sentence}", {"before": before, "after": after})
    now = context.cluster.run(run.name)
    if now.ownership != run.ownership:
        context.report(
            "I9", f"{run.name} moved after two exits between commits", {"owner": now.ownership}
        )


def miscounts(before: ExitCounts, after: ExitCounts, exits: int) -> list[str]:
    """Return a sentence on each count that is wrong after `exits` exits with commits between."""
    found = []
    if after.exits - before.exits != exits:
        found.append(f"{after.exits - before.exits} exits were counted, not {exits}")
    if after.attempts > 1:
        found.append(f"{after.attempts} attempts were counted since its last commit, not 1")
    return found


def _choose_portfolio_behind_proxy(context: FaultContext) -> ClusterRun:
    """Choose a running portfolio of a node whose token is known, and mark it affected."""
    nodes = {
        run.node
        for run in context.cluster.runs().values()
        if run.phase == "running" and run.name != HALTING and run.node in context.topology.tokens
    }
    if not nodes:
        raise NotAvailable(f"no portfolio except {HALTING} is running on a node behind a proxy")
    chosen = context.rng.choice(sorted(str(node) for node in nodes))
    return context.choose_portfolio(on=chosen, but=[HALTING])


def read_exit_counts(context: FaultContext, name: str) -> ExitCounts:
    """Return what the database has counted of a portfolio's exits."""
    return ExitCounts(*context.cluster.query(_EXIT_COUNTS, name)[0])


def _kill_and_await_report(context: FaultContext, run: ClusterRun) -> str:
    """Kill a portfolio's process, and wait for commits after it. Return the id of the exit.

    Return "" if a step took too long, which is a violation.
    """
    before = read_exit_counts(context, run.name)

    def kill_it() -> bool:
        processes = still_running(_reported_processes(context, run.name))
        for process in processes:
            process.kill()
        return bool(processes)

    if not context.expect(kill_it, REPORTED_WITHIN_S * BUDGET_FACTOR, f"a process of {run.name}"):
        return ""
    is_reported = context.expect(
        lambda: read_exit_counts(context, run.name).last_death != before.last_death,
        REPORTED_WITHIN_S * BUDGET_FACTOR,
        f"a report of the exit of {run.name}",
    )
    if not is_reported:
        return ""
    reported = read_exit_counts(context, run.name).last_death
    seq = context.cluster.run(run.name).last_seq
    # After two exits without a commit between them, the portfolio would rightly be moved.
    is_back = context.expect(
        lambda: context.cluster.run(run.name).last_seq > seq,
        BACK_WITHIN_S * BUDGET_FACTOR,
        f"commits of {run.name} after its exit",
    )
    return reported if is_back else ""


def _reported_processes(context: FaultContext, name: str) -> list[psutil.Process]:
    """Return the portfolio's process, as its node reported it last.

    [] while it has none or the API gives no answer. Raise NoSuchProcess if it has ended since.
    """
    answer = context.request("GET", f"/api/portfolios/{name}/")
    run = answer.json["run"] if answer is not None and answer.status == 200 else {}
    return [psutil.Process(run["pid"])] if run.get("pid") else []


def _send_again(context: FaultContext, run: ClusterRun, death: str) -> None:
    """Send the report of an exit again, in a heartbeat of its daemon, until one is answered."""
    report = ProcessExited(
        death=death,
        portfolio=read_exit_counts(context, run.name).portfolio,
        epoch=run.epoch,
        revision=run.revision,
        seq=run.last_seq,
        stage="exit",
        error="a repeated report",
    )
    token = context.topology.tokens[str(run.node)]

    def is_answered() -> bool:
        beat = repeated_heartbeat(context, run, report)
        status, answer = ask_gateway(context, token, "heartbeat", beat)
        return status == 200 and answer["status"] == "ok"

    context.expect(is_answered, REPORTED_WITHIN_S * BUDGET_FACTOR, "an answer to the repeat")


def repeated_heartbeat(context: FaultContext, run: ClusterRun, report: ProcessExited) -> Heartbeat:
    """Return a heartbeat of the portfolio's node with what the daemon reported last, and `report`.

    Its metrics and portfolios replace those in the database.
    """
    ((metrics, portfolios),) = context.cluster.query(_REPORTED, run.node)
    return Heartbeat(
        incarnation=str(run.incarnation),
        have_version=ABOVE_EVERY_VERSION,
        metrics=msgspec.json.decode(metrics, type=dict[str, float]),
        portfolios=msgspec.json.decode(portfolios, type=list[ProcessStatus]),
        reports=[report],
    )


FAULTS = (Fault("repeated-exit-report", repeated_exit_report, 15, moves_nothing=True, alone=True),)
