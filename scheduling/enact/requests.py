"""What people may ask for. Each door (REST, admin, command, board) calls one of these, no more.

Every function is one transaction and raises `scheduling.errors.Refused` when the answer is no.
`actor` is the name that the audit trail keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from portfolios import definition
from portfolios.feeds_setup import current_head, ensure_feed
from portfolios.models import (
    CatchUp,
    DesiredState,
    FeedRow,
    FeedSegment,
    Portfolio,
    Revision,
    RevisionStatus,
)
from portfolios.runtime.state import decode_state
from portfolios.strategies import registry
from scheduling.decide.reasons import render
from scheduling.decide.targets import choose_target, targets
from scheduling.decide.world import Reason
from scheduling.enact.audit import audit
from scheduling.enact.grant import lock_run
from scheduling.enact.handoff import ACTIVE_HANDOFF, LOCK_HANDOFF, end_run, request
from scheduling.enact.hints import touch, wake
from scheduling.enact.recipe import Recipe, Row, one, run
from scheduling.enact.timing import timing
from scheduling.errors import Invalid, NotFound, Refused
from scheduling.models import ACTIVE_STATES, Control, Handoff, Node, Phase, Run
from scheduling.observe.snapshot import observe

CONFIGURATION = ("strategy", "config", "symbols", "limits")
WISHES = ("weight", "priority", "selector", "spread_group", "spread_hard", "catch_up")


@dataclass(frozen=True, slots=True)
class NewPortfolio:
    """What a person gives to create a portfolio. Raw values: they are checked, fields are named."""

    name: str
    strategy: str
    config: dict[str, Any] = field(default_factory=dict)
    symbols: list[str] = field(default_factory=list)
    limits: dict[str, Any] = field(default_factory=dict)
    weight: int = 1
    priority: int = 0
    selector: dict[str, str] = field(default_factory=dict)
    spread_group: str = ""
    spread_hard: bool = False
    catch_up: str = "state_only"
    starting_cash: Decimal = Decimal("100000")
    desired_state: str = "running"
    note: str = ""


# --- portfolios: create, revise, delete ----------------------------------------------------------


def create_portfolio(new: NewPortfolio, *, actor: str) -> Portfolio:
    """Create a portfolio with revision 1, pending until the next pass, which is woken."""
    errors = definition.name_errors(new.name)
    errors += definition.configuration_errors(new.strategy, new.config, new.symbols, new.limits)
    errors += definition.cash_errors(new.starting_cash)
    errors += _wish_errors({name: getattr(new, name) for name in WISHES})
    if new.desired_state not in DesiredState.values:
        errors.append(_choice("desired_state", new.desired_state, DesiredState.values))
    if errors:
        raise Invalid(errors)
    # The feed is there already unless this is the first portfolio; a paused one stays paused.
    feed = FeedRow.objects.first() or ensure_feed(settings.GINKGO.feed_rate)
    first_seq = max(current_head(feed.name), 1)
    running = new.desired_state == DesiredState.RUNNING
    try:
        with transaction.atomic():
            portfolio = Portfolio.objects.create(
                name=new.name,
                weight=new.weight,
                priority=new.priority,
                selector=dict(new.selector),
                spread_group=new.spread_group,
                spread_hard=new.spread_hard,
                catch_up=new.catch_up,
                desired_state=new.desired_state,
                starting_cash=Decimal(str(new.starting_cash)),
                feed=feed,
                first_seq=first_seq,
            )
            _add_revision(portfolio, 1, new.strategy, new.config, new.symbols, new.limits,
                          note=new.note, actor=actor)  # fmt: skip
            Run.objects.create(
                portfolio=portfolio,
                last_seq=first_seq - 1,
                state_seq=first_seq - 1,
                phase=Phase.PENDING if running else Phase.STOPPED,
                reason="waits for the next pass" if running else "",
            )
            run(_told("portfolio_created", portfolio.pk, actor, new.note, revision=1))
    except IntegrityError as error:
        # Two creations of one name: the unique name decides, whichever came first.
        if "portfolio_name_once" in str(error):
            raise Refused(
                "name_taken", f"There is a portfolio named {new.name}; choose another name."
            ) from None
        raise
    return portfolio


def revise_portfolio(
    name: str, changes: dict[str, Any], *, actor: str
) -> tuple[Portfolio, Handoff | None]:
    """Apply `changes` (any fields of NewPortfolio but name and starting_cash).

    A change of strategy, config, symbols or limits makes a new revision, and a reload if it runs.
    Return the portfolio and the reload's handoff, or None where nothing needs to move.
    """
    known = (*CONFIGURATION, *WISHES, "note")
    wrong = [
        definition.error(key, "not_changeable", f"{key} cannot be changed; {', '.join(known)} can.")
        for key in changes
        if key not in known
    ]
    if wrong:
        raise Invalid(wrong)
    with transaction.atomic():
        portfolio = _locked(name)
        current = portfolio.revisions.get(number=portfolio.revision)
        wanted = {key: changes.get(key, getattr(current, key)) for key in CONFIGURATION}
        errors = definition.configuration_errors(**wanted, feed=portfolio.feed.name)
        wishes = {key: changes[key] for key in WISHES if key in changes}
        errors += _wish_errors(wishes)
        if errors:
            raise Invalid(errors)
        _refuse_held_symbols(portfolio, wanted["symbols"])
        for key, value in wishes.items():
            setattr(portfolio, key, value)
        revised = any(wanted[key] != getattr(current, key) for key in CONFIGURATION)
        if revised:
            last = portfolio.revisions.order_by("-number").values_list("number", flat=True)[0]
            portfolio.revision = last + 1
            _add_revision(portfolio, last + 1, **wanted, note=changes.get("note", ""), actor=actor)
        portfolio.save()
        if wishes:
            owner = Run.objects.values_list("node_id", flat=True).get(pk=portfolio.pk)
            run(touch([owner]))  # what is said of it in the node's set may be another now
        if revised or wishes:
            run(
                _told(
                    "portfolio_changed",
                    portfolio.pk,
                    actor,
                    str(changes.get("note", "")),
                    fields=sorted(key for key in changes if key != "note"),
                    revision=portfolio.revision,
                )
            )
    if not revised:
        return portfolio, None
    return portfolio, _reload_if_running(portfolio, actor, f"r{portfolio.revision} by {actor}")


def delete_portfolio(name: str, *, actor: str, reason: str = "") -> Handoff | None:
    """Archive it: release it for certain, keep orders and audit, free the name."""
    with transaction.atomic():
        portfolio = _locked(name)
        portfolio.desired_state = DesiredState.STOPPED
        portfolio.archived_at = timezone.now()
        portfolio.save(update_fields=["desired_state", "archived_at"])
        row = run(_stop(portfolio.pk, actor, reason or "deleted"))
        run(_told("portfolio_deleted", portfolio.pk, actor, reason))
    return None if row is None else Handoff.objects.get(pk=row.id)


# --- portfolios: move, restart, start, stop ------------------------------------------------------


def migrate(name: str, target: str | None, *, actor: str, reason: str = "") -> Handoff:
    """Move it to the node named `target` and pin it there; without one the balancer chooses."""
    portfolio = _present(name)
    if target is not None and not Node.objects.filter(name=target).exists():
        raise NotFound("node", target)
    times = timing()
    current = Run.objects.select_related("node").get(pk=portfolio.pk)
    _refuse_unowned(portfolio, current)
    _refuse_in_handoff(portfolio)
    observed = observe(times)
    node = _chosen(observed.snapshot, name, target)
    alive = {view.id: view.status for view in observed.snapshot.nodes}
    revision: int | None
    if current.node_id is None:
        kind, revision = "place", observed.rows[portfolio.pk].revision
    elif alive.get(current.node_id) in ("lost", "left"):
        kind, revision = "failover", current.good_revision or current.revision
    else:
        kind, revision = "migrate", None  # the one that runs when it is asked, under the lock

    def recipe() -> Recipe[Row]:
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
            yield from one(PIN, portfolio=portfolio.pk, node=node)
            yield from audit(
                "pinned", portfolio=portfolio.pk, node=node, actor=actor, reason=reason
            )
        return row

    return Handoff.objects.get(pk=run(recipe()).id)


def reload(name: str, *, actor: str, reason: str = "", revision: int | None = None) -> Handoff:
    """Restart it make-before-break with the wanted revision, or with `revision`, then wanted.

    A rejected revision is tried again: asking for it is the consent.
    """
    with transaction.atomic():
        portfolio = _locked(name)
        run(lock_run(portfolio.pk))  # before the revision, as a death report locks them
        current = Run.objects.select_related("node").get(pk=portfolio.pk)
        _refuse_in_handoff(portfolio)
        if current.node_id is None:
            raise Refused(
                "already_stopped",
                f"{name} runs nowhere ({current.phase}); start it instead of reloading it.",
            )
        number = portfolio.revision if revision is None else revision
        found = portfolio.revisions.filter(number=number).first()
        if found is None:
            raise NotFound(f"revision of {name}", f"r{number}")
        if found.status == RevisionStatus.REJECTED:
            found.status = RevisionStatus.UNPROVEN
            found.save(update_fields=["status"])
        if portfolio.revision != number:
            portfolio.revision = number
            portfolio.save(update_fields=["revision"])
        row = run(
            request(
                "reload",
                portfolio.pk,
                target=current.node_id,
                to_revision=number,
                actor=actor,
                reason=reason,
                timing=timing(),
            )
        )
    return Handoff.objects.get(pk=row.id)


def start(name: str, *, actor: str, reason: str = "") -> Handoff | None:
    """Want it running; lifts halted and quarantined. None: pending, since no node has room now."""
    with transaction.atomic():
        portfolio = _locked(name)
        row = run(lock_run(portfolio.pk))
        assert row is not None
        if portfolio.desired_state == DesiredState.RUNNING and row.phase not in (
            Phase.HALTED,
            Phase.QUARANTINED,
        ):
            raise Refused("already_running", f"{name} is already {row.phase}.")
        portfolio.desired_state = DesiredState.RUNNING
        portfolio.save(update_fields=["desired_state"])
        run(one(LIFT, portfolio=portfolio.pk))
        run(_told("portfolio_started", portfolio.pk, actor, reason))
    observed = observe(timing())
    chosen = choose_target(observed.snapshot, name)
    if isinstance(chosen, Reason):
        run(one(SAY_PENDING, portfolio=portfolio.pk, reason=render(chosen)))
        return None
    node = next(view.id for view in observed.snapshot.nodes if view.name == chosen.node)
    try:
        row = run(
            request(
                "place",
                portfolio.pk,
                target=node,
                to_revision=observed.rows[portfolio.pk].revision,
                actor=actor,
                reason=reason,
                timing=timing(),
            )
        )
    except Refused:
        # The woken pass was faster, or the node went away: it is pending and will be placed.
        return Handoff.objects.filter(portfolio=portfolio, state__in=ACTIVE_STATES).first()
    return Handoff.objects.get(pk=row.id)


def stop(name: str, *, actor: str, reason: str = "") -> Handoff:
    """Drain it and own it nowhere."""
    with transaction.atomic():
        portfolio = _locked(name)
        current = Run.objects.get(pk=portfolio.pk)
        if portfolio.desired_state == DesiredState.STOPPED:
            raise Refused(
                "already_stopped",
                f"{name} is already {'stopped' if current.node_id is None else 'stopping'}.",
            )
        portfolio.desired_state = DesiredState.STOPPED
        portfolio.save(update_fields=["desired_state"])
        row = run(_stop(portfolio.pk, actor, reason))
        run(_told("portfolio_stopped", portfolio.pk, actor, reason))
    return Handoff.objects.get(pk=row.id)


def unpin(name: str, *, actor: str) -> Portfolio:
    """Let the balancer move it again."""
    portfolio = _present(name)
    if Run.objects.filter(pk=portfolio.pk, pinned_node__isnull=False).update(pinned_node=None):
        run(_told("unpinned", portfolio.pk, actor, ""))
    return portfolio


# --- nodes ---------------------------------------------------------------------------------------


def drain(node: str, *, actor: str, reason: str = "") -> Node:
    """Place nothing new on the node and hand off what it has. Idempotent."""
    return _mark(node, "node_draining", actor, reason, draining=True, drain_reason=reason[:200],
                 drain_actor=actor[:150])  # fmt: skip


def undrain(node: str, *, actor: str) -> Node:
    """End a drain. Idempotent."""
    return _mark(node, "node_undrained", actor, "", draining=False, drain_reason="", drain_actor="")


def cordon(node: str, *, actor: str, reason: str = "") -> Node:
    """Place nothing new on the node; what runs there stays. Idempotent."""
    return _mark(node, "node_cordoned", actor, reason, cordoned=True)


def uncordon(node: str, *, actor: str) -> Node:
    """Lift a cordon. Idempotent."""
    return _mark(node, "node_uncordoned", actor, "", cordoned=False)


def _mark(name: str, kind: str, actor: str, reason: str, **values: Any) -> Node:
    with transaction.atomic():
        node = Node.objects.select_for_update(no_key=True).filter(name=name).first()
        if node is None:
            raise NotFound("node", name)
        flag = "cordoned" if "cordoned" in values else "draining"
        if getattr(node, flag) == values[flag]:
            return node
        for key, value in values.items():
            setattr(node, key, value)
        node.save(update_fields=list(values))
        run(audit(kind, node=node.pk, actor=actor, reason=reason))
        run(touch([node.pk]))
    node.refresh_from_db()
    return node


# --- the fleet -----------------------------------------------------------------------------------


def freeze(*, actor: str, reason: str = "", failover: bool = False) -> None:
    """No automatic move of anything; failover too where `failover`. Idempotent."""
    with transaction.atomic():
        Control.objects.update_or_create(
            pk=1,
            defaults={
                "frozen_at": timezone.now(),
                "frozen_by": actor[:150],
                "frozen_reason": reason[:200],
                "freeze_failover": failover,
            },
        )
        run(audit("frozen", actor=actor, reason=reason, failover=failover))
        run(touch(Node.objects.values_list("pk", flat=True)))


def unfreeze(*, actor: str) -> None:
    """Lift the freeze. Idempotent."""
    with transaction.atomic():
        lifted = Control.objects.filter(pk=1, frozen_at__isnull=False).update(
            frozen_at=None, frozen_by="", frozen_reason="", freeze_failover=False
        )
        if lifted:
            run(audit("unfrozen", actor=actor))
            run(touch(Node.objects.values_list("pk", flat=True)))


def run_feed(rate: float, *, actor: str) -> None:
    """Let the feed run at `rate` events a second from now on; 0 pauses it. Idempotent.

    Raises `FeedDiffers` where the installed data is not the log that was traded on.
    """
    with transaction.atomic():
        before = FeedSegment.objects.order_by("-id").first()
        feed = ensure_feed(rate)
        latest = feed.segments.latest("id")
        if latest == before:
            return
        run(audit("feed_rate", actor=actor, rate=rate, from_seq=latest.from_seq))
        # Nodes count the head from the segments: they must hear of this one.
        run(touch(Node.objects.values_list("pk", flat=True)))


# --- the parts -----------------------------------------------------------------------------------

PIN = """
UPDATE scheduling_run SET pinned_node_id = %(node)s WHERE portfolio_id = %(portfolio)s
RETURNING portfolio_id
"""

#: Only what nobody owns: a grant that was faster keeps its phase.
LIFT = """
UPDATE scheduling_run SET phase = 'pending', phase_since = clock_timestamp(), attempts = 0,
    failures_by_node = '{}', reason = 'waits for the next pass'
