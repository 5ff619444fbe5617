"""Move, restart, start and stop portfolios."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import transaction

from portfolios.models import DesiredState, Portfolio, Revision, RevisionStatus
from portfolios.sentences import sentence as _
from scheduling.db.transaction import Row, Transaction, execute, query_one
from scheduling.decide.planner.group_targets import NoMove, group_target
from scheduling.decide.planner.targets import (
    NotInSnapshot,
    choose_target,
    granted_revision,
    target_reason,
    targets,
)
from scheduling.decide.types import NEEDS_OPERATOR_PHASES, Reason, Snapshot
from scheduling.enact import pin
from scheduling.enact.desired_state import want_running, want_stopped
from scheduling.enact.grant import lock_run
from scheduling.enact.handoff import request, revoke_ownership
from scheduling.enact.handoff.request_handoff import Request, handoff_refusal, request_all
from scheduling.enact.handoff.statements import LOCK_HANDOFF, active_handoff
from scheduling.enact.notify import notify_watchers
from scheduling.enact.portfolio_edits import edit_portfolio
from scheduling.enact.revisions import try_again
from scheduling.enact.start import make_pending, note_pending
from scheduling.errors import Invalid, NotFound, Refused, reason_sentence
from scheduling.models import ACTIVE_STATES, Handoff, Node, Phase, Run
from scheduling.observe.snapshot import observe
from scheduling.operations.edits import configuration_of, differences
from scheduling.operations.lookup import existing_portfolio, locked_portfolio, record_request
from scheduling.timing import timing

#: Portfolios that one request may move.
MAX_MOVED_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class MoveOutcome:
    """What became of one portfolio of a group: its handoff, or why it was not moved."""

    portfolio: str
    handoff: Handoff | None
    refused: Refused | None = None


def migrate(name: str, target: str | None, *, actor: str, reason: str = "") -> Handoff:
    """Begin to move the portfolio to the node `target`, and pin it there. Return the handoff.

    Without a target the balancer chooses the node, and an existing pin ends: the balancer would
    move the portfolio back to the pinned node at once. Raise NotFound, or Refused if the portfolio
    is in a handoff or stopped, or the node cannot take it.
    """
    portfolio = existing_portfolio(name)
    if target is not None and not Node.objects.filter(name=target).exists():
        raise NotFound("node", target)
    times = timing()
    run = Run.objects.select_related("node").get(pk=portfolio.pk)
    # Before `_refuse_inactive`, which advises to start: during a stop, only waiting helps.
    _refuse_in_handoff(portfolio)
    _refuse_inactive(portfolio, run)
    observed = observe(times)
    with _deletion_is_not_found():
        node = _choose_target_id(observed.snapshot, name, target)
        kind, revision = _kind_and_revision(observed.snapshot, name, run)

    def begin() -> Transaction[Row]:
        row = yield from request(
            kind,
            portfolio.pk,
            target=node,
            to_revision=revision,
            actor=actor,
            reason=reason,
            timing=times,
        )
        if target is not None:
            yield from pin.pin(portfolio.pk, node, actor=actor, reason=reason)
        else:
            yield from pin.unpin([portfolio.pk], actor=actor, reason=reason)
        return row

    return Handoff.objects.get(pk=execute(begin()).id)


def migrate_several(
    names: Sequence[str], target: str | None, *, actor: str, reason: str = ""
) -> list[MoveOutcome]:
    """Move each portfolio as `migrate` does, in one transaction; return what became of each.

    One that cannot move stays as it is and does not hold back the others. Raise NotFound if one
    does not exist, Invalid if there are none or too many: nothing is moved then.
    """
    names = list(dict.fromkeys(names))
    runs = _runs_to_move(names, target)
    refused = dict(_immovable(runs))
    snapshot = observe(timing()).snapshot
    movable = [name for name in names if name not in refused]
    try:
        answer = group_target(snapshot, movable, target)
    except NotInSnapshot as unseen:
        if unseen.what == "portfolio":  # concurrent writer: an operator deleted it
            raise NotFound("portfolio", unseen.name) from None
        assert target is not None, "only a stated target can be a node that has no daemon"
        raise _never_registered(target) from None
    refused |= {each.portfolio: _refusal_of(each, target) for each in answer.refused}
    ids = {view.name: view.id for view in snapshot.nodes}
    requests = []
    for name, node in answer.moves:
        kind, revision = _kind_and_revision(snapshot, name, runs[name])
        portfolio = runs[name].portfolio_id
        requests.append(Request(kind, portfolio, ids[node], reason, revision))

    # Concurrent writers: passes and operators. A move that they made impossible is refused when
    # the rows are locked.
    rows: list[Row | Refused | None] = []
    if requests:
        to_target = target is not None
        rows = execute(_begin_moves(requests, to_target=to_target, actor=actor, reason=reason))
    begun: dict[str, int] = {}
    for (name, _node), row in zip(answer.moves, rows, strict=True):
        if isinstance(row, Refused):
            refused[name] = row
        elif row is not None:
            begun[name] = row.id
    handoffs = Handoff.objects.select_related("portfolio", "source_node", "target_node").in_bulk(
        begun.values()
    )
    return [
        MoveOutcome(name, handoffs[begun[name]])
        if name in begun
        else MoveOutcome(name, None, refused[name])
        for name in names
    ]


def _runs_to_move(names: Sequence[str], target: str | None) -> dict[str, Run]:
    """Return the run of each portfolio, by name.

    Raise NotFound if the node `target` or a portfolio does not exist, Invalid for no names or too
    many.
    """
    if not 1 <= len(names) <= MAX_MOVED_AT_ONCE:
        message = _(
            "These are {count} portfolios; one request moves 1 to {most}.",
            count=len(names),
            most=MAX_MOVED_AT_ONCE,
        )
        raise Invalid([{"field": "portfolios", "code": "wrong_length", "message": message}])
    if target is not None and not Node.objects.filter(name=target).exists():
        raise NotFound("node", target)
    runs = Run.objects.select_related("node", "portfolio").filter(
        portfolio__name__in=names, portfolio__archived_at=None
    )
    found = {run.portfolio.name: run for run in runs}
    missing = [name for name in names if name not in found]
    if missing:
        raise NotFound("portfolio", missing[0])
    return found


def _begin_moves(
    requests: Sequence[Request], *, to_target: bool, actor: str, reason: str
) -> Transaction[list[Row | Refused | None]]:
    """Begin the handoffs. Pin the portfolios that move `to_target`, end the pins of others.

    Return for each request its handoff's row or its refusal. A refused portfolio keeps its pin.
    """
    rows = yield from request_all(requests, actor=actor, timing=timing())
    begun = [each for each, row in zip(requests, rows, strict=True) if not isinstance(row, Refused)]
    portfolios = [each.portfolio for each in begun]
    if to_target:
        nodes = [each.target for each in begun if each.target is not None]
        yield from pin.pin_all(portfolios, nodes, actor=actor, reason=reason)
    else:
        yield from pin.unpin(portfolios, actor=actor, reason=reason)
    return rows


def _immovable(runs: dict[str, Run]) -> Iterator[tuple[str, Refused]]:
    """Yield (name, refusal) of each of the runs' portfolios that cannot move to any node now."""
    active = Handoff.objects.filter(
        portfolio__in=[run.portfolio_id for run in runs.values()], state__in=ACTIVE_STATES
    )
    in_handoff = {handoff.portfolio_id: handoff for handoff in active}
    for name, run in runs.items():
        if run.portfolio_id in in_handoff:  # first, as in `migrate`
            yield name, handoff_refusal(name, in_handoff[run.portfolio_id])
            continue
        try:
            _refuse_inactive(run.portfolio, run)
        except Refused as refused:
            yield name, refused


