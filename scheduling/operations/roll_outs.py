"""Roll an artifact out over portfolios, stop a roll-out, take it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import F
from psycopg import IntegrityError

from portfolios import validation
from portfolios.models import Artifact, Revision, RevisionStatus
from portfolios.sentences import abbreviate
from portfolios.sentences import sentence as _
from portfolios.text import text_errors
from scheduling.db.transaction import execute
from scheduling.enact import roll_out as enact
from scheduling.errors import Invalid, NotFound, Refused
from scheduling.observe.roll_outs import RollOutView, read_roll_out
from scheduling.operations.artifacts import resolve_artifact

#: Each step of a roll-out reads all of its items, hence the limit.
MAX_PORTFOLIOS = 1000
MAX_AT_A_TIME = 50
MAX_CANARY_S = 86_400
MAX_ERRORS = 100  #: of one answer


@dataclass(frozen=True, slots=True)
class NewRollOut:
    """The fields of a new roll-out, unchecked."""

    artifact: str  #: sha256 or its beginning
    #: Names; None: all portfolios that run another version of the artifact.
    portfolios: Sequence[str] | None = None
    strategy: str = ""  #: of these, only those that run this strategy
    at_a_time: int = 1
    canary: str = ""  #: empty: one that runs and is proven
    canary_seconds: float | None = None  #: None: until its revision is good


def roll_out(new: NewRollOut, *, actor: str, reason: str = "") -> RollOutView:
    """Create and return a roll-out, and wake the watcher, whose next pass starts the canary.

    Raise Invalid for a wrong field, or if the configuration of a portfolio does not fit the
    artifact; NotFound for an unknown portfolio; Refused if no portfolio would change, another
    roll-out has one of them, or the artifact is gone. Nothing has changed then.
    """
    errors = _field_errors(new, reason)
    sha256, wrong = resolve_artifact(new.artifact)
    if errors or wrong:
        raise Invalid([*errors, *wrong])
    artifact = Artifact.objects.get(sha256=sha256)
    wanted = _revisions_to_replace(new, artifact)
    _refuse_unfit(wanted, artifact)
    order = _order(wanted, new.canary)
    number = execute(
        enact.create(
            artifact.sha256,
            [(revision.portfolio_id, revision.number) for revision in order],
            at_a_time=new.at_a_time,
            canary_s=new.canary_seconds,
            note=reason,
            actor=actor,
        )
    )
    return read_roll_out(number)


def stop_roll_out(number: int, *, actor: str, reason: str = "") -> RollOutView:
    """Let the roll-out start no further portfolio; changes that have begun go on.

    Return the roll-out. Raise NotFound, or Refused if it is over.
    """
    execute(enact.stop(number, actor=actor, reason=reason))
    return read_roll_out(number)


def return_roll_out(number: int, *, actor: str, reason: str = "") -> RollOutView:
    """Begin the way back: portfolios that the roll-out changed want their earlier revision again.

    One that an operator has changed since is left as it is. Return the roll-out. Raise NotFound, or
    Refused if it has changed none, is going back already, or another roll-out has one of them.
    """
    try:
        execute(enact.begin_way_back(number, actor=actor, reason=reason))
    except IntegrityError:
        # concurrent writer: another roll-out took one of the portfolios after they were checked.
        # It has committed, so that the same check refuses now.
        execute(enact.begin_way_back(number, actor=actor, reason=reason))
    return read_roll_out(number)


def _field_errors(new: NewRollOut, reason: str) -> list[dict[str, str]]:
    errors = text_errors("reason", reason, longest=200)
    if not 1 <= new.at_a_time <= MAX_AT_A_TIME:
        message = _(
            "at_a_time is {at_a_time}; it must be 1 to {max_at_a_time}.",
            at_a_time=new.at_a_time,
            max_at_a_time=MAX_AT_A_TIME,
        )
        errors.append(validation.error("at_a_time", "out_of_range", message))
    if new.canary_seconds is not None and not 0 <= new.canary_seconds <= MAX_CANARY_S:
        message = _(
            "canary_seconds is {canary_seconds:g}; it must be 0 to {max_canary_s:,}.",
            canary_seconds=new.canary_seconds,
            max_canary_s=MAX_CANARY_S,
        )
        errors.append(validation.error("canary_seconds", "out_of_range", message))
    if new.portfolios is not None and new.strategy:
        message = _("Give portfolios by name or a strategy, not both.")
        errors.append(validation.error("strategy", "exclusive", message))
    return errors


def _revisions_to_replace(new: NewRollOut, artifact: Artifact) -> list[Revision]:
    """Return the wanted revisions, by portfolio name, that the roll-out would replace.

    These are the ones of the chosen portfolios that name another artifact or none, or that were
    rejected. Raise NotFound, Invalid for too many, Refused for none.
    """
    found = Revision.objects.filter(
        portfolio__archived_at=None, number=F("portfolio__revision")
    ).select_related("portfolio__run", "portfolio__feed")
    strategies = set(artifact.strategies.values_list("name", flat=True))
    if new.portfolios is not None:
        names = list(dict.fromkeys(new.portfolios))
        if len(names) > MAX_PORTFOLIOS:
            raise Invalid([_too_many(len(names))])
        found = found.filter(portfolio__name__in=names)
        missing = set(names) - {revision.portfolio.name for revision in found}
        if missing:
            raise NotFound("portfolio", min(missing))
    else:
        found = found.filter(artifact__name=artifact.name, strategy__in=strategies)
        if new.strategy:
            found = found.filter(strategy=new.strategy)
    # A rejected revision with the same bytes is tried again.
    chosen = [
        revision
        for revision in found.order_by("portfolio__name")
        if revision.artifact_id != artifact.pk or revision.status == RevisionStatus.REJECTED
    ]
    if len(chosen) > MAX_PORTFOLIOS:
        raise Invalid([_too_many(len(chosen))])
    if not chosen:
        names = [revision.portfolio.name for revision in found]
        raise Refused("nothing_to_roll_out", _why_nothing_changes(new, artifact, names))
    return chosen


def _too_many(count: int) -> dict[str, str]:
    """Return the error for more than MAX_PORTFOLIOS portfolios."""
    message = _(
        "These are {count:,} portfolios; one roll-out takes {max_portfolios:,}. Give "
        "the names of some of them.",
        count=count,
        max_portfolios=MAX_PORTFOLIOS,
    )
    return validation.error("portfolios", "wrong_length", message)


def _why_nothing_changes(new: NewRollOut, artifact: Artifact, names: list[str]) -> str:
    """Return why a roll-out over the portfolios of these names would change none, as a sentence."""
    if len(names) == 1:
        return _("{name} wants {artifact} already.", name=names[0], artifact=artifact)
    if names:
        return _(
            "All {number} portfolios want {artifact} already.", number=len(names), artifact=artifact
        )
    strategy = _("strategy {name}", name=new.strategy) if new.strategy else _("a strategy")
    return _(
        "No portfolio runs {strategy} of another version of {artifact}; give the names of those "
        "that should run it.",
        strategy=strategy,
        artifact=artifact.name,
    )


def _refuse_unfit(wanted: Sequence[Revision], artifact: Artifact) -> None:
    """Raise Invalid with the first error of each portfolio that cannot run the artifact."""
    errors = []
    for revision in wanted:
        found = validation.configuration_errors(
            revision.strategy, revision.config, revision.symbols, revision.limits,
            artifact=artifact.pk, feed=revision.portfolio.feed.name,
        )  # fmt: skip
        if found:
            name = revision.portfolio.name
            field, code, message = (found[0][key] for key in ("field", "code", "message"))
            message = _(
                "{name} does not fit {artifact}: {field}: {message}",
                name=name,
                artifact=artifact,
                field=field,
                message=message,
            )
            errors.append(validation.error("portfolios", code, message))
    if errors:
        raise Invalid(errors[:MAX_ERRORS])


def _order(wanted: list[Revision], canary: str) -> list[Revision]:
    """Return the revisions in the order in which their portfolios change: first that of `canary`.

    If `canary` is empty, the most suitable portfolio is first. Raise Refused if `canary` has none
    of the revisions.
    """

    def rank(revision: Revision) -> tuple[bool, Any, str]:
        name, run = revision.portfolio.name, revision.portfolio.run
        # Preferred as canary: one that runs a good revision, so that it can prove the artifact at
        # once; of these the lightest.
        is_ready = run.phase == "running" and run.good_revision is not None
        return (not is_ready, revision.portfolio.weight, name)

    by_name = {revision.portfolio.name: revision for revision in wanted}
    if canary and canary not in by_name:
        message = _(
            "The canary {canary} is not among the {number} portfolios of the roll-out: "
            "{names}; choose one of them.",
            canary=canary,
            number=len(by_name),
            names=abbreviate(sorted(by_name)),
        )
        raise Refused("unknown_canary", message)
    first = by_name[canary] if canary else min(wanted, key=rank)
    return [first, *(revision for revision in wanted if revision is not first)]