WHERE portfolio_id = %(portfolio)s AND node_id IS NULL
RETURNING portfolio_id
"""

SAY_PENDING = """
UPDATE scheduling_run SET reason = %(reason)s::text
WHERE portfolio_id = %(portfolio)s AND node_id IS NULL AND phase = 'pending'
RETURNING portfolio_id
"""


def _present(name: str) -> Portfolio:
    found = Portfolio.objects.present().filter(name=name).first()
    if found is None:
        raise NotFound("portfolio", name)
    return found


def _locked(name: str) -> Portfolio:
    """Lock the portfolio's row against another person's change; commits only read its key."""
    found = Portfolio.objects.present().select_for_update(no_key=True).filter(name=name).first()
    if found is None:
        raise NotFound("portfolio", name)
    return found


def _add_revision(
    portfolio: Portfolio,
    number: int,
    strategy: str,
    config: Mapping[str, Any],
    symbols: list[str],
    limits: Mapping[str, Any],
    *,
    note: str,
    actor: str,
) -> Revision:
    return Revision.objects.create(
        portfolio=portfolio,
        number=number,
        strategy=strategy,
        strategy_version=registry.get(strategy).version,
        config=dict(config),
        symbols=list(symbols),
        limits=dict(limits),
        note=str(note)[:200],
        created_by=actor[:150],
    )


def _told(kind: str, portfolio: int, actor: str, reason: str, **data: Any) -> Recipe[None]:
    yield from audit(kind, portfolio=portfolio, actor=actor, reason=reason, **data)
    yield from wake()


def _stop(portfolio: int, actor: str, reason: str) -> Recipe[Row]:
    """Begin a stop, or end it at once where nobody reachable owns the run."""
    yield from lock_run(portfolio)
    active = yield from one(ACTIVE_HANDOFF, portfolio=portfolio)
    if active is not None and active.kind == "stop":
        return active
    row = yield from request(
        "stop", portfolio, target=None, actor=actor, reason=reason, timing=timing()
    )
    owner = yield from lock_run(portfolio)
    handoff = yield from one(LOCK_HANDOFF, handoff=row.id)
    assert owner is not None and handoff is not None
    reachable = handoff.source_valid and handoff.source_lease == handoff.source_incarnation
    if owner.node_id is None or not reachable:
        yield from end_run(handoff, owner, released=False, batch=None, reason=reason)
    return row


def _reload_if_running(portfolio: Portfolio, actor: str, reason: str) -> Handoff | None:
    """Begin the reload of a revision that was just made; the sweep does it where this cannot."""
    current = Run.objects.select_related("node").get(pk=portfolio.pk)
    if current.node_id is None or portfolio.desired_state != DesiredState.RUNNING:
        return None
    try:
        row = run(
            request(
                "reload",
                portfolio.pk,
                target=current.node_id,
                to_revision=portfolio.revision,
                actor=actor,
                reason=reason,
                timing=timing(),
            )
        )
    except Refused:
        return None
    return Handoff.objects.get(pk=row.id)


def _chosen(snapshot: Any, name: str, target: str | None) -> int:
    """Return the id of the node to move to, or refuse with the reason."""
    ids = {view.name: view.id for view in snapshot.nodes}
    if target is None:
        chosen = choose_target(snapshot, name)
        if isinstance(chosen, Reason):
            raise Refused("no_room", f"{name} {render(chosen)}.")
        return ids[chosen.node]
    for answer in targets(snapshot, name):
        if answer.node == target:
            if not answer.feasible:
                raise Refused(
                    answer.code or "no_room",
                    f"{name} cannot move to {target}: {answer.sentence}.",
                )
            return ids[target]
    raise Refused("node_lost", f"{name} cannot move to {target}: its daemon never registered.")


def _refuse_unowned(portfolio: Portfolio, current: Run) -> None:
    if portfolio.desired_state == DesiredState.STOPPED or current.phase in (
        Phase.HALTED,
        Phase.QUARANTINED,
    ):
        raise Refused(
            "already_stopped", f"{portfolio.name} is {current.phase}; start it before moving it."
        )


def _refuse_in_handoff(portfolio: Portfolio) -> None:
    active = Handoff.objects.filter(portfolio=portfolio, state__in=ACTIVE_STATES).first()
    if active is not None:
        raise Refused(
            "handoff_in_progress",
            f"{portfolio.name} is already in handoff {active.pk} ({active.kind}, {active.state}); "
            "wait until it has ended.",
            handoff=active.pk,
        )


def _refuse_held_symbols(portfolio: Portfolio, symbols: list[str]) -> None:
    """A symbol with a position or an open order cannot be removed."""
    checkpoint = getattr(portfolio, "checkpoint", None)
    if checkpoint is None or not symbols or "*" in symbols:
        return
    account = decode_state(bytes(checkpoint.state)).account
    held = set(account.positions) | {order.symbol for order in account.open_orders}
    lacking = sorted(held - set(symbols))
    if lacking:
        raise Refused(
            "symbol_in_use",
            f"{portfolio.name} holds or has ordered {', '.join(lacking)}; "
            "keep these symbols until their positions are closed.",
            symbols=lacking,
        )


def _choice(field_name: str, value: Any, choices: list[str]) -> dict[str, str]:
    return definition.error(
        field_name,
        "unknown_choice",
        f"{field_name} is {value!r}; choose from {', '.join(choices)}.",
    )


def _wish_errors(wishes: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what is wrong with weight, priority, selector, spread group and catch_up."""
    errors: list[dict[str, str]] = []
    for name, least in (("weight", 1), ("priority", -1_000_000)):
        value = wishes.get(name, least)
        if not isinstance(value, int) or isinstance(value, bool):
            errors.append(
                definition.error(name, "wrong_type", f"{name} is {value!r}; give a whole number.")
            )
        elif not least <= value <= 1_000_000:
            errors.append(
                definition.error(
                    name, "out_of_range", f"{name} is {value}; it must be {least:,} to 1,000,000."
                )
            )
    selector = wishes.get("selector", {})
    if not isinstance(selector, Mapping) or not all(
        isinstance(k, str) and isinstance(v, str) for k, v in selector.items()
    ):
        errors.append(
            definition.error(
                "selector", "wrong_type", "selector is an object of texts: label, value."
            )
        )
    group = wishes.get("spread_group", "")
    if not isinstance(group, str) or len(group) > 80:
        errors.append(
            definition.error("spread_group", "wrong_type", "spread_group is a text of 80 at most.")
        )
    if not isinstance(wishes.get("spread_hard", False), bool):
        errors.append(
            definition.error("spread_hard", "wrong_type", "spread_hard is true or false.")
        )
    catch_up = wishes.get("catch_up", CatchUp.STATE_ONLY)
    if catch_up not in CatchUp.values:
        errors.append(_choice("catch_up", catch_up, CatchUp.values))
    return errors