def _refusal_of(found: NoMove, target: str | None) -> Refused:
    """Return the refusal of a portfolio that cannot move to `target`, or (None) to any node."""
    name, why = found.portfolio, reason_sentence(found.reason)
    if target is not None and found.reason.code == "on_node":  # as "node-2 is lost"
        message = _("{name} cannot move to {target}: {why}.", name=name, target=target, why=why)
    else:
        message = _("{name} {why}.", name=name, why=why)
    return Refused(found.code, message)


def _kind_and_revision(snapshot: Snapshot, name: str, run: Run) -> tuple[str, int | None]:
    """Return the kind of the handoff that moves the portfolio, and the revision that it brings.

    None: the revision that the run has when its row is locked for the handoff.
    """
    statuses = {view.id: view.status for view in snapshot.nodes}
    if run.node_id is None:
        return "place", granted_revision(snapshot, name)
    if statuses.get(run.node_id) in ("lost", "left"):
        return "failover", granted_revision(snapshot, name)
    return "migrate", None


def reload(name: str, *, actor: str, reason: str = "", revision: int | None = None) -> Handoff:
    """Begin to restart the portfolio, make before break, and return the handoff.

    It restarts with the wanted revision, or with `revision`, which becomes the wanted one. A
    rejected revision is tried again, since the operator asks for it. Raise NotFound or Refused.
    """
    with transaction.atomic():
        portfolio = locked_portfolio(name)
        # The run is locked before the revision, as in the report of a process exit.
        execute(lock_run(portfolio.pk))
        run = Run.objects.select_related("node").get(pk=portfolio.pk)
        _refuse_in_handoff(portfolio)
        if run.node_id is None:
            message = _(
                "{name} cannot be reloaded: no node runs it ({phase}). Start it instead.",
                name=name,
                phase=_(run.phase),
            )
            if run.phase == Phase.PENDING and portfolio.desired_state == DesiredState.RUNNING:
                message = _(
                    "{name} cannot be reloaded: it is pending. It starts once a node can run it.",
                    name=name,
                )
            raise Refused("already_stopped", message)
        number = portfolio.revision if revision is None else revision
        found = portfolio.revisions.filter(number=number).first()
        if found is None:
            message = _("{name} has no revision r{number}.", name=name, number=number)
            raise Refused("not_found", message, status=404)
        refuse_if_node_lacks(run, found)
        if found.status == RevisionStatus.REJECTED:
            execute(try_again(portfolio.pk, number))
        if portfolio.revision != number:
            before = portfolio.revisions.get(number=portfolio.revision)
            changed = differences(configuration_of(before), configuration_of(found))
            edited = execute(
                edit_portfolio(portfolio.pk, number, {}, seen_revision=portfolio.revision)
            )
            assert edited, "nobody else can have changed the locked row"
            fields = sorted({change.field.partition(".")[0] for change in changed})
            execute(
                record_request(
                    "portfolio_changed", portfolio.pk, actor, reason, fields=fields, revision=number
                )
            )
        return begin_handoff(
            "reload", portfolio.pk, run.node_id, number, actor=actor, reason=reason
        )


