"""Create, change and delete portfolios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F

from portfolios import validation
from portfolios.feed_registration import current_head, ensure_feed
from portfolios.feeds import feed_names
from portfolios.models import DesiredState, FeedKind, FeedRow, Portfolio, Revision
from portfolios.sentences import abbreviate
from portfolios.sentences import sentence as _
from portfolios.strategy_inspection import facts
from portfolios.text import quoted, text_errors
from scheduling.db.transaction import Transaction, execute
from scheduling.enact import pin
from scheduling.enact.audit_log import Line, audit_all
from scheduling.enact.desired_state import archive
from scheduling.enact.grant import lock_run
from scheduling.enact.handoff import symbols_lost, symbols_refusal
from scheduling.enact.notify import bump_desired_versions, notify_watchers
from scheduling.enact.portfolio_edits import edit_portfolio
from scheduling.errors import Invalid, NotFound, Refused
from scheduling.models import Handoff, Node, Phase, Run
from scheduling.operations.artifacts import hold_artifact, resolve_artifact
from scheduling.operations.edits import (
    CONFIGURATION,
    PLACEMENT,
    EditBase,
    changed_meanwhile,
    configuration_of,
)
from scheduling.operations.lookup import existing, locked_portfolio, record_request
from scheduling.operations.moves import begin_handoff, refuse_if_node_lacks, stop_run
from scheduling.operations.placement_fields import placement_errors, unknown_choice


@dataclass(frozen=True, slots=True)
class NewPortfolio:
    """The fields of a new portfolio, unchecked."""

    name: str
    strategy: str
    config: dict[str, Any] = field(default_factory=dict)
    symbols: list[str] = field(default_factory=list)
    limits: dict[str, Any] = field(default_factory=dict)
    artifact: str | None = None  #: sha256 or its beginning; None: a strategy of the release
    feed: str = ""  #: its name; empty: the packaged bars
    weight: int = 1
    priority: int = 0
    selector: dict[str, str] = field(default_factory=dict)
    spread_group: str = ""
    spread_hard: bool = False
    catch_up: str = "state_only"
    starting_cash: Decimal = Decimal("100000")
    desired_state: str = "running"
    pinned_node: str = ""  #: it runs on this node until it is unpinned; empty: the balancer chooses
    note: str = ""


def create_portfolio(new: NewPortfolio, *, actor: str) -> Portfolio:
    """Create a portfolio with revision 1. It is pending until the next pass, which is woken.

    Raise Invalid, or Refused if the name is taken.
    """
    checked, errors = _checked(new)
    if errors:
        raise Invalid(errors)
    return _create([checked], actor)[0]


#: Portfolios of one call, which then holds its transaction for about a second.
MAX_AT_ONCE = 1000


def create_portfolios(
    new: Sequence[NewPortfolio], *, actor: str, prefixes: Sequence[str] = ()
) -> list[Portfolio]:
    """Create all of these portfolios, at most MAX_AT_ONCE, in one transaction, or none.

    An error names its field after the portfolio's entry in `prefixes`, by default its position
    from 0: `3.name`. Seven statements in all. Raise Invalid, or Refused if names are taken.
    """
    check_length(new)
    checked, errors = [], []
    prefixes = prefixes or [str(position) for position in range(len(new))]
    for prefix, one in zip(prefixes, new, strict=True):
        resolved, wrong = _checked(one)
        checked.append(resolved)
        errors += [{**error, "field": f"{prefix}.{error['field']}"} for error in wrong]
    first_with_name: dict[str, str] = {}
    for prefix, one in zip(prefixes, new, strict=True):
        if (other := first_with_name.setdefault(one.name, prefix)) != prefix:
            message = _("{other}.name is {name} too.", other=other, name=one.name)
            errors.append(validation.error(f"{prefix}.name", "twice", message))
    if errors:
        raise Invalid(errors[:MAX_ERRORS])
    return _create(checked, actor)


def check_length(new: Sequence[Any]) -> None:
    """Raise Invalid for an empty list or one of more than MAX_AT_ONCE portfolios."""
    if not 1 <= len(new) <= MAX_AT_ONCE:
        message = _(
            "The list has {number:,} portfolios; 1 to {max_at_once:,} are allowed.",
            number=len(new),
            max_at_once=MAX_AT_ONCE,
        )
        raise Invalid([validation.error("", "wrong_length", message)])


#: Errors of one answer: a mistake made in every portfolio of a list would fill a thousand.
MAX_ERRORS = 100


def check_new(new: NewPortfolio) -> NewPortfolio:
    """Return the portfolio as it would be created. Raise Invalid if its creation would fail."""
    checked, errors = _checked(new)
    if Portfolio.objects.present().filter(name=new.name).exists():
        errors.append(validation.error("name", "name_taken", _name_taken([new]).message))
    if errors:
        raise Invalid(errors)
    return checked


def _checked(new: NewPortfolio) -> tuple[NewPortfolio, list[dict[str, str]]]:
    """Return the new portfolio with the complete hash of its artifact, and its errors."""
    artifact, errors = resolve_artifact(new.artifact)
    new = replace(new, artifact=artifact)
    feed_errors = validation.feed_errors(new.feed)
    if not errors:  # else nothing is known of its strategy
        errors += validation.configuration_errors(
            new.strategy,
            new.config,
            new.symbols,
            new.limits,
            artifact,
            None if feed_errors else (new.feed or None),
        )
        errors += validation.missing_symbols_errors(new.strategy, new.symbols, artifact)
    if feed_errors:  # of the symbols of an unknown feed nothing is known
        errors = [each for each in errors if each["code"] != "unknown_symbol"]
    errors += feed_errors
    errors += validation.name_errors(new.name)
    errors += validation.cash_errors(new.starting_cash)
    errors += placement_errors({name: getattr(new, name) for name in PLACEMENT})
    errors += text_errors("note", new.note, longest=200)
    if new.pinned_node and not Node.objects.filter(name=new.pinned_node).exists():
        message = _("There is no node named {pinned_node}.", pinned_node=quoted(new.pinned_node))
        errors.append(validation.error("pinned_node", "unknown_node", message))
    if new.desired_state not in DesiredState.values:
        errors.append(unknown_choice("desired_state", new.desired_state, DesiredState.values))
    return new, errors


def _create(new: Sequence[NewPortfolio], actor: str) -> list[Portfolio]:
    """Store checked portfolios with their first revisions and their runs, and return them.

    Raise Refused if a name is taken or an artifact is gone, NotFound for a feed that is gone.
    """
    # Not for a replay that exists: `ensure_feed` sets the rate, which would end a pause.
    packaged = FeedRow.objects.filter(kind=FeedKind.REPLAY).first() or ensure_feed(
        settings.GINKGO.feed_rate
    )
    try:
        with transaction.atomic():
            feeds = {"": packaged, **_lock_feeds({one.feed for one in new if one.feed})}
            first_seqs = {name: max(current_head(row.name), 1) for name, row in feeds.items()}
            for artifact in sorted({one.artifact for one in new if one.artifact}):
                hold_artifact(artifact)
            created = Portfolio.objects.bulk_create(
                [
                    Portfolio(
                        name=one.name,
                        weight=one.weight,
                        priority=one.priority,
                        selector=dict(one.selector),
                        spread_group=one.spread_group,
                        spread_hard=one.spread_hard,
                        catch_up=one.catch_up,
                        desired_state=one.desired_state,
                        starting_cash=Decimal(str(one.starting_cash)),
                        feed=feeds[one.feed],
                        first_seq=first_seqs[one.feed],
                    )
                    for one in new
                ]
            )
            pairs = list(zip(created, new, strict=True))
            Revision.objects.bulk_create(
                [
                    _new_revision(portfolio, 1, one.strategy, one.config, one.symbols, one.limits,
                              one.artifact, note=one.note, actor=actor)
                    for portfolio, one in pairs
                ]
            )  # fmt: skip
            Run.objects.bulk_create(map(_new_run, created))
            lines = [Line(made.pk, None, one.note, {"revision": 1}) for made, one in pairs]
            execute(_record_created(lines, actor))
            _pin(pairs, actor)
    except IntegrityError as error:
        # concurrent writer: another creation of the same name; the unique index decides.
        if "portfolio_name_once" in str(error):
            raise _name_taken(new) from None
        raise
    return created


def _pin(pairs: Sequence[tuple[Portfolio, NewPortfolio]], actor: str) -> None:
    """Pin new portfolios whose nodes were chosen. No other transaction sees their runs yet."""
    wanted = {one.pinned_node for _, one in pairs} - {""}
    if not wanted:
        return
    nodes = dict(Node.objects.filter(name__in=wanted).values_list("name", "pk"))
    for portfolio, one in pairs:
        if one.pinned_node:
            execute(pin.pin(portfolio.pk, nodes[one.pinned_node], actor=actor, reason=one.note))


def _lock_feeds(names: set[str]) -> dict[str, FeedRow]:
    """Return the feeds by name, locked until the transaction ends. Raise NotFound.

    A packaged feed that has no row yet gets one.

    Concurrent writer: the removal of a feed. It waits for this lock, and then fails because of the
    new portfolio.
    """
    if not names:
        return {}
    rows = FeedRow.objects.filter(name__in=names).select_for_update(no_key=True).order_by("pk")
    found = {row.name: row for row in rows}
    for name in sorted(names - set(found)):
        if name not in feed_names():
            raise NotFound("feed", name)
        found[name] = ensure_feed(settings.GINKGO.feed_rate, name)
    return found


def _new_run(portfolio: Portfolio) -> Run:
    """Return the first run of a portfolio, not stored yet: pending, or stopped if so wanted."""
    is_wanted = portfolio.desired_state == DesiredState.RUNNING
    return Run(
        portfolio=portfolio,
        last_seq=portfolio.first_seq - 1,
        state_seq=portfolio.first_seq - 1,
        phase=Phase.PENDING if is_wanted else Phase.STOPPED,
        reason="waits for the next pass" if is_wanted else "",
    )


def _record_created(lines: list[Line], actor: str) -> Transaction[None]:
    yield from audit_all("portfolio_created", lines, actor=actor)
    yield from notify_watchers()


def _name_taken(new: Sequence[NewPortfolio]) -> Refused:
    """Return the refusal of new portfolios of which some have names that are taken."""
    names = [one.name for one in new]
    taken = sorted(
        Portfolio.objects.present().filter(name__in=names).values_list("name", flat=True)
    )
    if len(names) == 1 or not taken:
        return Refused(
            "name_taken",
            _("A portfolio named {name} already exists; choose another name.", name=names[0]),
        )
    message = _(
        "Nothing was created: portfolios named {names} already exist. Choose other names.",
        names=abbreviate(taken),
    )
    return Refused("name_taken", message, names=taken[:MAX_ERRORS])


def revise_portfolio(
    name: str, changes: dict[str, Any], *, actor: str, base: EditBase | None = None
) -> tuple[Portfolio, Handoff | None]:
    """Apply `changes`: fields of CONFIGURATION and PLACEMENT, and `note`, with their new values.

    With `base`, raise Refused `changed_meanwhile`, which names who changed what, if the portfolio
    is no longer as it was at `base`.

    A change of strategy, artifact, config, symbols or limits makes a new revision, and begins a
    reload if the portfolio runs. `artifact` is a hash or its beginning, or None for a strategy of
    the release; the parameters must fit the schema of its strategy.

    Return the portfolio and the reload's handoff, or None if there is none.
    """
    known = (*CONFIGURATION, *PLACEMENT, "note")
    errors = [
        validation.error(
            key,
            "not_changeable",
            _("{key} cannot be changed. These can: {known}.", key=key, known=known),
        )
        for key in changes
        if key not in known
    ]
    if errors:
        raise Invalid(errors)
    if "artifact" in changes:
        artifact, errors = resolve_artifact(changes["artifact"])
        if errors:
            raise Invalid(errors)
        changes = {**changes, "artifact": artifact}
    _check_before_locks(name, changes)
    with transaction.atomic():
        portfolio = locked_portfolio(name)
        current = portfolio.revisions.get(number=portfolio.revision)
        before = configuration_of(current)
        wanted = {key: changes.get(key, before[key]) for key in CONFIGURATION}
        placement = {key: changes[key] for key in PLACEMENT if key in changes}
        revised = wanted != before
        number = portfolio.revisions.latest("number").number + 1 if revised else portfolio.revision
        errors = placement_errors(placement)
        # Before the configuration is checked, which another operator's change may have made wrong.
        seen = base or EditBase.of(portfolio)
        if not errors and not execute(
            edit_portfolio(
                portfolio.pk,
                number,
                placement,
                seen_portfolio=seen.portfolio,
                seen_revision=seen.revision,
                seen_placement=seen.placement,
            )
        ):
            raise changed_meanwhile(portfolio, current, seen)
        errors += validation.configuration_errors(**wanted, feed=portfolio.feed.name)
        if errors:
            raise Invalid(errors)
        if revised and wanted["artifact"] is not None:
            hold_artifact(wanted["artifact"])
        # Lock the run: no commit may come between reading its symbols and the new revision.
        run = execute(lock_run(portfolio.pk))
        assert run is not None, "every portfolio has a run"
        symbols = execute(symbols_lost(run, wanted["symbols"])) if revised else []
        if symbols:
            raise symbols_refusal(name, symbols, "the new revision")
        for key, value in placement.items():
            setattr(portfolio, key, value)
        if revised:
            portfolio.revision = number
            note = changes.get("note", "")
            Revision.objects.bulk_create(
                [_new_revision(portfolio, number, **wanted, note=note, actor=actor)]
            )
        if placement:
            # The node's desired set holds these fields. The run is locked, since a grant under
            # way would leave the new owner with the old values.
            execute(bump_desired_versions([run.node_id]))
        if revised or placement:
            execute(
                record_request(
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


def check_change(name: str, wanted: Mapping[str, Any]) -> None:
    """Raise Invalid if `wanted`, all editable values of the portfolio, could not be stored.

    Raise NotFound for an unknown portfolio. Nothing is changed.
    """
    present = Portfolio.objects.present().select_related("feed").filter(name=name)
    portfolio = existing("portfolio", name, present)
    configuration = {key: wanted[key] for key in CONFIGURATION}
    errors = validation.configuration_errors(**configuration, feed=portfolio.feed.name)
    errors += placement_errors({key: wanted[key] for key in PLACEMENT})
    if errors:
        raise Invalid(errors)


def _check_before_locks(name: str, changes: Mapping[str, Any]) -> None:
    """Let the strategy check the changes before any row is locked, since that may take seconds.

    The answer is cached and used again under the lock. If a concurrent writer changed the
    configuration in between, the strategy is asked again. Raise Invalid only if the check itself
    failed; other errors are raised under the lock.
    """
    current = Revision.objects.filter(
        portfolio__name=name, portfolio__archived_at=None, number=F("portfolio__revision")
    ).first()
    if current is None:
        return
    before = configuration_of(current)
    wanted = {key: changes.get(key, before[key]) for key in CONFIGURATION}
    errors = validation.configuration_errors(**wanted, feed=current.portfolio.feed.name)
    if any(error["code"] == "check_failed" for error in errors):
        raise Invalid(errors)


def delete_portfolio(name: str, *, actor: str, reason: str = "") -> Handoff:
    """Archive the portfolio: release it, keep its orders and audit log, free its name.

    Return the handoff that releases it. Raise NotFound.
    """
    with transaction.atomic():
        portfolio = locked_portfolio(name)
        execute(archive(portfolio.pk))
        row = execute(stop_run(portfolio.pk, actor, reason or "deleted"))
        execute(record_request("portfolio_deleted", portfolio.pk, actor, reason))
    return Handoff.objects.get(pk=row.id)


def _new_revision(
    portfolio: Portfolio,
    number: int,
    strategy: str,
    config: Mapping[str, Any],
    symbols: list[str],
    limits: Mapping[str, Any],
    artifact: str | None,
    *,
    note: str,
    actor: str,
) -> Revision:
    return Revision(
        portfolio=portfolio,
        number=number,
        strategy=strategy,
        strategy_version=facts(strategy, artifact).version,
        artifact_id=artifact,
        config=dict(config),
        symbols=list(symbols),
        limits=dict(limits),
        note=str(note)[:200],
        created_by=actor[:150],
    )


def _reload_if_running(portfolio: Portfolio, actor: str, reason: str) -> Handoff | None:
    """Begin the reload of the wanted revision and return its handoff.

    Return None if the portfolio does not run, or if the reload is refused now: then the sweep
    begins it later.
    """
    run = Run.objects.select_related("node").get(pk=portfolio.pk)
    if run.node_id is None or portfolio.desired_state != DesiredState.RUNNING:
        return None
    try:
        wanted = portfolio.revision
        refuse_if_node_lacks(run, portfolio.revisions.get(number=wanted))
        return begin_handoff(
            "reload", portfolio.pk, run.node_id, wanted, actor=actor, reason=reason
        )
    except Refused:
        return None
