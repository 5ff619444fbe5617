"""Request handoffs, and supersede active ones of lower precedence.

A pass requests many at once, an operator one, which is a batch of one. Each request is checked
under the lock of its run, so a refused one does not affect the others of its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.types.json import Jsonb

from portfolios.sentences import sentence as _
from scheduling import tracing
from scheduling.db.transaction import Row, Transaction, query
from scheduling.decide.precedence import outranks
from scheduling.decide.reasons import as_data
from scheduling.decide.types import NEEDS_OPERATOR_PHASES, Reason
from scheduling.enact.audit_log import Line, audit_all
from scheduling.enact.grant import lock_run, lock_runs
from scheduling.enact.handoff.statements import (
    ACTIVE_HANDOFFS,
    SET_PHASE,
    SUPERSEDE,
    TARGETS,
    NewHandoff,
    insert,
)
from scheduling.enact.handoff.symbols import (
    note_symbols_in_use,
    symbols_lost_by_reload,
    symbols_refusal,
)
from scheduling.enact.notify import bump_desired_versions, lock_nodes
from scheduling.errors import Refused
from scheduling.timing import Timing


@dataclass(frozen=True, slots=True)
class Request:
    """A handoff that a pass or an operator wants, not checked yet."""

    kind: str
    portfolio: int
    target: int | None  #: a node; None: of a stop
    reason: str
    to_revision: int | None = None  #: None: the running one
    why: Reason | None = None  #: `reason` as data, if a plan made it
    #: The epoch that an automatic pass decided on. If it has changed, another writer was faster.
    seen_epoch: int | None = None
    heeds_storm: bool = False  #: refuse while failover is held


def request(
    kind: str,
    portfolio: int,
    *,
    target: int | None,
    to_revision: int | None = None,
    actor: str,
    reason: str,
    timing: Timing,
    seen_epoch: int | None = None,
) -> Transaction[Row]:
    """Begin a handoff and return its row, or raise `Refused`.

    `to_revision` None: the running one. `seen_epoch`: refuse if the run has another epoch now. A
    reload is refused if it would remove a symbol in use.
    """
    if kind == "reload" and to_revision is not None:
        run = yield from lock_run(portfolio)
        if run is not None and (lost := (yield from symbols_lost_by_reload(run, to_revision))):
            raise symbols_refusal(run.name, lost, f"r{to_revision}")
    requested = Request(kind, portfolio, target, reason, to_revision, seen_epoch=seen_epoch)
    (answer,) = yield from request_all([requested], actor=actor, timing=timing)
    if isinstance(answer, Refused):
        raise answer
    assert answer is not None  # locked runs are waited for, not skipped
    return answer


def reload_to_wanted(
    portfolio: int, *, node: int, wanted: int, seen_epoch: int, timing: Timing
) -> Transaction[Row | None]:
    """Begin the reload to the wanted revision and return its handoff, or raise `Refused`.

    Return None if that would remove a symbol in use; the run then has this as its reason until the
    wanted revision runs.
    """
    run = yield from lock_run(portfolio)
    if run is not None and run.epoch == seen_epoch:
        symbols = yield from symbols_lost_by_reload(run, wanted)
        if symbols:
            yield from note_symbols_in_use(run, wanted, symbols)
            return None
    handoff = yield from request(
        "reload",
        portfolio,
        target=node,
        to_revision=wanted,
        actor="system",
        reason=f"r{wanted} is wanted",
        timing=timing,
        seen_epoch=seen_epoch,
    )
    return handoff


def request_all(
    requested: Sequence[Request], *, actor: str, timing: Timing, patient: bool = True
) -> Transaction[list[Row | Refused | None]]:
    """Begin handoffs of different portfolios in a constant number of statements.

    Return the row of each handoff or its refusal, in the order of the requests; earlier ones take
    the capacity of nodes first. If not `patient`, do not wait for a portfolio whose run is locked:
    return None for it, and also for a deleted one.
    """
    runs = yield from lock_runs([each.portfolio for each in requested], patient=patient)
    # Concurrent writers until here: a release, a register, a stop, an operator or another pass.
    # Their result is read after the locks are taken; from now on they wait.
    found = yield from query(ACTIVE_HANDOFFS, portfolios=sorted(runs))
    active = {row.portfolio_id: row for row in found}
    answers: dict[int, Row | Refused | None] = {
        each.portfolio: _refusal(each, runs.get(each.portfolio), active.get(each.portfolio))
        for each in requested
        if patient or each.portfolio in runs
    }
    accepted = [
        each for each in requested if each.portfolio in runs and answers[each.portfolio] is None
    ]
    if accepted:
        superseded = [active[each.portfolio] for each in accepted if each.portfolio in active]
        owners = [runs[each.portfolio].node_id for each in accepted]
        targets = sorted({each.target for each in accepted if each.target is not None})
        yield from lock_nodes([*owners, *targets, *_node_ids(superseded)])
        capacities = _Capacities((yield from query(TARGETS, nodes=targets)))
        for each in accepted:
            answers[each.portfolio] = capacities.take(
                each, runs[each.portfolio], active.get(each.portfolio)
            )
        accepted = [each for each in accepted if answers[each.portfolio] is None]
    if accepted:
        rows = yield from _insert_handoffs(
            accepted, runs, active, capacities.targets_by_id, actor, timing
        )
        answers |= {row.portfolio_id: row for row in rows}
    return [answers.get(each.portfolio) for each in requested]


def _refusal(requested: Request, run: Row | None, active: Row | None) -> Refused | None:
    """Return why a request is refused whatever its target is, or None. Pure."""
    kind = requested.kind
    if run is None:
        sentence = _("The portfolio with id {id} was deleted.", id=requested.portfolio)
        return Refused("not_found", sentence, status=404)
    if requested.seen_epoch is not None and run.epoch != requested.seen_epoch:
        sentence = _("{name} has got another owner or revision; read it again.", name=run.name)
        return Refused("superseded", sentence)
    if kind != "stop" and (run.desired_state == "stopped" or run.archived_at):
        # A halt or a stop was faster.
        return Refused(
            "already_stopped", _("{name} is to be stopped; start it first.", name=run.name)
        )
    if kind != "stop" and run.phase in NEEDS_OPERATOR_PHASES:
        # The portfolio was halted or quarantined since the caller read it; only an operator may
        # start it.
        return Refused(
            "already_stopped",
            _("{name} is {phase}; start it first.", name=run.name, phase=_(run.phase)),
        )
    if active is not None and not outranks(kind, active.kind):
        return handoff_refusal(run.name, active)
    return None


def handoff_refusal(name: str, active: Row) -> Refused:
    """Return the refusal of a request for a portfolio with an active handoff (row or model)."""
    return Refused(
        "handoff_in_progress",
        _(
            "{name} is already in handoff {id} ({kind}, {state}); wait until it has ended.",
            name=name,
            id=active.id,
            kind=_(active.kind),
            state=_(active.state),
        ),
        handoff=active.id,
    )


class _Capacities:
    """The targets of a batch, from rows of TARGETS, and the capacity that each has left."""

    def __init__(self, targets: Sequence[Row]) -> None:
        self.targets_by_id = {node.id: node for node in targets}
        self._held_weight = {node.id: node.held for node in targets}

    def take(self, requested: Request, run: Row, active: Row | None) -> Refused | None:
        """Reserve capacity on the target, or return why the portfolio cannot go there."""
        if requested.target is None:
            return None
        node = self.targets_by_id.get(requested.target)
        if node is None or node.incarnation is None or not node.valid:
            name = node.name if node is not None else f"number {requested.target}"
            return Refused(
                "node_lost",
                _(
                    "Node {node} cannot take {name}: its lease is not valid; choose another.",
                    node=name,
                    name=run.name,
                ),
            )
        if requested.heeds_storm and node.storm_held:
            # Since the plan was made, another watcher may have seen more nodes lost.
            return Refused("storm_hold", _("Failover is held; the next pass tries again."))
        # A superseded handoff frees the capacity that it holds on its source and its target, except
        # on the node that runs the portfolio.
        held_by = set() if active is None else {active.source_node_id, active.target_node_id}
        freed_nodes = held_by - {run.node_id}
        if requested.target != run.node_id:  # a reload on its node takes no further capacity
            freed_weight = run.weight if requested.target in freed_nodes else 0
            held = self._held_weight[requested.target] - freed_weight
            if held + run.weight > node.capacity:
                return Refused(
                    "node_full",
                    _(
                        "Node {node} has no room for {name} (weight {weight}): {held} of "
                        "{capacity} are taken; choose another.",
                        node=node.name,
                        name=run.name,
                        weight=run.weight,
                        held=held,
                        capacity=node.capacity,
                    ),
                )
            self._held_weight[requested.target] += run.weight
        for node_id in freed_nodes & self._held_weight.keys():
            self._held_weight[node_id] -= run.weight
        return None


def _insert_handoffs(
    requested: Sequence[Request],
    runs: dict[int, Row],
    active: dict[int, Row],
    targets_by_id: dict[int, Row],
    actor: str,
    timing: Timing,
) -> Transaction[list[Row]]:
    """Write checked handoffs, and supersede the active ones of their portfolios.

    The caller has locked the runs, the active handoffs and the nodes.
    """
    superseded = [active[each.portfolio] for each in requested if each.portfolio in active]
    whys = [f"a {each.kind} came first" for each in requested if each.portfolio in active]
    if superseded:
        yield from supersede_all(superseded, whys, bump=False)
    rows = yield from insert(
        [_new_handoff(each, runs[each.portfolio], targets_by_id, timing) for each in requested],
        actor,
    )
    yield from audit_all(
        "handoff_requested",
        [
            Line(
                row.portfolio_id,
                row.source_node_id if row.target_node_id is None else row.target_node_id,
                row.reason,
                {"handoff": row.id, "kind": row.kind},
            )
            for row in rows
        ],
        actor=actor,
    )
    for row in rows:
        if row.kind == "stop":  # a pass requests one stop at a time
            yield from query(
                SET_PHASE,
                portfolio=row.portfolio_id,
                epoch=row.from_epoch,
                phase="draining",
                reason=row.reason or None,
            )
    yield from bump_desired_versions(_node_ids([*rows, *superseded]))
    if tracing.is_on:
        for row in rows:
            _trace_request(row, runs[row.portfolio_id], targets_by_id.get(row.target_node_id))
    return rows


def _trace_request(row: Row, run: Row, target: Row | None) -> None:
    """Make the first span of the handoff's trace once Django's transaction commits."""
    from django.db import transaction

    span = tracing.handoff_span(
        row.id,
        tracing.REQUESTED,
        kind=row.kind,
        portfolio=run.name,
        cause=row.reason or None,
        epoch=row.from_epoch,
        source=run.node_name,
        target=None if target is None else target.name,
    )
    transaction.on_commit(span.end, robust=True)


def _new_handoff(
    requested: Request, run: Row, targets_by_id: dict[int, Row], timing: Timing
) -> NewHandoff:
    """Return the row of a requested handoff: a stop begins by draining, any other by preparing."""
    is_stop = requested.kind == "stop"
    return NewHandoff(
        portfolio=requested.portfolio,
        kind=requested.kind,
        state="draining" if is_stop else "preparing",
        reason=requested.reason,
        why=None if requested.why is None else Jsonb(as_data(requested.why)),
        source=run.node_id,
        source_incarnation=run.incarnation,
        target=requested.target,
        target_incarnation=None
        if requested.target is None
        else targets_by_id[requested.target].incarnation,
        from_epoch=run.epoch,
        from_revision=run.revision,
        to_revision=run.revision if requested.to_revision is None else requested.to_revision,
        deadline_s=timing.drain_deadline_s if is_stop else timing.prepare_deadline_s,
    )


def supersede(active: Row, why: str, *, bump: bool = True) -> Transaction[None]:
    """End an active handoff as superseded, with `why` as its error. See `supersede_all`."""
    yield from supersede_all([active], [why], bump=bump)


def supersede_all(active: Sequence[Row], whys: Sequence[str], *, bump: bool) -> Transaction[None]:
    """End active handoffs as superseded, each with its error in `whys`.

    `bump`: raise the desired versions of their nodes here; with False, the caller raises them.
    """
    rows = yield from query(SUPERSEDE, handoffs=[h.id for h in active], whys=whys)
    if rows:
        yield from audit_all(
            "handoff_superseded",
            [Line(row.portfolio_id, None, row.error, {"handoff": row.id}) for row in rows],
        )
        if bump:
            yield from bump_desired_versions(_node_ids(rows))


def _node_ids(handoffs: Sequence[Row]) -> list[int | None]:
    """Return the id of the source and of the target of each handoff, None where it has none."""
    return [node for h in handoffs for node in (h.source_node_id, h.target_node_id)]