def begin_handoff(
    kind: str, portfolio: int, node: int | None, revision: int | None, *, actor: str, reason: str
) -> Handoff:
    """Begin a handoff of the portfolio to `node` with `revision`, and return it.

    None for `revision` is the one that runs. Raise Refused.
    """
    begun = request(
        kind,
        portfolio,
        target=node,
        to_revision=revision,
        actor=actor,
        reason=reason,
        timing=timing(),
    )
    return Handoff.objects.get(pk=execute(begun).id)


def start(name: str, *, actor: str, reason: str = "") -> Handoff | None:
    """Want the portfolio to run, also if it is halted or quarantined, and begin its placement.

    Return the handoff, or None if no node has room or a pass has to place it. Raise NotFound, or
    Refused if it should run already and is neither halted nor quarantined.
    """
    with transaction.atomic():
        portfolio = locked_portfolio(name)
        run = execute(lock_run(portfolio.pk))
        assert run is not None, "every portfolio has a run"
        needs_start = run.phase in NEEDS_OPERATOR_PHASES
        if portfolio.desired_state == DesiredState.RUNNING and not needs_start:
            raise Refused(
                "already_running", _("{name} is already {phase}.", name=name, phase=_(run.phase))
            )
        execute(want_running(portfolio.pk))
        execute(make_pending(portfolio.pk))
        execute(record_request("portfolio_started", portfolio.pk, actor, reason))
    observed = observe(timing())
    with _deletion_is_not_found():
        chosen = choose_target(observed.snapshot, name)
    if isinstance(chosen, Reason):
        execute(note_pending(portfolio.pk, chosen))
        return None
    node = next(view.id for view in observed.snapshot.nodes if view.name == chosen.node)
    revision = granted_revision(observed.snapshot, name)
    try:
        return begin_handoff("place", portfolio.pk, node, revision, actor=actor, reason=reason)
    except Refused:
        # concurrent writers: the woken pass, which may have placed the portfolio already, or a
        # loss of the node, after which the next pass places it. An active stop is no start: the
        # portfolio is placed once it has ended.
        active = Handoff.objects.filter(portfolio=portfolio, state__in=ACTIVE_STATES)
        return active.exclude(kind="stop").first()


def stop(name: str, *, actor: str, reason: str = "") -> Handoff:
    """Begin to stop the portfolio: it makes its last commit and is then owned by no node.

    Return the handoff. Raise NotFound, or Refused if the portfolio is stopped or stopping already.
    """
    with transaction.atomic():
        portfolio = locked_portfolio(name)
        run = Run.objects.get(pk=portfolio.pk)
        if portfolio.desired_state == DesiredState.STOPPED:
            raise Refused(
                "already_stopped",
                _("{name} is already stopped.", name=name)
                if run.node_id is None
                else _("{name} is already stopping.", name=name),
            )
        execute(want_stopped(portfolio.pk))
        row = execute(stop_run(portfolio.pk, actor, reason))
        execute(record_request("portfolio_stopped", portfolio.pk, actor, reason))
    return Handoff.objects.get(pk=row.id)


def unpin(name: str, *, actor: str) -> Portfolio:
    """End the pin, if any: the balancer may move the portfolio again. Return the portfolio."""
    portfolio = existing_portfolio(name)
    execute(_unpin(portfolio.pk, actor))
    return portfolio


def _unpin(portfolio: int, actor: str) -> Transaction[None]:
    if (yield from pin.unpin([portfolio], actor=actor)):
        yield from notify_watchers()


def stop_run(portfolio: int, actor: str, reason: str) -> Transaction[Row]:
    """Begin a stop and return its handoff's row, or that of a stop under way.

    A begun stop ends at once if no node owns the portfolio or the owner is unreachable: nobody
    would release it.
    """
    yield from lock_run(portfolio)
    active = yield from active_handoff(portfolio)
    if active is not None and active.kind == "stop":
        return active
    row = yield from request(
        "stop", portfolio, target=None, actor=actor, reason=reason, timing=timing()
    )
    owner = yield from lock_run(portfolio)  # again: the request has changed it
    handoff = yield from query_one(LOCK_HANDOFF, handoff=row.id)
    assert owner is not None and handoff is not None
    # The source has a valid lease, and its daemon has not started again since the grant.
    reachable = handoff.source_valid and handoff.source_lease == handoff.source_incarnation
    if owner.node_id is None or not reachable:
        yield from revoke_ownership(handoff, owner, reason=reason)
    return row


def _choose_target_id(snapshot: Snapshot, name: str, target: str | None) -> int:
    """Return the id of the node `target`, or with None of the node that the balancer chooses.

    Raise Refused with the reason if that node, or with None every node, cannot take the portfolio.
    """
    ids = {view.name: view.id for view in snapshot.nodes}
    if target is None:
        choice = choose_target(snapshot, name)
        if isinstance(choice, Reason):
            why = reason_sentence(choice)  # such as "needs 3 places: there is no node yet"
            raise Refused("no_room", _("{name} {why}.", name=name, why=why))
        return ids[choice.node]
    if target not in ids:
        raise _never_registered(target)
    answer = next(each for each in targets(snapshot, name) if each.node == target)
    if not answer.feasible:
        message = _(
            "{name} cannot move to {target}: {why}.",
            name=name,
            target=target,
            why=reason_sentence(target_reason(snapshot, name, target)),
        )
        raise Refused(answer.code or "no_room", message)
    return ids[target]


@contextmanager
def _deletion_is_not_found() -> Iterator[None]:
    """Raise NotFound for a portfolio that an operator deleted before the snapshot was read."""
    try:
        yield
    except NotInSnapshot as unseen:
        raise NotFound(unseen.what, unseen.name) from None


def _never_registered(target: str) -> Refused:
    """Return the refusal of a move to a node that has a token, and no daemon yet."""
    return Refused(
        "node_lost",
        _("Nothing can move to {target}, whose daemon never registered; start it.", target=target),
    )


def refuse_if_node_lacks(run: Run, revision: Revision) -> None:
    """Raise Refused if the owner's node lacks the strategy or the Python that `revision` needs.

    A reload there would fail, and its failure would reject the revision.
    """
    node = run.node
    assert node is not None
    artifact = revision.artifact
    if artifact is not None:
        if artifact.pythons and node.python and node.python not in artifact.pythons:
            message = _(
                "{node}, which runs {name}, has Python {python}, and {artifact}, which "
                "r{number} runs, needs Python {python_requirement}; migrate {name} to a node "
                "with that version first.",
                node=node.name,
                name=revision.portfolio.name,
                python=node.python,
                artifact=artifact,
                number=revision.number,
                python_requirement=artifact.python_requirement,
            )
            raise Refused("node_lacks", message)
        return
    if node.strategies.get(revision.strategy) != revision.strategy_version:
        message = _(
            "{node}, which runs {name}, lacks strategy {strategy} {strategy_version}, "
            "which r{number} needs; install it there first.",
            node=node.name,
            name=revision.portfolio.name,
            strategy=revision.strategy,
            strategy_version=revision.strategy_version,
            number=revision.number,
        )
        raise Refused("node_lacks", message)


def _refuse_inactive(portfolio: Portfolio, run: Run) -> None:
    """Raise Refused for a portfolio that is stopped, halted or quarantined."""
    if portfolio.desired_state == DesiredState.STOPPED or run.phase in NEEDS_OPERATOR_PHASES:
        message = _(
            "{name} cannot be moved: it is {phase}. Start it first.",
            name=portfolio.name,
            phase=_(run.phase),
        )
        raise Refused("already_stopped", message)


def _refuse_in_handoff(portfolio: Portfolio) -> None:
    """Raise Refused for a portfolio with a handoff under way."""
    active = Handoff.objects.filter(portfolio=portfolio, state__in=ACTIVE_STATES).first()
    if active is not None:
        raise handoff_refusal(portfolio.name, active)
